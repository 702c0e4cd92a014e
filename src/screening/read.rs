//! Reads a list entry by entry, in whichever of the published formats the file is.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use super::entry::ListEntry;
use super::fault::ListFault;
use super::guard::{Counts, Guard, Passed};
use super::{ENTRIES_MAX, delimited, json};
use crate::domain::id::Digest;
use crate::domain::word::words;

/// How much is looked at to tell the format.
const PEEK_LEN: u64 = 512;

words! {
    /// The format of a file.
    Format {
        /// Comma-separated.
        Csv = 0, "CSV";
        /// Tab-separated.
        Tsv = 1, "TSV";
        /// An object with `results`.
        Json = 2, "JSON";
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSummary {
    /// Its format.
    pub format: Format,
    /// SHA-256 of its bytes.
    pub file: Digest,
    /// How many entries.
    pub entries: u32,
    /// How many of each list.
    pub by_source: BTreeMap<String, u32>,
}

/// Takes entries one by one.
pub(super) struct Sink<'a> {
    each: &'a mut dyn FnMut(ListEntry) -> Result<(), ListFault>,
    entries: u32,
    by_source: BTreeMap<String, u32>,
}

impl Sink<'_> {
    /// The number of the entry that is read now.
    pub(super) const fn row(&self) -> u32 {
        self.entries.saturating_add(1)
    }

    pub(super) fn take(&mut self, entry: ListEntry) -> Result<(), ListFault> {
        if self.entries >= ENTRIES_MAX {
            return Err(ListFault::TooMany);
        }
        self.entries += 1;
        *self.by_source.entry(entry.source.clone()).or_default() += 1;
        (self.each)(entry)
    }
}

/// Reads a whole list. Entries are handed on as they are read, so whoever takes them keeps nothing when an error follows.
///
/// # Errors
/// The first thing that does not hold, with its entry, or that an entry cannot be taken.
pub fn read_list(
    input: impl Read,
    mut each: impl FnMut(ListEntry) -> Result<(), ListFault>,
) -> Result<ListSummary, ListFault> {
    let counts = Counts::new();
    let mut guarded = Guard::new(input, &counts);
    let mut head = Vec::new();
    (&mut guarded).take(PEEK_LEN).read_to_end(&mut head)?;
    let format = format_of(&head)?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").map_or_else(|| head.clone(), <[u8]>::to_vec);
    let input = Cursor::new(text).chain(guarded);
    let mut sink = Sink { each: &mut each, entries: 0, by_source: BTreeMap::new() };
    let read = match format {
        Format::Csv => delimited::read(input, b',', &counts, &mut sink),
        Format::Tsv => delimited::read(input, b'\t', &counts, &mut sink),
        Format::Json => json::read(input, &counts, &mut sink),
    };
    match counts.passed() {
        Some(Passed::File) => return Err(ListFault::TooLong),
        Some(Passed::Record) => return Err(ListFault::RecordTooLong { row: sink.row() }),
        None => read?,
    }
    if sink.entries == 0 {
        return Err(ListFault::Empty);
    }
    Ok(ListSummary { format, file: counts.file(), entries: sink.entries, by_source: sink.by_source })
}

/// Tells by how a file begins, not by its name.
fn format_of(head: &[u8]) -> Result<Format, ListFault> {
    let foreign: &[(&[u8], &str)] = &[
        (b"\xff\xfe", "in UTF-16"),
        (b"\xfe\xff", "in UTF-16"),
        (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with Zstandard"),
        (b"%PDF", "a PDF"),
        (b"<", "XML or a web page"),
        (b"[", "a JSON array, not the published object with `results`"),
    ];
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = head.trim_ascii_start();
    if let Some((_, what)) = foreign.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Err(ListFault::Format(what));
    }
    if text.starts_with(b"{") {
        return Ok(Format::Json);
    }
    if text.is_empty() {
        return Err(ListFault::Format("empty"));
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match (line.contains(&b'\t'), line.contains(&b',')) {
        (true, _) => Ok(Format::Tsv),
        (false, true) => Ok(Format::Csv),
        (false, false) => Err(ListFault::Format("neither CSV, TSV nor JSON")),
    }
}
