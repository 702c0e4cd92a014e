//! The journal: one ordered, durable, append-only log whose records are the leaves of an RFC 6962 Merkle tree.
//!
//! It is the audit trail, the source of replay and the recovery. Bodies are bytes: nothing here knows an event, reads a
//! clock or judges a time. Nothing above the port may assume that this process is the only writer: `append` names
//! the sequence number it expects, and a batch names its writer. Called by `app` and by the offline `journal verify`.

mod disk;
#[cfg(feature = "faults")]
pub mod faulty;
pub mod file;
pub mod memory;
pub mod merkle;
pub mod record;
pub mod snapshot;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod fault;

use std::io;
use std::path::PathBuf;

use minicbor::{Decode, Encode};
use thiserror::Error;
use tokio::sync::watch;

use crate::domain::id::{BootId, Digest, Epoch, Seq};
use crate::domain::time::Timestamp;

pub use record::{Header, Record};

/// The longest body: the largest event (a signed policy bundle) is about 256 KiB; four times that leaves room.
pub const BODY_LEN_MAX: usize = 1 << 20;
/// The most records of a batch: past a few hundred, a group commit gains nothing; their headers stay under 0.4 MiB.
pub const BATCH_RECORDS_MAX: usize = 4096;
/// The most body bytes of a batch: eight of the longest bodies, written in about 10 ms on a slow disk.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// The most records one `read` returns: a caller's loop yields at least this often.
pub const READ_RECORDS_MAX: usize = 8192;
/// `read` stops after this many body bytes: it bounds the memory of one reader.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// One event to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Which event it is; kept in the header, so that an audit works without the body.
    pub kind: u16,
    /// The encoded event.
    pub body: Vec<u8>,
}

/// Events that become records together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The run of the process that appends.
    pub writer: BootId,
    /// The writer's number for this batch: after `Unknown` it looks for this number in the log.
    pub nonce: u64,
    /// The time that all records of the batch carry. The journal does not judge it.
    pub time: Timestamp,
    /// The events, in order; at least one.
    pub drafts: Vec<Draft>,
    /// True when the batch only narrows what is permitted, or is the start of a run: it goes on under the low-water mark
    /// and may use the reserve.
    pub restricting: bool,
}

/// The last record and the tree over everything up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The epoch that the next record gets.
    #[n(0)]
    pub epoch: Epoch,
    /// The number of the last record; 0 when there is none.
    #[n(1)]
    pub seq: Seq,
    /// The Merkle tree hash over records 1 to `seq`.
    #[n(2)]
    pub root: Digest,
    /// The time of the last record; 1970 when there is none.
    #[n(3)]
    pub time: Timestamp,
}

/// A record number and the tree hash there, from a snapshot or a signed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last record covered.
    pub seq: Seq,
    /// The tree hash over records 1 to `seq`.
    pub root: Digest,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "only `Done` means that the batch is stored"]
pub enum Outcome {
    /// Durable; the number of its last record.
    Done(Seq),
    /// Certainly not stored.
    Refused(Refusal),
    /// Stored or not: find or exclude the nonce, after a re-open, before doing anything that depends on it.
    Unknown(String),
}

/// Why a batch was certainly not stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `expected_next` is not the next number: somebody else appended.
    #[error("the journal is at {}, not where the writer expected it", .0.seq)]
    Moved(Head),
    /// The disk is under its low-water mark, or full; for a restricting batch, the reserve is used up too.
    #[error("{} bytes are free; {} are needed to append", .0.free, .0.low_water)]
    NoSpace(Space),
    /// An earlier write or sync failed; nothing is appended until the journal is opened anew.
    #[error("the journal is closed: {why}")]
    Closed {
        /// What failed.
        why: String,
    },
    /// The batch is empty or over a bound.
    #[error("not a batch: {why}")]
    Invalid {
        /// Which bound.
        why: &'static str,
    },
}

/// Room on the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for this user.
    pub free: u64,
    /// Under this, ordinary batches are refused.
    pub low_water: u64,
    /// Left in the reserve for restricting batches.
    pub reserve: u64,
}

impl Space {
    /// True when ordinary batches are refused.
    pub const fn is_low(&self) -> bool {
        self.free < self.low_water
    }
}

/// Whether the next ordinary batch can be expected to succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Appending, with this much room; look at [`Space::is_low`].
    Open(Space),
    /// Closed for this reason, until it is opened anew.
    Closed(String),
}

/// The port. All methods block; none may be called from an async task without `spawn_blocking` or an own thread.
pub trait Journal: Send + Sync {
    /// Stores the batch if the next number is `expected_next`. `Done` only when it is durable.
    fn append(&self, expected_next: Seq, batch: &Batch) -> Outcome;

    /// The records from `from` on, at most `limit` (and at most [`READ_RECORDS_MAX`] records and about
    /// [`READ_BYTES_MAX`] bytes): fewer does not mean the end, none does.
    fn read(&self, from: Seq, limit: usize) -> Result<Vec<Record>, JournalError>;

    /// The last durable record.
    fn head(&self) -> Head;

    /// Wakes when the head moves. Never closed while the journal lives.
    fn watch(&self) -> watch::Receiver<Head>;

    /// Whether it appends, and how much room there is; for health and metrics.
    fn condition(&self) -> Condition;
}

/// Why a journal cannot be opened, read or verified.
#[derive(Debug, Error)]
pub enum JournalError {
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
    /// Another process has the journal open.
    #[error("the journal in {} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no journal here.
    #[error("there is no journal in {}; `countersign init` makes one", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// There already is a journal here.
    #[error("there already is a journal in {}", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// Bytes that were durable are not what was written: restore from a backup or a replica.
    #[error("segment {segment} is damaged at byte {offset}, record {seq}: {why}")]
    Corrupt {
        /// The segment file.
        segment: String,
        /// Where in the file.
        offset: u64,
        /// The first record that cannot be trusted.
        seq: Seq,
        /// What does not hold.
        why: &'static str,
    },
    /// A record of another journal that cannot be taken over.
    #[error("record {seq} cannot be taken over: {why}")]
    Unfit {
        /// Which.
        seq: Seq,
        /// Why not.
        why: &'static str,
    },
    /// Written by a newer release.
    #[error("segment {segment} has format version {version}; this release reads versions up to 1")]
    Version {
        /// The segment file.
        segment: String,
        /// Its version.
        version: u16,
    },
    /// The journal ends before a record that is known to have been durable.
    #[error("the journal ends at record {have}, but record {need} is known to have existed")]
    Lost {
        /// The last record.
        have: Seq,
        /// The record that was vouched for.
        need: Seq,
    },
    /// The journal goes on after the last record that a signed head covers.
    #[error(
        "the journal ends at record {have}, but the signed head covers it only up to {covered}: nothing vouches for what \
         follows"
    )]
    Uncovered {
        /// The last record.
        have: Seq,
        /// The last record that is vouched for.
        covered: Seq,
    },
    /// The tree is not the one that was vouched for.
    #[error("the tree at record {seq} is {have}, but {want} was vouched for")]
    Diverged {
        /// Where.
        seq: Seq,
        /// The tree hash of this journal.
        have: Digest,
        /// The tree hash that was vouched for.
        want: Digest,
    },
    /// An option is out of its range.
    #[error("journal option out of range: {0}")]
    Option(&'static str),
}
