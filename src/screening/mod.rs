//! Screening lists: reads the published files of the Consolidated Screening List, and finds which of its names are close
//! to another name.
//!
//! The files are public data of a foreign format, so reading is strict and bounded, and a file that is not whole is
//! refused whole. Matching only finds and explains; it decides nothing, and a hit only starts diligence. Knows neither
//! State nor time. Keeps the files that it read. Called by `app`, and
//! by `cli` for candidates.

mod delimited;
mod entry;
mod fault;
mod files;
mod guard;
mod index;
mod json;
mod name;
mod read;
mod score;
#[cfg(test)]
mod tests;

pub use entry::{EntryKind, ListEntry};
pub use fault::ListFault;
pub use files::{ListFiles, Loaded, Upload};
pub use index::{Hit, NameIndex, Query};
pub use read::{Format, ListSummary, read_list};

/// The longest file: the JSON of 2026 is about a quarter of it.
pub const FILE_LEN_MAX: u64 = 256 << 20;
/// The longest record of a file. The longest published one, with some hundred addresses, is about 60 KiB.
pub const RECORD_LEN_MAX: u64 = 1 << 20;
/// The most records: some twenty times as many as were ever published.
pub const ENTRIES_MAX: u32 = 500_000;
/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 2_000;
/// The most alternative names of an entry.
pub const ALT_NAMES_MAX: usize = 500;
