//! How the index is laid out in the tree: keys, values, the mark, and the sums that show damage. Pure.
//!
//! A value that carries something begins with a CRC-32C over its key and itself, so that a value in the wrong place is
//! damage too. Index keys point to rows; a row repeats what the key says.

use minicbor::{Decode, Encode};

use super::super::CertificateRow;
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::codec;
use crate::domain::id::{Digest, Epoch, Ordinal, Seq};

/// Which history a view was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// SHA-256 of the bytes of genesis.
    #[n(0)]
    pub genesis: Digest,
    /// The journal's epoch: in another one, records may have been lost and their numbers used again.
    #[n(1)]
    pub epoch: Epoch,
}

/// How far the index has read, of what, and what it must therefore hold. Stored with every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Mark {
    #[n(0)]
    pub(super) origin: Origin,
    #[n(1)]
    pub(super) applied: Seq,
    /// How many rows there are.
    #[n(2)]
    pub(super) rows: u64,
    /// The sum of their checksums.
    #[n(3)]
    pub(super) sum: u64,
}

/// The mark's key ends in the version of this layout: a program that knows another one finds no mark.
pub(super) const MARK_KEY: &[u8] = b"mark/4";
const ROW: u8 = b'c';
const SERIAL: u8 = b's';
const SUBJECT: u8 = b'u';
const ENTITY: u8 = b'e';

impl Mark {
    pub(super) const fn empty(origin: Origin) -> Self {
        Self { origin, applied: Seq(0), rows: 0, sum: 0 }
    }

    pub(super) fn to_value(self) -> Vec<u8> {
        sealed(MARK_KEY, &codec::to_bytes(&self))
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        codec::from_bytes(opened(MARK_KEY, value)?).ok()
    }
}

pub(super) fn row_key(authority: AuthorityKind, ordinal: Ordinal) -> Vec<u8> {
    let authority = match authority {
        AuthorityKind::Access => 0,
        AuthorityKind::System => 1,
    };
    [&[ROW, authority], ordinal.0.to_be_bytes().as_slice()].concat()
}

pub(super) fn serial_key(serial: &Serial) -> Vec<u8> {
    [&[SERIAL], serial.as_bytes().as_slice()].concat()
}

pub(super) fn subject_key(subject: [u8; 16], ordinal: Ordinal) -> Vec<u8> {
    [&[SUBJECT], subject.as_slice(), &ordinal.0.to_be_bytes()].concat()
}

pub(super) fn entity_key(entity: [u8; 16], ordinal: Ordinal) -> Vec<u8> {
    [&[ENTITY], entity.as_slice(), &ordinal.0.to_be_bytes()].concat()
}

/// Every index key of a row, each with its value: the row's own key.
pub(super) fn index_keys(row: &CertificateRow) -> Vec<(Vec<u8>, Vec<u8>)> {
    let subject = row.subject.map(|subject| subject_key(subject.to_bytes(), row.ordinal));
    let entity = row.entity.map(|entity| entity_key(entity.to_bytes(), row.ordinal));
    let keys = [Some(serial_key(&row.serial)), subject, entity];
    keys.into_iter().flatten().map(|key| (key, row_key(row.authority, row.ordinal))).collect()
}

pub(super) fn row_to_value(row: &CertificateRow) -> Vec<u8> {
    sealed(&row_key(row.authority, row.ordinal), &codec::to_bytes(row))
}

pub(super) fn row_from_value(key: &[u8], value: &[u8]) -> Option<CertificateRow> {
    let row: CertificateRow = codec::from_bytes(opened(key, value)?).ok()?;
    (row_key(row.authority, row.ordinal) == key).then_some(row)
}

/// What a row, as stored, adds to the sum of the mark.
pub(super) fn row_sum(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |crc| u64::from(u32::from_be_bytes(*crc)))
}

/// What a walk over everything finds.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    sum: u64,
    /// Of the index keys that the rows call for.
    called_for: u64,
    /// Of the index keys that are there.
    found: u64,
}

impl Tally {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key.first() {
            Some(&ROW) => {
                let row = row_from_value(key, value).ok_or("a row is not readable")?;
                self.rows += 1;
                self.sum = self.sum.wrapping_add(row_sum(value));
                for (key, value) in index_keys(&row) {
                    self.called_for = self.called_for.wrapping_add(u64::from(checksum(&key, &value)));
                }
            }
            Some(&(SERIAL | SUBJECT | ENTITY)) => {
                self.found = self.found.wrapping_add(u64::from(checksum(key, value)));
            }
            _ if key == MARK_KEY => {}
            _ => return Err("it holds a key that nobody wrote"),
        }
        Ok(())
    }

    pub(super) fn compare(&self, mark: &Mark) -> Result<(), &'static str> {
        if (self.rows, self.sum) != (mark.rows, mark.sum) {
            return Err("its rows are not those that its mark counts");
        }
        if self.called_for != self.found {
            return Err("its indexes do not belong to its rows");
        }
        Ok(())
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

fn sealed(key: &[u8], body: &[u8]) -> Vec<u8> {
    [checksum(key, body).to_be_bytes().as_slice(), body].concat()
}

fn opened<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, body) = value.split_first_chunk()?;
    (u32::from_be_bytes(*crc) == checksum(key, body)).then_some(body)
}
