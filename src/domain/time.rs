//! Instants, days and half-open intervals. Nothing here reads a clock: `now` is an argument.
//!
//! A decision is judged at two instants (design section 3, "Time is an input"): what narrows is judged slightly
//! early, what widens slightly late, so that a clock within a second of the truth can never permit too soon or too long.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A text that is not an RFC 3339 instant or day.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a valid {what}")]
pub struct InvalidTime {
    /// What was expected.
    pub what: &'static str,
}

/// The first and the last millisecond that RFC 3339 can write: 0000-01-01T00:00:00Z, 9999-12-31T23:59:59.999Z.
const RFC_3339_MIN_MS: i64 = -62_167_219_200_000;
const RFC_3339_MAX_MS: i64 = 253_402_300_799_999;

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] i64);

impl Timestamp {
    /// The instant this many milliseconds after 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved by a number of milliseconds, which may be negative; stays at the ends of the range.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The UTC calendar day of this instant.
    pub fn day(self) -> Day {
        Day(self.seconds().div_euclid(86_400))
    }

    /// The same instant in the `time` crate's type; clamped to the years of RFC 3339, 0000 to 9999, so that it can be written
    /// whoever names it.
    pub fn to_offset(self) -> OffsetDateTime {
        let millis = self.0.clamp(RFC_3339_MIN_MS, RFC_3339_MAX_MS);
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self(i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_offset().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let at = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| InvalidTime { what: "RFC 3339 instant, for example 2026-06-26T21:00:00Z" })?;
        Ok(at.into())
    }
}

/// A UTC calendar day, as days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Day(#[n(0)] i64);

impl Day {
    /// The first instant of the day.
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(86_400_000))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.start().to_offset().date().to_string())
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Day {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = InvalidTime { what: "day, for example 2026-06-27" };
        let at: Timestamp = format!("{text}T00:00:00Z").parse().map_err(|_| invalid.clone())?;
        if at.day().to_string() == text { Ok(at.day()) } else { Err(invalid) }
    }
}

/// How far a clock may be from the truth before a decision could be wrong: the margin on each side, in milliseconds.
pub const CLOCK_MARGIN_MS: i64 = 1_000;

/// How far an officer's clock may be ahead of the server's, in milliseconds: a minute.
pub const OFFICER_AHEAD_MAX_MS: i64 = 60_000;

/// The two instants at which one question is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    narrowing: Timestamp,
    widening: Timestamp,
}

impl Now {
    /// Both at the stated instant: `policy test`, replay and the scenarios.
    pub const fn exactly(at: Timestamp) -> Self {
        Self { narrowing: at, widening: at }
    }

    /// With the margin for a clock that may be a second off: every live decision.
    pub const fn with_margin(at: Timestamp) -> Self {
        Self { narrowing: at.plus_ms(CLOCK_MARGIN_MS), widening: at.plus_ms(-CLOCK_MARGIN_MS) }
    }

    /// True when what takes effect at `at` and narrows has taken effect.
    pub fn narrowed_since(self, at: Timestamp) -> bool {
        at <= self.narrowing
    }

    /// True when what takes effect at `at` and widens has taken effect.
    pub fn widened_since(self, at: Timestamp) -> bool {
        at <= self.widening
    }
}

/// A half-open interval `[from, until)`; no `until` means no end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Interval {
    /// The first instant inside.
    #[n(0)]
    pub from: Timestamp,
    /// The first instant after, if an end is known.
    #[n(1)]
    pub until: Option<Timestamp>,
}

impl Interval {
    /// Is something that *permits* during this interval in force? Its start widens, its end narrows.
    pub fn permits(&self, now: Now) -> bool {
        now.widened_since(self.from) && !self.until.is_some_and(|until| now.narrowed_since(until))
    }

    /// Is something that *restricts* during this interval in force? Its start narrows, its end widens.
    pub fn restricts(&self, now: Now) -> bool {
        now.narrowed_since(self.from) && !self.until.is_some_and(|until| now.widened_since(until))
    }
}
