//! How long a certificate lives: as long as configured, never beyond anything it rests on.
//!
//! Renewals of certificates issued together would come together again; so each life is shortened by up to 10 %.

use thiserror::Error;

use crate::domain::certificate::{BACKDATE_S, TTL_DEFAULT_S, TTL_MAX_S};
use crate::domain::flow::LimitKind;
use crate::domain::time::Timestamp;
use crate::x509::template::SYSTEM_TTL_MAX_S;

/// The least life worth a certificate: below it a client could not renew in time.
pub const LIFE_MIN_S: u32 = 300;
/// A life is shortened by at most one part in this many.
const SHORTENING_MAX_DIVISOR: i64 = 10;

/// How long certificates of one kind live; never above the ceiling in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(u32);

impl Ttl {
    /// A configured life for access certificates, cut to 7 days.
    pub const fn access(ttl_s: u32) -> Self {
        Self(if ttl_s < TTL_MAX_S { ttl_s } else { TTL_MAX_S })
    }

    /// A configured life for system certificates, cut to 90 days.
    pub const fn system(ttl_s: u32) -> Self {
        Self(if ttl_s < SYSTEM_TTL_MAX_S { ttl_s } else { SYSTEM_TTL_MAX_S })
    }

    /// The life in seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for Ttl {
    /// 24 hours.
    fn default() -> Self {
        Self::access(TTL_DEFAULT_S)
    }
}

/// From when until when a certificate is valid, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first instant: a minute before issuance.
    pub not_before: Timestamp,
    /// The last instant.
    pub not_after: Timestamp,
}

/// So little life would be left that no certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("less than 300 s would be left, because of: {}", limit.as_str())]
pub struct TooShort {
    /// What ends it so soon.
    pub limit: LimitKind,
}

/// The validity of a certificate issued now: the earliest of `now + ttl` and the limits, shortened by up to 10 %
/// as the random bytes say, but never under five minutes. A limit is the first instant at which it no longer holds.
pub fn validity(
    now: Timestamp,
    ttl: Ttl,
    limits: &[(LimitKind, Timestamp)],
    random: [u8; 8],
) -> Result<Validity, TooShort> {
    let now_s = now.seconds();
    let mut limit = LimitKind::Ttl;
    let mut end_s = now_s.saturating_add(i64::from(ttl.0));
    for (kind, at) in limits {
        // notAfter is inclusive, so the last good second is the one before a limit that is a whole second.
        let last_s = at.plus_ms(-1).seconds();
        if last_s < end_s {
            limit = *kind;
            end_s = last_s;
        }
    }
    let spare_s = end_s.saturating_sub(now_s).saturating_sub(i64::from(LIFE_MIN_S));
    if spare_s < 0 {
        return Err(TooShort { limit });
    }
    let shortening_max_s = (end_s - now_s) / SHORTENING_MAX_DIVISOR;
    let [a, b, c, d, ..] = random;
    let share = i64::from(u32::from_be_bytes([a, b, c, d]));
    let shortening_s = (shortening_max_s.saturating_mul(share) >> 32).min(spare_s);
    let at = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    Ok(Validity {
        not_before: at(now_s.saturating_sub(i64::from(BACKDATE_S))),
        not_after: at(end_s - shortening_s),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_782_500_000_789);

    #[test]
    fn a_life_is_whole_seconds_backdated_a_minute() {
        let Validity { not_before, not_after } = validity(NOW, Ttl::default(), &[], [0; 8]).unwrap();
        assert_eq!(not_before.millis(), 1_782_499_940_000);
        assert_eq!(not_after.millis(), 1_782_586_400_000);
        let shortest = validity(NOW, Ttl::default(), &[], [0xff; 8]).unwrap();
        assert_eq!(shortest.not_after.millis(), 1_782_586_400_000 - 8_639_000);
    }

    #[test]
    fn five_minutes_are_the_least_and_the_reason_is_named() {
        let end = |s: i64| [(LimitKind::License, Timestamp::from_millis((NOW.seconds() + s) * 1000))];
        assert_eq!(
            validity(NOW, Ttl::default(), &end(300), [0; 8]),
            Err(TooShort { limit: LimitKind::License })
        );
        let left = validity(NOW, Ttl::default(), &end(301), [0xff; 8]).unwrap();
        assert_eq!(left.not_after.seconds() - NOW.seconds(), 300);
        assert_eq!(validity(NOW, Ttl::access(60), &[], [0; 8]), Err(TooShort { limit: LimitKind::Ttl }));
        let past = [(LimitKind::Issuer, Timestamp::from_millis(i64::MIN))];
        assert_eq!(validity(NOW, Ttl::default(), &past, [0; 8]), Err(TooShort { limit: LimitKind::Issuer }));
    }

    proptest! {
        #[test]
        fn no_life_passes_a_limit_or_the_ceiling(
            now_ms in 0_i64..4_000_000_000_000,
            ttl_s: u32,
            ahead_ms in proptest::collection::vec(-1_000_000_i64..1_000_000_000, 0..6),
            random: [u8; 8],
        ) {
            let now = Timestamp::from_millis(now_ms);
            let limits: Vec<_> =
                ahead_ms.iter().map(|ms| (LimitKind::Membership, now.plus_ms(*ms))).collect();
            let unshortened = validity(now, Ttl::access(ttl_s), &limits, [0; 8]);
            let result = validity(now, Ttl::access(ttl_s), &limits, random);
            prop_assert_eq!(unshortened.is_ok(), result.is_ok());
            if let (Ok(longest), Ok(got)) = (unshortened, result) {
                for (_, limit) in &limits {
                    prop_assert!(got.not_after < *limit);
                }
                let life_s = got.not_after.seconds() - now.seconds();
                let longest_s = longest.not_after.seconds() - now.seconds();
                prop_assert!(life_s >= i64::from(LIFE_MIN_S));
                prop_assert!(life_s <= i64::from(TTL_MAX_S.min(ttl_s)));
                prop_assert!(life_s >= (longest_s * 9 / 10).max(i64::from(LIFE_MIN_S)));
                prop_assert!(got.not_after.millis() % 1000 == 0 && got.not_before.millis() % 1000 == 0);
                prop_assert_eq!(now.seconds() - got.not_before.seconds(), i64::from(BACKDATE_S));
            }
        }
    }
}
