//! Reading records back from the segments, beside the writer: only what is durable, and checked again.

use std::sync::PoisonError;

use super::format::{self, FRAME_HEAD_LEN, FrameHead, SEGMENT_HEADER_LEN};
use super::{FileJournal, io, scan};
use crate::domain::id::Seq;
use crate::journal::disk::{self, DiskFile, Mode};
use crate::journal::{Journal, JournalError, READ_BYTES_MAX, READ_RECORDS_MAX, Record};

/// A segment opened for reading, up to a record that is durable.
struct Source {
    file: Box<dyn DiskFile>,
    name: String,
    first: Seq,
    last: Seq,
    offset: u64,
}

/// What is wanted and what was found.
struct Wanted {
    next: Seq,
    limit: usize,
    bytes: usize,
    records: Vec<Record>,
}

impl Wanted {
    fn is_full(&self) -> bool {
        self.records.len() >= self.limit || self.bytes >= READ_BYTES_MAX
    }

    fn take(&mut self, record: Record) {
        if record.header.seq == self.next && !self.is_full() {
            self.next = self.next.next();
            self.bytes += record.body.as_ref().map_or(0, Vec::len);
            self.records.push(record);
        }
    }
}

pub(super) fn read(journal: &FileJournal, from: Seq, limit: usize) -> Result<Vec<Record>, JournalError> {
    let last = journal.head().seq;
    let limit = limit.min(READ_RECORDS_MAX);
    let mut wanted = Wanted { next: from.max(Seq(1)), limit, bytes: 0, records: Vec::new() };
    while wanted.next <= last && !wanted.is_full() {
        read_segment(&source(journal, wanted.next, last)?, &mut wanted)?;
    }
    Ok(wanted.records)
}

/// Opened under the lock of the index: between the two, the reserve could be renamed.
fn source(journal: &FileJournal, seq: Seq, head: Seq) -> Result<Source, JournalError> {
    let index = journal.segments.lock().unwrap_or_else(PoisonError::into_inner);
    let after = index.partition_point(|segment| segment.first <= seq);
    let Some(segment) = after.checked_sub(1).and_then(|at| index.get(at)) else {
        return Err(JournalError::Missing { dir: journal.dir.clone() });
    };
    let path = journal.dir.join(&segment.name);
    let file = journal.disk.open(&path, Mode::Read).map_err(|source| io("open", &path, source))?;
    let last = index.get(after).map_or(head, |next| Seq(next.first.0 - 1)).min(head);
    Ok(Source { file, name: segment.name.clone(), first: segment.first, last, offset: segment.place(seq) })
}

/// Takes at least one record, or fails.
fn read_segment(source: &Source, wanted: &mut Wanted) -> Result<(), JournalError> {
    let failed = |error| io("read", source.name.as_ref(), error);
    let header = disk::read(source.file.as_ref(), 0, SEGMENT_HEADER_LEN).map_err(failed)?;
    let marker = scan::header(&source.name, source.first, &header)?.marker;
    let mut offset = source.offset;
    while wanted.next <= source.last && !wanted.is_full() {
        let damage =
            |why| JournalError::Corrupt { segment: source.name.clone(), offset, seq: wanted.next, why };
        let head = disk::read(source.file.as_ref(), offset, FRAME_HEAD_LEN).map_err(failed)?;
        let head = FrameHead::decode(marker, &head).ok_or_else(|| damage("no frame begins here"))?;
        if head.first > wanted.next {
            return Err(damage("a frame is missing before this one"));
        }
        if head.last() >= wanted.next {
            let frame = disk::read(source.file.as_ref(), offset, head.len()).map_err(failed)?;
            let (records, _) = format::decode_frame(marker, &frame).map_err(damage)?;
            records.into_iter().for_each(|record| wanted.take(record));
        }
        offset += head.len() as u64;
    }
    Ok(())
}
