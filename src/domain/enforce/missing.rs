//! What one revocation set has and another has not: what a restored service takes back from its gateways. A union of
//! restrictions is always safe, so nobody has to prove more than that it had them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::EnforcementEvent;
use super::set::EnforcementSet;
use crate::domain::announcement::Announcement;
use crate::domain::id::{Ordinal, SubjectId};

/// Subjects in one event: as many as surely fit into a record.
const SUBJECTS_EACH: usize = 1_000;

/// The restrictions of `theirs` that `ours` lacks, as events. Cut-offs reach no further than `last`, the last ordinal that
/// can have been issued: otherwise a gateway could cut off certificates that do not exist yet.
pub fn missing(ours: &EnforcementSet, theirs: &EnforcementSet, last: Ordinal) -> Vec<EnforcementEvent> {
    let mut events = Vec::new();
    let revoked =
        theirs.revoked.iter().filter(|ordinal| *ordinal <= last && !ours.revoked.contains(*ordinal));
    events.extend(revoked.map(EnforcementEvent::CertificateRevoked));
    let held = theirs.held.iter().filter(|ordinal| *ordinal <= last && !ours.held.contains(*ordinal));
    events.extend(held.map(EnforcementEvent::Held));
    let locked = theirs.locked.iter().filter(|lineage| !ours.locked.contains(*lineage));
    events.extend(locked.map(|lineage| EnforcementEvent::LineageLocked(*lineage)));
    let mut subjects: BTreeMap<Ordinal, Vec<SubjectId>> = BTreeMap::new();
    for (subject, cutoff) in &theirs.subjects {
        let cutoff = (*cutoff).min(last);
        if ours.subjects.get(subject).is_none_or(|own| *own < cutoff) {
            subjects.entry(cutoff).or_default().push(*subject);
        }
    }
    for (cutoff, subjects) in subjects {
        let cut =
            |subjects: &[SubjectId]| EnforcementEvent::SubjectsCut { subjects: subjects.to_vec(), cutoff };
        events.extend(subjects.chunks(SUBJECTS_EACH).map(cut));
    }
    for (entity, cutoff) in &theirs.entities {
        let cutoff = (*cutoff).min(last);
        if ours.entities.get(entity).is_none_or(|own| *own < cutoff) {
            events.push(EnforcementEvent::EntityCut { entity: *entity, cutoff });
        }
    }
    for (determination, cutoffs) in &theirs.determinations {
        let revisions = cutoffs.revisions.iter().map(|(revision, cutoff)| (Some(*revision), *cutoff));
        for (annex_revision, cutoff) in std::iter::once((None, cutoffs.all)).chain(revisions) {
            let cutoff = cutoff.min(last);
            let own = ours.determinations.get(determination);
            let own = own.and_then(|own| match annex_revision {
                None => Some(own.all),
                Some(revision) => own.revisions.get(&revision).copied(),
            });
            if own.unwrap_or_default() < cutoff {
                let determination = determination.clone();
                events.push(EnforcementEvent::DeterminationCut { determination, annex_revision, cutoff });
            }
        }
    }
    // Also one that was unblocked again: two officers can say so once more, and nobody can block it half.
    let keys = theirs.keys.iter().filter(|(key, cutoff)| ours.key_cutoff(**key) < **cutoff);
    events.extend(keys.map(|(key, _)| EnforcementEvent::KeyBlocked(*key)));
    let issuers = theirs.issuers.iter().filter(|issuer| !ours.issuers.contains(*issuer));
    events.extend(issuers.map(|issuer| EnforcementEvent::IssuerRevoked(*issuer)));
    let stops = theirs.stops.iter().filter(|scope| !ours.stops.contains(*scope));
    events.extend(stops.map(|scope| EnforcementEvent::Stopped(scope.clone())));
    let announced = theirs
        .announced
        .values()
        .filter(|theirs| ours.announced.get(&theirs.id).is_none_or(|own| theirs.cut_at < own.cut_at));
    events.extend(announced.map(|theirs| {
        let cutoff = theirs.cutoff.min(last);
        EnforcementEvent::RevocationAnnounced(Arc::new(Announcement { cutoff, ..theirs.as_ref().clone() }))
    }));
    let suspended = theirs.suspended.iter().filter(|target| !ours.suspended.contains(*target));
    events.extend(suspended.map(|target| EnforcementEvent::Suspended(*target)));
    events
}
