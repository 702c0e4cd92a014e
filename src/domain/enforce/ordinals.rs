//! A persistent set of ordinals: roaring bitmaps of 65,536 ordinals each behind a persistent map, so that a clone is
//! constant and an insertion copies one bitmap of at most 8 KiB.

use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use roaring::RoaringBitmap;

use crate::domain::id::Ordinal;
use crate::domain::revocation::OrdinalRange;

/// A set of ordinals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrdinalSet {
    shards: OrdMap<u64, Arc<RoaringBitmap>>,
}

impl OrdinalSet {
    const fn split(ordinal: Ordinal) -> (u64, u32) {
        (ordinal.0 >> 16, (ordinal.0 & 0xffff) as u32)
    }

    /// Is the ordinal in the set?
    pub fn contains(&self, ordinal: Ordinal) -> bool {
        let (shard, low) = Self::split(ordinal);
        self.shards.get(&shard).is_some_and(|bitmap| bitmap.contains(low))
    }

    /// Puts the ordinal into the set.
    pub fn insert(&mut self, ordinal: Ordinal) {
        let (shard, low) = Self::split(ordinal);
        let bitmap = self.shards.entry(shard).or_default();
        Arc::make_mut(bitmap).insert(low);
    }

    /// Puts every ordinal of the range into the set.
    pub fn insert_range(&mut self, range: OrdinalRange) {
        let ((first_shard, first), (last_shard, last)) =
            (Self::split(range.first()), Self::split(range.last()));
        for shard in first_shard..=last_shard {
            let low = if shard == first_shard { first } else { 0 };
            let high = if shard == last_shard { last } else { 0xffff };
            let bitmap = Arc::make_mut(self.shards.entry(shard).or_default());
            bitmap.insert_range(low..=high);
            // A range is two numbers, not a bit for each.
            bitmap.optimize();
        }
    }

    /// Takes the ordinal out of the set.
    pub fn remove(&mut self, ordinal: Ordinal) {
        let (shard, low) = Self::split(ordinal);
        let Some(bitmap) = self.shards.get_mut(&shard) else { return };
        Arc::make_mut(bitmap).remove(low);
        // An empty shard is not stored, so it must not be kept either: a snapshot is the state.
        if bitmap.is_empty() {
            self.shards.remove(&shard);
        }
    }

    /// How many ordinals are in the set.
    pub fn len(&self) -> u64 {
        self.shards.values().map(|bitmap| bitmap.len()).sum()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every ordinal, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        self.shards
            .iter()
            .flat_map(|(shard, bitmap)| bitmap.iter().map(move |low| Ordinal((shard << 16) | u64::from(low))))
    }
}

impl<C> Encode<C> for OrdinalSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.map(self.shards.len() as u64)?;
        let mut bytes = Vec::new();
        for (shard, bitmap) in &self.shards {
            bytes.clear();
            bitmap
                .serialize_into(&mut bytes)
                .map_err(|_| minicbor::encode::Error::message("a bitmap does not serialize"))?;
            e.u64(*shard)?.bytes(&bytes)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for OrdinalSet {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let len = d.map()?.ok_or_else(|| minicbor::decode::Error::message("a map of unknown length"))?;
        let mut set = Self::default();
        for _ in 0..len {
            let shard = d.u64()?;
            let bitmap = RoaringBitmap::deserialize_from(d.bytes()?)
                .map_err(|_| minicbor::decode::Error::message("not a roaring bitmap"))?;
            if shard > u64::MAX >> 16 || bitmap.max().is_none_or(|max| max > 0xffff) {
                return Err(minicbor::decode::Error::message(
                    "an ordinal is out of its shard, or a shard is empty",
                ));
            }
            set.shards.insert(shard, Arc::new(bitmap));
        }
        Ok(set)
    }
}
