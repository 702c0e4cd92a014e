//! One batch in a segment: length, CRC-32C over what follows, length before compression, and the zstd-compressed canonical
//! CBOR. All integers are big-endian.

use std::io;
use std::marker::PhantomData;

use minicbor::{Decode, Encode};

use crate::domain::codec::{from_bytes, to_bytes};

/// The longest batch before compression: 1,000 decisions of a kilobyte.
const LEN_MAX: usize = 1 << 20;
/// How hard it is compressed: the fastest.
const LEVEL: i32 = 1;
const HEADER_LEN: usize = 8;

/// The frame of a batch.
///
/// # Errors
/// The batch is too long.
pub fn encode<T: Encode<()>>(batch: &T) -> io::Result<Vec<u8>> {
    let whole = to_bytes(batch);
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the batch is too long");
    let whole_len =
        u32::try_from(whole.len()).ok().filter(|_| whole.len() <= LEN_MAX).ok_or_else(too_long)?;
    let body = [whole_len.to_be_bytes().as_slice(), &zstd::bulk::compress(&whole, LEVEL)?].concat();
    let body_len = u32::try_from(body.len()).map_err(|_| too_long())?;
    Ok([body_len.to_be_bytes().as_slice(), &crc32c::crc32c(&body).to_be_bytes(), &body].concat())
}

/// The frames of a segment, up to the first that is not whole: where each ends, and its batch if it can be read.
#[derive(Debug)]
pub struct Frames<'a, T> {
    bytes: &'a [u8],
    at: usize,
    of: PhantomData<T>,
}

impl<'a, T> Frames<'a, T> {
    /// Of these bytes.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, of: PhantomData }
    }
}

impl<T> Iterator for Frames<'_, T>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    type Item = (usize, Option<T>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let body = rest.get(..len)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        self.at += HEADER_LEN + len;
        Some((self.at, decode(body)))
    }
}

fn decode<T>(body: &[u8]) -> Option<T>
where
    T: for<'b> Decode<'b, ()> + Encode<()>,
{
    let (len, body) = body.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| *len <= LEN_MAX)?;
    from_bytes(&zstd::bulk::decompress(body, len).ok()?).ok()
}
