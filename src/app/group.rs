//! Entries that become records together: each is admitted against the state that those before it make, then applied.

use super::error::Error;
use crate::domain::codec::to_bytes;
use crate::domain::command::Command;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::admit;
use crate::domain::id::Seq;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::feed::PublishedRecord;
use crate::journal::Draft;

/// Bytes after which a group commit is closed; one more body of at most 1 MiB still fits the journal's 8 MiB.
const GROUP_BYTES_MAX: usize = 4 << 20;

pub(super) struct GroupRecord {
    pub(super) published: PublishedRecord,
    pub(super) starts_run: bool,
}

/// Entries that will become records together.
pub(super) struct Group {
    pub(super) state: State,
    /// What entries are admitted by.
    pub(super) now: Timestamp,
    /// What records carry.
    pub(super) recorded: Timestamp,
    pub(super) first: Seq,
    pub(super) drafts: Vec<Draft>,
    pub(super) records: Vec<GroupRecord>,
    pub(super) seqs: Vec<Seq>,
    pub(super) accepts_clock: bool,
    pub(super) is_broken: bool,
    pub(super) bytes: usize,
}

impl Group {
    pub(super) fn new(state: State, now: Timestamp) -> Self {
        let first = state.position.seq.next();
        Self {
            state,
            now,
            recorded: now,
            first,
            drafts: Vec::new(),
            records: Vec::new(),
            seqs: Vec::new(),
            accepts_clock: false,
            is_broken: false,
            bytes: 0,
        }
    }

    /// Would another entry make it more than the journal takes at once?
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES_MAX
    }

    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::Internal("another entry of the group does not apply".to_owned()));
        }
        let admitted = admit(&self.state, entry, self.now)?;
        // A proposal is one officer's word; the clock is accepted when two have signed.
        let is_enacted = matches!(entry.event, Event::Enacted { .. });
        self.accepts_clock |= is_enacted && matches!(admitted.command(), Some(Command::AcceptClock(_)));
        let seq = self.state.position.seq.next();
        let time = self.recorded.max(self.state.time);
        let applied = self.state.apply_admitted(time, admitted).map_err(|fault| {
            // The state may be half changed: nothing of this group is written.
            self.is_broken = true;
            Error::Internal(format!("an admitted entry does not apply: {fault}"))
        })?;
        let body = to_bytes(entry);
        self.bytes += body.len();
        self.drafts.push(Draft { kind: entry.event.number(), body });
        let starts_run = matches!(entry.event, Event::ServerStarted { .. });
        let published = PublishedRecord { seq, events: applied.events, cards: applied.cards };
        self.records.push(GroupRecord { published, starts_run });
        self.seqs.push(seq);
        Ok(())
    }
}
