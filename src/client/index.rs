//! Open connections, by everything that a record can name them by: certificate, lineage, subject, entity and authority.
//!
//! A record is looked up by what it touches, so that cutting one of 10,000 connections costs no more than that one. What
//! is told to close and is not closed yet holds back the acknowledgement of the record that closed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::question::Question;
use crate::domain::announcement::Cut;
use crate::domain::certificate::{AccessFacts, Certificate};
use crate::domain::enforce::{EnforcementEvent, Names};
use crate::domain::id::{AuthorityId, EntityId, LineageId, Ordinal, Seq, SubjectId};
use crate::domain::revocation::{StopScope, SuspensionTarget};

/// The most open connections: a million, ten times what a machine with default limits can have.
const CONNECTIONS_MAX: usize = 1_000_000;

/// What a record can name connections by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A certificate.
    Certificate(Ordinal),
    /// A chain of renewals.
    Lineage(LineageId),
    /// An employment or a workload.
    Subject(SubjectId),
    /// An entity: the holder's, or one that its question passes through.
    Entity(EntityId),
    /// An authority.
    Issuer(AuthorityId),
    /// Every connection that was registered with the question that it was permitted for.
    Asked,
}

/// What must be looked at again after a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// What has one of these keys.
    Keys(Vec<Key>),
    /// Everything.
    All,
}

impl Default for Touched {
    fn default() -> Self {
        Self::Keys(Vec::new())
    }
}

impl Touched {
    /// Adds a key.
    pub fn add(&mut self, key: Key) {
        if let Self::Keys(keys) = self {
            keys.push(key);
        }
    }

    /// Adds what an announcement cuts when its instant comes.
    pub fn add_cut(&mut self, cut: &Cut) {
        match cut {
            Cut::Certificate(ordinal) => self.add(Key::Certificate(*ordinal)),
            Cut::Lineage(lineage) => self.add(Key::Lineage(*lineage)),
            Cut::Subjects(subjects) => subjects.iter().for_each(|subject| self.add(Key::Subject(*subject))),
            Cut::Entity(entity) => self.add(Key::Entity(*entity)),
            Cut::Issuer(authority) => self.add(Key::Issuer(*authority)),
            Cut::Determination(..) => *self = Self::All,
        }
    }

    /// Adds what an event may deny.
    pub fn add_event(&mut self, event: &EnforcementEvent) {
        use EnforcementEvent as Event;
        match event {
            Event::CertificateRevoked(ordinal) | Event::Held(ordinal) => self.add(Key::Certificate(*ordinal)),
            Event::LineageLocked(lineage) => self.add(Key::Lineage(*lineage)),
            Event::SubjectsCut { subjects, cutoff: _ } => {
                subjects.iter().for_each(|subject| self.add(Key::Subject(*subject)));
            }
            Event::EntityCut { entity, cutoff: _ } => self.add(Key::Entity(*entity)),
            // Rare, and of half of all certificates; or of a key, by which nothing is indexed.
            Event::Stopped(StopScope::All)
            | Event::DeterminationCut { .. }
            | Event::RangeRevoked(_)
            | Event::KeyBlocked(_) => {
                *self = Self::All;
            }
            Event::IssuerRevoked(authority) | Event::AuthorityDropped(authority) => {
                self.add(Key::Issuer(*authority));
            }
            Event::Stopped(StopScope::Model(_)) | Event::PolicyAdopted(_) => self.add(Key::Asked),
            Event::Stopped(StopScope::Entity(entity))
            | Event::Suspended(SuspensionTarget::Entity(entity)) => self.add(Key::Entity(*entity)),
            Event::Stopped(StopScope::Subject(subject))
            | Event::Suspended(SuspensionTarget::Subject(subject)) => self.add(Key::Subject(*subject)),
            Event::Stopped(StopScope::Issuer(authority)) => self.add(Key::Issuer(*authority)),
            // What only gives back closes nothing.
            Event::StopReleased(_)
            | Event::Unsuspended(_)
            | Event::HoldReleased(_)
            | Event::KeyUnblocked { .. }
            | Event::CeilingRaised(_)
            | Event::AuthorityListed(_)
            | Event::RevocationPostponed { .. }
            | Event::Drilled(_) => {}
            Event::RevocationAnnounced(announced) => self.add_cut(&announced.cut),
        }
    }
}

/// Whose a connection is, and what it is used for.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) certificate: Arc<Certificate>,
    /// What the decision was about, if the connection or stream serves one question only.
    pub(super) question: Option<Question>,
}

/// Tells the owner of one connection to close it. Once told, for ever.
#[derive(Debug, Default)]
pub(super) struct Signal {
    why: OnceLock<&'static str>,
    told: Notify,
}

impl Signal {
    pub(super) fn why(&self) -> Option<&'static str> {
        self.why.get().copied()
    }

    pub(super) async fn wait(&self) -> &'static str {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // Enabled before the look: what is told in between is not missed.
            told.as_mut().enable();
            if let Some(why) = self.why() {
                return why;
            }
            told.await;
        }
    }

    fn tell(&self, why: &'static str) {
        let _ = self.why.set(why);
        self.told.notify_waiters();
    }
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    own: [Key; 5],
    signal: Arc<Signal>,
    /// The record at which it was told to close.
    told_at: Option<Seq>,
}

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    by_id: BTreeMap<u64, Entry>,
    keys: BTreeSet<(Key, u64)>,
    /// How many were told to close at a record and are still open.
    closing: BTreeMap<Seq, usize>,
    /// Up to which connection the round of upkeep has come.
    swept: u64,
}

/// Every open connection.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Mutex<Entries>,
    is_over: AtomicBool,
    /// Woken when the last connection of a record is closed.
    pub(super) closed: Notify,
    told: AtomicU64,
}

/// There are too many connections, or the gate has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexFull;

const fn own_keys(names: &Names<'_>) -> [Key; 5] {
    [
        Key::Certificate(names.ordinal),
        Key::Lineage(names.lineage),
        Key::Subject(names.subject),
        Key::Entity(names.entity),
        Key::Issuer(names.issuer),
    ]
}

fn keys(own: [Key; 5], question: Option<&Question>) -> impl Iterator<Item = Key> {
    let hops = question.map_or(&[][..], |question| question.chain.hops.as_slice());
    own.into_iter().chain(question.map(|_| Key::Asked)).chain(hops.iter().map(|hop| Key::Entity(*hop)))
}

impl Entries {
    fn tell(&mut self, id: u64, why: &'static str, at: Seq) -> u64 {
        let Some(entry) = self.by_id.get_mut(&id).filter(|entry| entry.told_at.is_none()) else { return 0 };
        entry.told_at = Some(at);
        *self.closing.entry(at).or_default() += 1;
        entry.signal.tell(why);
        1
    }

    fn having(&self, key: Key) -> Vec<u64> {
        self.keys.range((key, 0)..=(key, u64::MAX)).map(|(_, id)| *id).collect()
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection. From here on every record is held against it.
    pub(super) fn enter(&self, holder: Holder, facts: &AccessFacts) -> Result<(u64, Arc<Signal>), IndexFull> {
        let signal = Arc::new(Signal::default());
        let own = own_keys(&Names::of(&holder.certificate, facts));
        let mut entries = self.lock();
        if self.is_over.load(Ordering::Acquire) || entries.by_id.len() >= CONNECTIONS_MAX {
            return Err(IndexFull);
        }
        entries.last_id += 1;
        let id = entries.last_id;
        entries.keys.extend(keys(own, holder.question.as_ref()).map(|key| (key, id)));
        entries.by_id.insert(id, Entry { holder, own, signal: Arc::clone(&signal), told_at: None });
        Ok((id, signal))
    }

    /// The connection is closed.
    pub(super) fn leave(&self, id: u64) {
        let mut entries = self.lock();
        let Some(entry) = entries.by_id.remove(&id) else { return };
        for key in keys(entry.own, entry.holder.question.as_ref()) {
            entries.keys.remove(&(key, id));
        }
        let Some(at) = entry.told_at else { return };
        if let Some(left) = entries.closing.get_mut(&at) {
            *left -= 1;
            if *left == 0 {
                entries.closing.remove(&at);
                self.closed.notify_one();
            }
        }
    }

    /// Looks at what was touched, and tells those to close that `judge` denies.
    pub(super) fn close_denied(
        &self,
        touched: &Touched,
        at: Seq,
        judge: impl Fn(&Holder) -> Option<&'static str>,
    ) {
        let mut entries = self.lock();
        let ids: Vec<u64> = match touched {
            Touched::Keys(keys) => keys.iter().flat_map(|key| entries.having(*key)).collect(),
            Touched::All => entries.by_id.keys().copied().collect(),
        };
        self.close(&mut entries, &ids, at, judge);
    }

    /// Looks at the next `count` connections: what time alone takes away is found here, once a round.
    pub(super) fn sweep(&self, count: usize, at: Seq, judge: impl Fn(&Holder) -> Option<&'static str>) {
        let mut entries = self.lock();
        let next: Vec<u64> =
            entries.by_id.range(entries.swept.saturating_add(1)..).map(|(id, _)| *id).take(count).collect();
        entries.swept = next.last().copied().unwrap_or(0);
        self.close(&mut entries, &next, at, judge);
    }

    fn close(
        &self,
        entries: &mut Entries,
        ids: &[u64],
        at: Seq,
        judge: impl Fn(&Holder) -> Option<&'static str>,
    ) {
        for id in ids {
            let why = entries.by_id.get(id).and_then(|entry| judge(&entry.holder));
            if let Some(why) = why {
                self.told.fetch_add(entries.tell(*id, why, at), Ordering::Relaxed);
            }
        }
    }

    /// Nobody watches any more: everything is closed and nothing is entered.
    pub(super) fn end(&self, at: Seq, why: &'static str) {
        self.is_over.store(true, Ordering::Release);
        self.close_denied(&Touched::All, at, |_| Some(why));
    }

    /// The first record whose connections are not all closed: nothing from there on may be acknowledged.
    pub(super) fn closing_at(&self) -> Option<Seq> {
        self.lock().closing.keys().next().copied()
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// How many were told to close so far.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}
