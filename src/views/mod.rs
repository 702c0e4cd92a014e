//! Views: what is large and looked up. The certificate index answers "which certificate is this", never "is it good".
//!
//! A view is never the truth. It is a fold of the journal that remembers how far it has read; it may be behind, and when it
//! is missing, of another history or damaged it is emptied and filled again, in the background ([`rebuild`]). No
//! decision reads it. Called by `app`: one thread applies, any thread looks up.

mod catchup;
pub mod disk;
mod fold;
pub mod memory;
mod row;

#[cfg(test)]
mod contract;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use crate::domain::certificate::{AuthorityKind, BLOCK_LEN, Serial};
use crate::domain::event::Entry;
use crate::domain::id::{EntityId, Ordinal, Seq, SubjectId};

pub use catchup::{Ended, PAGE_RECORDS, RebuildError, rebuild};
pub use disk::{DiskIndex, Opened, Origin};
pub use memory::MemoryIndex;
pub use row::CertificateRow;

/// The most records of one `apply`: what the journal returns from one read.
pub const APPLY_RECORDS_MAX: usize = 8192;
/// The most rows of one answer: a page of the API; about 0.3 MiB.
pub const LOOKUP_ROWS_MAX: usize = 1000;

/// The index of every certificate that was ever intended. All methods block for as long as a disk does.
pub trait CertificateIndex: Send + Sync {
    /// The last record that the answers reflect.
    fn applied_seq(&self) -> Seq;

    /// Takes in the records that follow `applied_seq`, in order and without a gap; all of them or none. Another call at the
    /// same time waits.
    fn apply(&self, entries: &[(Seq, Entry)]) -> Result<(), ViewError>;

    /// The certificate with this number.
    fn by_ordinal(
        &self,
        authority: AuthorityKind,
        ordinal: Ordinal,
    ) -> Result<Option<CertificateRow>, ViewError>;

    /// The certificate with this serial.
    fn by_serial(&self, serial: &Serial) -> Result<Option<CertificateRow>, ViewError>;

    /// The access certificates of a subject in the order of their ordinals, those after `after`; at most `limit`, and at
    /// most [`LOOKUP_ROWS_MAX`].
    fn by_subject(
        &self,
        subject: SubjectId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError>;

    /// The access certificates of an entity, likewise.
    fn by_entity(
        &self,
        entity: EntityId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError>;

    /// The certificates of a revocation list's shard, `shard * BLOCK_LEN` and up, in the order of their ordinals: all of
    /// them, at most [`BLOCK_LEN`].
    fn by_shard(&self, authority: AuthorityKind, shard: u64) -> Result<Vec<CertificateRow>, ViewError>;

    /// Reads everything once and compares it with what was written; returns early, without a complaint, when `stop` is
    /// set. It reads everything: 100,000 certificates took 2.7 s in an unoptimised build.
    fn check(&self, stop: &AtomicBool) -> Result<(), ViewError>;

    /// Forgets everything: `applied_seq` is 0 again.
    fn clear(&self) -> Result<(), ViewError>;
}

/// Why a view cannot do what was asked.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The records do not follow what was applied.
    #[error("record {found} was given where {expected} comes next")]
    Gap {
        /// The record that comes next.
        expected: Seq,
        /// The record that was given.
        found: Seq,
    },
    /// More records than one batch may have.
    #[error("{records} records were given; at most {APPLY_RECORDS_MAX} are taken at once")]
    TooMany {
        /// How many were given.
        records: usize,
    },
    /// What is stored cannot be right, or the store failed. Clear it and fill it again.
    #[error("the certificate index is damaged: {why}")]
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// Another process has it open.
    #[error("the certificate index in {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The first and the last ordinal of a shard.
pub(crate) const fn shard_ordinals(shard: u64) -> (Ordinal, Ordinal) {
    let first = shard.saturating_mul(BLOCK_LEN);
    (Ordinal(first), Ordinal(first.saturating_add(BLOCK_LEN - 1)))
}

impl ViewError {
    fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged { why: why.into() }
    }
}
