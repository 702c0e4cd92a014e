//! The bytes of a segment file: its header and its frames. Pure functions over slices.
//!
//! A frame is one batch. Its checksum covers the record headers; each body is checked by the digest in its header; so
//! a body can be marked purged and zeroed in place without touching any checksum. All integers are big-endian.

use crate::domain::id::{Digest, Epoch, Seq};
use crate::domain::time::Timestamp;
use crate::journal::merkle::Frontier;
use crate::journal::record::{self, Fields, Header, Record};
use crate::journal::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_LEN_MAX};

/// One page: so the first frame never shares a page with the header.
pub(super) const SEGMENT_HEADER_LEN: usize = 4096;
const MAGIC: &[u8; 8] = b"CSJRNSEG";
const VERSION: u16 = 1;
const CRC_LEN: usize = 4;

/// Marker, first record, count, bodies' length, checksum.
pub(super) const FRAME_HEAD_LEN: usize = 8 + 8 + 4 + 4 + CRC_LEN;
const LIVE: [u8; 4] = *b"LIVE";
const PURGED: [u8; 4] = *b"GONE";
const RECORD_LEN: usize = record::HEADER_LEN + LIVE.len();
/// The longest frame a checked batch can make.
pub(super) const FRAME_LEN_MAX: usize = FRAME_HEAD_LEN + BATCH_RECORDS_MAX * RECORD_LEN + BATCH_BYTES_MAX;

/// Eight bytes that begin each frame of one segment. Derived from a secret of this journal's maker, so that nobody can
/// put something into a body that recovery would take for a frame.
pub(super) type Marker = [u8; 8];

/// The marker of the segment that begins with this record.
pub(super) fn marker(salt: &[u8; 16], first: Seq) -> Marker {
    let digest =
        Digest::of(&[b"countersign segment marker v1\0".as_slice(), salt, &first.0.to_be_bytes()].concat());
    let mut marker = [0; 8];
    marker.iter_mut().zip(digest.0).for_each(|(to, from)| *to = from);
    marker
}

/// What a segment knows about everything before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) marker: Marker,
    pub(super) epoch: Epoch,
    /// The number of its first record: one more than the size of the tree before it.
    pub(super) first: Seq,
    /// The time of the record before.
    pub(super) time: Timestamp,
    /// The tree before it.
    pub(super) frontier: Frontier,
}

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged(&'static str),
    Newer(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.marker);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.first.0.to_be_bytes());
        out.extend_from_slice(&self.time.millis().to_be_bytes());
        self.frontier.peaks().iter().for_each(|peak| out.extend_from_slice(&peak.0));
        out.resize(SEGMENT_HEADER_LEN - CRC_LEN, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        Self::fields(bytes).unwrap_or(Err(HeaderFault::Damaged("the segment header is cut off")))
    }

    fn fields(bytes: &[u8]) -> Option<Result<Self, HeaderFault>> {
        let damaged = |why| Some(Err(HeaderFault::Damaged(why)));
        let (covered, crc) = bytes.get(..SEGMENT_HEADER_LEN)?.split_last_chunk::<CRC_LEN>()?;
        let mut fields = Fields(covered);
        if fields.array()? != *MAGIC {
            return damaged("it does not begin with the magic of a segment");
        }
        // Before the checksum: a newer format may keep it elsewhere.
        let version = u16::from_be_bytes(fields.array()?);
        if version > VERSION {
            return Some(Err(HeaderFault::Newer(version)));
        }
        if crc32c::crc32c(covered) != u32::from_be_bytes(*crc) || version != VERSION {
            return damaged("the checksum of the segment header is wrong");
        }
        let (marker, epoch) = (fields.array()?, Epoch(fields.u64()?));
        let (first, time) = (Seq(fields.u64()?), Timestamp::from_millis(i64::from_be_bytes(fields.array()?)));
        let size = first.0.checked_sub(1)?;
        let peaks = (0..size.count_ones()).map(|_| fields.array().map(Digest)).collect::<Option<_>>()?;
        Some(Ok(Self { marker, epoch, first, time, frontier: Frontier::from_parts(size, peaks)? }))
    }
}

/// How long the frame of so many records is, whose bodies are so long together.
pub(super) const fn frame_len(records: usize, bodies_len: usize) -> u64 {
    (FRAME_HEAD_LEN + records * RECORD_LEN + bodies_len) as u64
}

/// The frame of records with these headers and bodies; none: it was purged. Bounds were checked before.
pub(super) fn encode_frame(marker: Marker, headers: &[Header], bodies: &[Option<&[u8]>]) -> Vec<u8> {
    let bodies_len: usize = headers.iter().map(|header| header.body_len as usize).sum();
    let mut out = Vec::with_capacity(FRAME_HEAD_LEN + headers.len() * RECORD_LEN + bodies_len);
    out.extend_from_slice(&marker);
    out.extend_from_slice(&headers.first().map_or(0, |header| header.seq.0).to_be_bytes());
    // Cannot saturate: `record::check` bounds both far below.
    out.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&u32::try_from(bodies_len).unwrap_or(u32::MAX).to_be_bytes());
    let packed: Vec<u8> = headers.iter().flat_map(Header::encode).collect();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &packed);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&packed);
    bodies.iter().for_each(|body| out.extend_from_slice(if body.is_some() { &LIVE } else { &PURGED }));
    for (header, body) in headers.iter().zip(bodies) {
        match body {
            Some(body) => out.extend_from_slice(body),
            None => out.resize(out.len() + header.body_len as usize, 0),
        }
    }
    out
}

/// The fixed beginning of a frame, not yet checked against the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) first: Seq,
    count: usize,
    bodies_len: usize,
    crc: u32,
}

impl FrameHead {
    /// `None` when the bytes are too few or do not begin a frame of this segment within the bounds.
    pub(super) fn decode(marker: Marker, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let begins = fields.array()? == marker;
        let first = Seq(fields.u64()?);
        let count = usize::try_from(fields.u32()?).ok()?;
        let bodies_len = usize::try_from(fields.u32()?).ok()?;
        let crc = fields.u32()?;
        let bounded = (1..=BATCH_RECORDS_MAX).contains(&count) && bodies_len <= BATCH_BYTES_MAX;
        (begins && bounded).then_some(Self { first, count, bodies_len, crc })
    }

    /// The length of the whole frame.
    pub(super) const fn len(&self) -> usize {
        FRAME_HEAD_LEN + self.count * RECORD_LEN + self.bodies_len
    }

    /// The last record.
    pub(super) const fn last(&self) -> Seq {
        Seq(self.first.0 + self.count as u64 - 1)
    }

    /// True when the checksum over this and the record headers holds.
    fn holds(&self, bytes: &[u8]) -> bool {
        let mut fields = Fields(bytes);
        let (Some(head), Some(_)) = (fields.bytes(FRAME_HEAD_LEN - CRC_LEN), fields.u32()) else {
            return false;
        };
        let Some(headers) = fields.bytes(self.count * record::HEADER_LEN) else { return false };
        crc32c::crc32c_append(crc32c::crc32c(head), headers) == self.crc
    }
}

/// The records of the frame at the start of the bytes, and its length; or what does not hold.
pub(super) fn decode_frame(marker: Marker, bytes: &[u8]) -> Result<(Vec<Record>, usize), &'static str> {
    let head = FrameHead::decode(marker, bytes).ok_or("no frame begins here")?;
    if !head.holds(bytes) {
        return Err("the checksum of a frame's headers is wrong");
    }
    let mut fields = Fields(bytes);
    let cut_off = "a frame is cut off";
    fields.bytes(FRAME_HEAD_LEN).ok_or(cut_off)?;
    let mut headers = Fields(fields.bytes(head.count * record::HEADER_LEN).ok_or(cut_off)?);
    let mut marks = Fields(fields.bytes(head.count * LIVE.len()).ok_or(cut_off)?);
    let mut bodies = Fields(fields.bytes(head.bodies_len).ok_or(cut_off)?);
    let mut records = Vec::with_capacity(head.count);
    for seq in head.first.0..=head.last().0 {
        let header =
            headers.bytes(record::HEADER_LEN).and_then(Header::decode).ok_or("a record header is not one")?;
        if header.seq.0 != seq {
            return Err("record numbers inside a frame are not dense");
        }
        let len = usize::try_from(header.body_len).ok().filter(|len| *len <= BODY_LEN_MAX);
        let body = len.and_then(|len| bodies.bytes(len)).ok_or("a body is longer than its frame")?;
        records.push(Record { header, body: decode_body(&header, marks.array().ok_or(cut_off)?, body)? });
    }
    if bodies.0.is_empty() { Ok((records, head.len())) } else { Err("a frame has bytes that no record owns") }
}

fn decode_body(header: &Header, mark: [u8; 4], body: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    match mark {
        PURGED => Ok(None),
        LIVE if Digest::of(body) == header.body => Ok(Some(body.to_vec())),
        LIVE => Err("a body does not have the digest in its header"),
        _ => Err("a body is marked neither live nor purged"),
    }
}

/// The first frame after the start of the bytes whose headers hold, with its offset: proof that what stands before it
/// was once durable, because nothing is written behind a frame that is not.
pub(super) fn find_frame(marker: Marker, after: Seq, bytes: &[u8]) -> Option<(usize, Seq)> {
    let begins = |(_, window): &(usize, &[u8])| *window == marker;
    bytes.windows(marker.len()).enumerate().skip(1).filter(begins).find_map(|(at, _)| {
        let rest = bytes.get(at..)?;
        let head = FrameHead::decode(marker, rest)?;
        (head.first > after && head.holds(rest)).then_some((at, head.first))
    })
}

/// Marks the body of a record purged and zeroes it, in the bytes of its frame. Returns false when it is not there.
#[cfg(test)]
pub(super) fn purge_in_place(marker: Marker, frame: &mut [u8], seq: Seq) -> bool {
    let Ok((records, _)) = decode_frame(marker, frame) else { return false };
    let Some(index) = records.iter().position(|record| record.header.seq == seq) else { return false };
    let before: usize = records.iter().take(index).map(|record| record.header.body_len as usize).sum();
    let len = records.get(index).map_or(0, |record| record.header.body_len as usize);
    let marks = FRAME_HEAD_LEN + records.len() * record::HEADER_LEN;
    let body = marks + records.len() * LIVE.len() + before;
    frame.iter_mut().skip(marks + index * LIVE.len()).zip(PURGED).for_each(|(to, from)| *to = from);
    frame.iter_mut().skip(body).take(len).for_each(|byte| *byte = 0);
    true
}
