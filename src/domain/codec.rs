//! Encoding helpers for stored values: persistent maps and shared rows (RFC 8949, definite lengths only).

use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use thiserror::Error;

/// A persistent map with shared rows, as a CBOR map in the order of its keys.
pub(crate) mod rows {
    use super::*;
    use imbl::OrdMap;

    pub(crate) fn encode<C, K, V, W>(
        map: &OrdMap<K, Arc<V>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>>
    where
        K: Ord + Clone + Encode<C>,
        V: Encode<C>,
        W: encode::Write,
    {
        e.map(map.len() as u64)?;
        for (key, row) in map {
            key.encode(e, ctx)?;
            row.as_ref().encode(e, ctx)?;
        }
        Ok(())
    }

    pub(crate) fn decode<'b, C, K, V>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<OrdMap<K, Arc<V>>, decode::Error>
    where
        K: Ord + Clone + Decode<'b, C>,
        V: Decode<'b, C>,
    {
        let len = d.map()?.ok_or_else(|| decode::Error::message("a map of unknown length"))?;
        (0..len).map(|_| Ok((K::decode(d, ctx)?, Arc::new(V::decode(d, ctx)?)))).collect()
    }
}

/// A persistent map of small rows, as a CBOR map in the order of its keys.
pub(crate) mod map {
    use super::*;
    use imbl::OrdMap;

    pub(crate) fn encode<C, K, V, W>(
        map: &OrdMap<K, V>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>>
    where
        K: Ord + Clone + Encode<C>,
        V: Clone + Encode<C>,
        W: encode::Write,
    {
        e.map(map.len() as u64)?;
        for (key, value) in map {
            key.encode(e, ctx)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }

    pub(crate) fn decode<'b, C, K, V>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<OrdMap<K, V>, decode::Error>
    where
        K: Ord + Clone + Decode<'b, C>,
        V: Clone + Decode<'b, C>,
    {
        let len = d.map()?.ok_or_else(|| decode::Error::message("a map of unknown length"))?;
        (0..len).map(|_| Ok((K::decode(d, ctx)?, V::decode(d, ctx)?))).collect()
    }
}

/// A persistent set, as a CBOR array in the order of its elements.
pub(crate) mod set {
    use super::*;
    use imbl::OrdSet;

    pub(crate) fn encode<C, K, W>(
        set: &OrdSet<K>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>>
    where
        K: Ord + Clone + Encode<C>,
        W: encode::Write,
    {
        e.array(set.len() as u64)?;
        set.iter().try_for_each(|key| key.encode(e, ctx))
    }

    pub(crate) fn decode<'b, C, K>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<OrdSet<K>, decode::Error>
    where
        K: Ord + Clone + Decode<'b, C>,
    {
        let len = d.array()?.ok_or_else(|| decode::Error::message("an array of unknown length"))?;
        (0..len).map(|_| K::decode(d, ctx)).collect()
    }
}

/// One shared value, encoded as the value itself.
pub(crate) mod shared {
    use super::*;

    pub(crate) fn encode<C, V: Encode<C>, W: encode::Write>(
        value: &Arc<V>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        value.as_ref().encode(e, ctx)
    }

    pub(crate) fn decode<'b, C, V: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Arc<V>, decode::Error> {
        V::decode(d, ctx).map(Arc::new)
    }
}

/// The bytes of a value. Encoding into memory has no error of its own.
pub fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_default()
}

/// A value read from exactly these bytes: what is left over is an error, and so is another spelling of the same value,
/// so that bytes and value stand for each other.
///
/// # Errors
/// What is wrong with the bytes.
pub fn from_bytes<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, decode::Error> {
    let value: T = minicbor::decode(bytes)?;
    let mut rest = Expected(bytes);
    if minicbor::encode(&value, &mut rest).is_err() || !rest.0.is_empty() {
        return Err(decode::Error::message("not in canonical form"));
    }
    Ok(value)
}

/// Compares what is written with these bytes instead of keeping it.
struct Expected<'a>(&'a [u8]);

/// What is written is not what was expected.
#[derive(Debug, Error)]
#[error("other bytes")]
struct OtherBytes;

impl encode::Write for Expected<'_> {
    type Error = OtherBytes;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), OtherBytes> {
        self.0 = self.0.strip_prefix(bytes).ok_or(OtherBytes)?;
        Ok(())
    }
}
