//! Backups: a copy of the record in a folder of its own, laid out like a service's, which goes on where it ended.

use std::path::Path;

use super::store::{StoreError, journal_dir, log_key};
use crate::domain::head::{PUBLIC_KEY_LEN, SignedHead};
use crate::domain::id::{Epoch, Seq};
use crate::journal::file::{FileJournal, Options};
use crate::journal::{Head, Journal as _, JournalError, Record};

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
        let have = self.journal.head();
        if have.seq != head.seq {
            return Err(JournalError::Lost { have: have.seq, need: head.seq });
        }
        if have.root != head.root {
            return Err(JournalError::Diverged { seq: head.seq, have: have.root, want: head.root });
        }
        Ok(())
    }
}
