//! Backups: a copy of the record in a folder of its own, laid out like a service's, which goes on where it ended. And the
//! way back: a record that goes on from a copy, in a new epoch.

use std::path::Path;

use super::store::{StoreError, fold, journal_dir, log_key};
use crate::domain::codec::to_bytes;
use crate::domain::event::{Entry, Event};
use crate::domain::head::{PUBLIC_KEY_LEN, SignedHead};
use crate::domain::id::{BootId, Epoch, Seq};
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::journal::file::{Dropped, FileJournal, Options, verify};
use crate::journal::{Batch, Draft, Head, Journal as _, JournalError, Outcome, Record};

/// A backup that is being written.
pub struct Backup {
    journal: FileJournal,
}

impl Backup {
    /// Opens a backup to go on with it, or begins one.
    ///
    /// # Errors
    /// Something else is there, it is damaged, or the disk fails.
    pub fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        let dir = journal_dir(folder);
        let journal = match FileJournal::open(&dir, options, None) {
            Ok((journal, _)) => journal,
            Err(JournalError::Missing { .. }) => FileJournal::create(&dir, Epoch(0), options)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { journal })
    }

    /// The last record that it has.
    pub fn head(&self) -> Head {
        self.journal.head()
    }

    /// Adds the records that follow.
    ///
    /// # Errors
    /// They do not follow, or the disk fails.
    pub fn add(&self, records: &[Record]) -> Result<Seq, StoreError> {
        Ok(self.journal.take_over(records)?.seq)
    }

    /// The log key by its genesis, whose officers' signatures are checked here.
    ///
    /// # Errors
    /// It has no genesis, or one that its officers did not sign.
    pub fn log_key(&self) -> Result<[u8; PUBLIC_KEY_LEN], StoreError> {
        log_key(&self.journal)
    }

    /// Is this the tree that the head names?
    ///
    /// # Errors
    /// It is another one: these were not the service's records.
    pub fn check(&self, head: &SignedHead) -> Result<(), JournalError> {
        compare(&self.journal.head(), head)
    }
}

/// Records that are written at a time.
const PAGE_LEN: usize = 1_024;

/// What a restore wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The last record of the backup.
    pub from: Head,
    /// The record of the restore, in its epoch.
    pub head: Head,
    /// What a crash had left at the end of the copy; it is not in the record.
    pub torn: Option<Dropped>,
}

/// Copies a backup into a folder that has no record yet, checking every record and every signature on the way, and
/// begins a new epoch there. `vouched` is the signed head that covers the backup.
///
/// # Errors
/// The backup does not hold, or there is a record already. What was written is then not a service's folder: remove it.
pub fn restore(
    (from, to): (&Path, &Path),
    options: &Options,
    (boot, now): (BootId, Timestamp),
    vouched: Option<&SignedHead>,
    progress: &mut dyn FnMut(Seq),
) -> Result<Restored, StoreError> {
    let journal = FileJournal::create(&journal_dir(to), Epoch(0), options)?;
    let (mut state, mut fault, mut page) = (None, None, Vec::new());
    let mut visit = |record: &Record| {
        if fault.is_some() {
            return;
        }
        page.push(record.clone());
        let taken = fold(&mut state, record).and_then(|()| {
            let is_full = page.len() >= PAGE_LEN;
            let taken = if is_full { journal.take_over(&page).map(drop) } else { Ok(()) };
            if is_full {
                page.clear();
            }
            Ok(taken?)
        });
        fault = taken.err();
        progress(record.header.seq);
    };
    let verified = verify(&journal_dir(from), Some(&mut visit))?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    journal.take_over(&page)?;
    let from_head = journal.head();
    if let Some(head) = vouched {
        compare(&from_head, head)?;
    }
    let mut state: State = state.ok_or_else(|| StoreError::Empty(from.to_owned()))?;
    debug_assert_eq!(verified.head.root, from_head.root, "the copy is the backup");
    // Checked as the next start will check it.
    let entry = Entry { by: None, request: None, event: Event::Restored };
    let time = now.max(from_head.time);
    state.apply(from_head.seq.next(), time, &entry)?;
    journal.begin_epoch(state.position.epoch);
    let drafts = vec![Draft { kind: entry.event.number(), body: to_bytes(&entry) }];
    let batch = Batch { writer: boot, nonce: 1, time, drafts, restricting: true };
    match journal.append(from_head.seq.next(), &batch) {
        Outcome::Done(_) => Ok(Restored { from: from_head, head: journal.head(), torn: verified.torn }),
        outcome => Err(StoreError::Genesis(format!("{outcome:?}"))),
    }
}

fn compare(have: &Head, head: &SignedHead) -> Result<(), JournalError> {
    if have.seq > head.seq {
        return Err(JournalError::Uncovered { have: have.seq, covered: head.seq });
    }
    if have.seq != head.seq {
        return Err(JournalError::Lost { have: have.seq, need: head.seq });
    }
    if have.root != head.root {
        return Err(JournalError::Diverged { seq: head.seq, have: have.root, want: head.root });
    }
    Ok(())
}
