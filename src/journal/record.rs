//! Records: a fixed header that is the Merkle leaf, and a body that can go.
//!
//! The header holds SHA-256 of the body, and the leaf hashes only the header, so a body can be purged after its
//! retention and every root, proof and signature over the tree still verifies.

use super::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_LEN_MAX, Batch, Refusal, merkle};
use crate::domain::id::{BootId, Digest, Epoch, Seq};
use crate::domain::time::Timestamp;

/// The version of the header's encoding that this release writes.
pub const HEADER_VERSION: u8 = 1;
/// The length of an encoded header of version 1.
pub const HEADER_LEN: usize = 87;

/// What the Merkle tree commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version of this encoding.
    pub version: u8,
    /// The epoch in which the record was appended.
    pub epoch: Epoch,
    /// The dense number of the record.
    pub seq: Seq,
    /// The time of its batch.
    pub time: Timestamp,
    /// The run of the process that appended it.
    pub writer: BootId,
    /// The writer's number for its batch.
    pub nonce: u64,
    /// Which event it is.
    pub kind: u16,
    /// The length of the body.
    pub body_len: u32,
    /// SHA-256 of the body.
    pub body: Digest,
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The part that is kept for ever.
    pub header: Header,
    /// The encoded event; `None` once it is purged.
    pub body: Option<Vec<u8>>,
}

impl Header {
    /// The canonical bytes, all integers big-endian: version u8, epoch u64, seq u64, time i64 (ms since 1970),
    /// writer 16 bytes, nonce u64, kind u16, body length u32, body SHA-256.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.push(self.version);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.seq.0.to_be_bytes());
        out.extend_from_slice(&self.time.millis().to_be_bytes());
        out.extend_from_slice(&self.writer.to_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.body_len.to_be_bytes());
        out.extend_from_slice(&self.body.0);
        out
    }

    /// The header in exactly these bytes; `None` when they are not one of a known version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let header = Self {
            version: u8::from_be_bytes(fields.array()?),
            epoch: Epoch(fields.u64()?),
            seq: Seq(fields.u64()?),
            time: Timestamp::from_millis(i64::from_be_bytes(fields.array()?)),
            writer: BootId::from_bytes(fields.array()?),
            nonce: fields.u64()?,
            kind: u16::from_be_bytes(fields.array()?),
            body_len: fields.u32()?,
            body: Digest(fields.array()?),
        };
        (fields.0.is_empty() && header.version == HEADER_VERSION).then_some(header)
    }

    /// The leaf hash of the record.
    pub fn leaf(&self) -> Digest {
        merkle::leaf_hash(&self.encode())
    }
}

/// The bounds of a batch; called by every adapter before anything is written.
pub(super) fn check(batch: &Batch) -> Result<(), Refusal> {
    let invalid = |why| Err(Refusal::Invalid { why });
    if batch.drafts.is_empty() {
        return invalid("it is empty");
    }
    if batch.drafts.len() > BATCH_RECORDS_MAX {
        return invalid("it has more than 4096 records");
    }
    if batch.drafts.iter().any(|draft| draft.body.len() > BODY_LEN_MAX) {
        return invalid("a body is longer than 1 MiB");
    }
    if batch.drafts.iter().map(|draft| draft.body.len()).sum::<usize>() > BATCH_BYTES_MAX {
        return invalid("its bodies are longer than 8 MiB together");
    }
    Ok(())
}

/// The headers of a checked batch whose first record gets the number `first`.
pub(super) fn headers(batch: &Batch, epoch: Epoch, first: Seq) -> Vec<Header> {
    let numbers = first.0..;
    let header = |(seq, draft): (u64, &super::Draft)| Header {
        version: HEADER_VERSION,
        epoch,
        seq: Seq(seq),
        time: batch.time,
        writer: batch.writer,
        nonce: batch.nonce,
        kind: draft.kind,
        // Cannot saturate: `check` bounds a body to 1 MiB.
        body_len: u32::try_from(draft.body.len()).unwrap_or(u32::MAX),
        body: Digest::of(&draft.body),
    };
    numbers.zip(&batch.drafts).map(header).collect()
}

/// A reader of fixed-width big-endian fields that cannot run past the end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_encoding_is_pinned() {
        let header = Header {
            version: 1,
            epoch: Epoch(2),
            seq: Seq(3),
            time: Timestamp::from_millis(-4),
            writer: BootId::from_bytes([5; 16]),
            nonce: 6,
            kind: 7,
            body_len: 8,
            body: Digest([9; 32]),
        };
        let bytes = header.encode();
        let expected = format!(
            "01{:016x}{:016x}{:016x}{}{:016x}{:04x}{:08x}{}",
            2,
            3,
            -4_i64,
            "05".repeat(16),
            6,
            7,
            8,
            "09".repeat(32)
        );
        assert_eq!(hex::encode(&bytes), expected);
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(Header::decode(&[bytes, vec![0]].concat()), None);
    }
}
