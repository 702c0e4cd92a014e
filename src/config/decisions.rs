//! `[decisions]`: how long decisions are kept.

use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::domain::decided::Keep;

/// Five years, for so long export records are kept (15 CFR 762.6), to a hundred.
const DAYS: std::ops::RangeInclusive<u32> = 1_827..=36_525;
/// The most room: a pebibyte; more is a slip of the unit.
const GIB_MAX: u64 = 1 << 20;
const DAY_MS: i64 = 86_400_000;

/// `[decisions]`: how long decisions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decisions {
    /// `keep_days`: for so long decisions are kept. Default 3653, ten years, as sanctions law (IEEPA) wants it.
    #[serde(deserialize_with = "days")]
    pub keep_days: u32,
    /// `keep_gib`: and no more than so many GiB of them. Default: as many as there are.
    #[serde(deserialize_with = "gib")]
    pub keep_gib: Option<NonZeroU64>,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { keep_days: 3_653, keep_gib: None }
    }
}

impl Decisions {
    /// The same in milliseconds and bytes.
    pub fn keep(&self) -> Keep {
        Keep { age_ms: i64::from(self.keep_days) * DAY_MS, len: self.keep_gib.map(|gib| gib.get() << 30) }
    }
}

fn days<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let days = u32::deserialize(d)?;
    if !DAYS.contains(&days) {
        let (least, most) = (DAYS.start(), DAYS.end());
        return Err(D::Error::custom(format!("{least} to {most} days are allowed")));
    }
    Ok(days)
}

fn gib<'de, D: Deserializer<'de>>(d: D) -> Result<Option<NonZeroU64>, D::Error> {
    let gib = NonZeroU64::deserialize(d)?;
    if gib.get() > GIB_MAX {
        return Err(D::Error::custom(format!("at most {GIB_MAX} GiB are allowed")));
    }
    Ok(Some(gib))
}
