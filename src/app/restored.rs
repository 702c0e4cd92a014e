//! After a restore: what gateways give back, and what still goes on before officers have acknowledged it.

use std::sync::Arc;

use super::error::Error;
use super::{App, Caller};
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::enforce::message::SNAPSHOT_LEN_MAX;
use crate::domain::enforce::{EnforcementEvent, EnforcementSet, Position, missing};
use crate::domain::event::{Entry, Event};
use crate::domain::head::SignedHead;
use crate::domain::id::PrincipalId;
use crate::domain::state::State;

/// Bytes of events in one record: half of the longest body.
const RECORD_LEN: usize = 512 << 10;

impl App {
    /// Records what a gateway holds and the backup does not have: only restrictions, so nobody has to prove more than that
    /// it subscribed to this service before. Gives how many were new.
    ///
    /// # Errors
    /// No restore waits; or what is shown was not signed by this service in the epoch of the backup.
    pub async fn collect_restrictions(
        self: &Arc<Self>,
        gateway: PrincipalId,
        held: Position,
        signed_head: &[u8],
        (set, len): (Vec<u8>, u64),
    ) -> Result<u64, Error> {
        let state = self.state();
        let restore = state
            .pending_restore()
            .ok_or_else(|| Error::WrongState("no restore waits for what gateways hold".to_owned()))?;
        let head: SignedHead = from_bytes(signed_head).map_err(|e| invalid("signed_head", e.to_string()))?;
        if !crate::feed::Heads::verify(self.heads.as_ref(), &head) {
            return Err(invalid("signed_head", "the log key of this service did not sign it".to_owned()));
        }
        if head.epoch != restore.from.epoch || held.epoch != restore.from.epoch {
            return Err(invalid("epoch", format!("the backup is of epoch {}", restore.from.epoch)));
        }
        if restore.covers(held) {
            return Ok(0);
        }
        let last = restore.gap.last();
        let len = usize::try_from(len).ok().filter(|len| *len <= SNAPSHOT_LEN_MAX);
        let len = len.ok_or_else(|| invalid("len", "it is longer than any enforcement set".to_owned()))?;
        let own = Arc::clone(&state.enforcement);
        let compared = tokio::task::spawn_blocking(move || {
            let whole =
                zstd::bulk::decompress(&set, len).map_err(|e| invalid("enforcement_set", e.to_string()))?;
            let theirs: EnforcementSet =
                from_bytes(&whole).map_err(|e| invalid("enforcement_set", e.to_string()))?;
            Ok::<_, Error>(records(missing(&own, &theirs, last)))
        });
        let records = compared.await.map_err(|e| Error::Internal(e.to_string()))??;
        let (mut collected, of) = (0, records.len());
        for (number, events) in (1..).zip(records) {
            collected += events.len() as u64;
            // Only the last record says that the gateway has given all: a crash before it has it asked again.
            let upto = if number == of { held } else { restore.from };
            let event = Event::RestrictionsCollected { gateway: gateway.clone(), upto, events };
            self.engine.record(Caller::default().entry(event), true).await?;
        }
        tracing::warn!(gateway.id = %gateway, upto = %held.seq, collected, "a gateway gave restrictions back");
        self.warn_of_spared(&gateway);
        Ok(collected)
    }
}

impl App {
    fn warn_of_spared(&self, gateway: &PrincipalId) {
        let state = self.state();
        let reports = state.restore.iter().flat_map(|restore| &restore.reports);
        for key in
            reports.filter(|report| report.gateway == *gateway).flat_map(|report| &report.spared).flatten()
        {
            tracing::error!(
                gateway.id = %gateway, %key,
                "a gateway says that a key is blocked without which too few officers or recovery keys are left; it is not blocked"
            );
        }
    }
}

fn invalid(field: &'static str, why: String) -> Error {
    Error::Invalid { field, why }
}

/// The events in as many records as they need: at least one, which says that the gateway has reported.
fn records(events: Vec<EnforcementEvent>) -> Vec<Vec<EnforcementEvent>> {
    let (mut records, mut len) = (vec![Vec::new()], 0);
    for event in events {
        len += to_bytes(&event).len();
        if len > RECORD_LEN && records.last().is_some_and(|record| !record.is_empty()) {
            records.push(Vec::new());
            len = 0;
        }
        if let Some(record) = records.last_mut() {
            record.push(event);
        }
    }
    records
}

/// May it be recorded while a restore waits for its officers? Their acknowledgement, that the clock is right, and the
/// certificates of who is registered already, so that this service and its officers can be reached.
pub(super) fn goes_on(state: &State, entry: &Entry) -> bool {
    match &entry.event {
        Event::IssuanceIntended(intent) => intent.authority == AuthorityKind::System,
        Event::CertificateIssued { authority, .. } => *authority == AuthorityKind::System,
        Event::Proposed { signed, .. } | Event::Enacted { signed, .. } => {
            let mandate = signed.mandate(&state.settings.trust_domain);
            let command = mandate.map(|mandate| mandate.command);
            matches!(command, Ok(Command::AcknowledgeRestore { .. } | Command::AcceptClock(_)))
        }
        _ => false,
    }
}
