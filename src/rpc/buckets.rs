//! How many calls each caller has left, of all, of each class and of those that are refused. A bucket is one instant: when it
//! will be full again.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::caller::Who;
use super::limits::Rate;
use super::methods::Class;
use crate::app::Error;
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::{Ordinal, PrincipalId};

/// How often a full table is looked through: a flood of new addresses must not pay for a walk with each call.
const SWEEP_MS: u32 = 1_000;
const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Whose bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Principal(PrincipalId),
    Subject(Ordinal),
    /// Of a certificate of ours that is not accepted.
    Refused(AuthorityKind, Ordinal),
    /// Who showed no certificate is known by address.
    Network(Option<IpAddr>),
}

impl From<PrincipalId> for Key {
    fn from(id: PrincipalId) -> Self {
        Self::Principal(id)
    }
}

impl Key {
    pub(super) fn of(who: &Who, address: Option<IpAddr>) -> Self {
        match who {
            Who::Principal(id) | Who::Expired(id) => Self::Principal(id.clone()),
            Who::Subject(certificate) => Self::Subject(certificate.ordinal),
            Who::Anonymous => Self::Network(address.map(network)),
        }
    }
}

/// One IPv4 address, or an IPv6 /64: a host has all of it to choose from (RFC 4291 section 2.5.4).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(id) => write!(f, "{id}"),
            Self::Subject(ordinal) => write!(f, "certificate {ordinal}"),
            Self::Refused(authority, ordinal) => {
                write!(f, "refused certificate {} {ordinal}", authority.as_str())
            }
            Self::Network(Some(address)) => write!(f, "network {address}"),
            Self::Network(None) => f.write_str("network"),
        }
    }
}

/// Which budget of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Budget {
    /// Of all calls.
    All,
    /// Of those of a class.
    Of(Class),
    /// Of those that it may not make.
    Refused,
}

type Bucket = (Key, Budget);

/// Buckets that are not full. Those of certificates are as many as there are certificates; those of strangers have room
/// for `max` in all.
#[derive(Debug)]
pub(super) struct Buckets {
    full_at_ns: HashMap<Bucket, u64>,
    max: usize,
    swept_ms: Option<u64>,
}

impl Buckets {
    pub(super) fn new(max: usize) -> Self {
        Self { full_at_ns: HashMap::new(), max, swept_ms: None }
    }

    /// Takes one call out of a bucket, or says when there will be one.
    pub(super) fn take(&mut self, key: Bucket, rate: Rate, now_ms: u64) -> Result<(), Error> {
        if !self.full_at_ns.contains_key(&key) && !self.has_room(&key.0, now_ms) {
            return Err(Error::Limit { retry_after_ms: SWEEP_MS });
        }
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let cost_ns = NS_PER_S / u64::from(rate.per_s.max(1));
        let full_at_ns = self.full_at_ns.entry(key).or_default();
        let next_ns = (*full_at_ns).max(now_ns).saturating_add(cost_ns);
        let over_ns = (next_ns - now_ns).saturating_sub(cost_ns.saturating_mul(u64::from(rate.burst)));
        if over_ns > 0 {
            let retry_after_ms = u32::try_from(over_ns.div_ceil(NS_PER_MS)).unwrap_or(u32::MAX);
            return Err(Error::Limit { retry_after_ms });
        }
        *full_at_ns = next_ns;
        Ok(())
    }

    /// A full bucket is like none, so those go first. Strangers then wait; who has a certificate does not.
    fn has_room(&mut self, key: &Key, now_ms: u64) -> bool {
        let is_due = self.swept_ms.is_none_or(|at| now_ms.saturating_sub(at) >= u64::from(SWEEP_MS));
        if self.full_at_ns.len() >= self.max && is_due {
            self.full_at_ns.retain(|_, full_at_ns| *full_at_ns > now_ms.saturating_mul(NS_PER_MS));
            self.swept_ms = Some(now_ms);
        }
        self.full_at_ns.len() < self.max || !matches!(key, Key::Network(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 2, burst: 3 };

    fn stranger(address: &str) -> Bucket {
        (Key::of(&Who::Anonymous, Some(address.parse().unwrap())), Budget::All)
    }

    fn wait_ms(answer: Result<(), Error>) -> u32 {
        match answer {
            Ok(()) => 0,
            Err(Error::Limit { retry_after_ms }) => retry_after_ms,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut buckets = Buckets::new(10);
        let mut take = |at_ms| wait_ms(buckets.take(stranger("192.0.2.1"), RATE, at_ms));
        assert_eq!([take(5_000), take(5_000), take(5_000)], [0, 0, 0]);
        assert_eq!([take(5_000), take(5_100), take(5_499)], [500, 400, 1], "what is refused costs nothing");
        assert_eq!([take(5_500), take(5_500)], [0, 500]);
        // Rest fills it up to the burst and no further.
        assert_eq!([take(99_000), take(99_000), take(99_000), take(99_000)], [0, 0, 0, 500]);
    }

    #[test]
    fn classes_have_buckets_of_their_own() {
        let mut buckets = Buckets::new(10);
        let caller = Key::Principal("officer-1".parse().unwrap());
        let mut take = |budget| wait_ms(buckets.take((caller.clone(), budget), RATE, 0));
        let list = Budget::Of(Class::List);
        assert_eq!([take(list), take(list), take(list), take(list)], [0, 0, 0, 500]);
        assert_eq!([take(Budget::Of(Class::Mutation)), take(Budget::All), take(Budget::Refused)], [0, 0, 0]);
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_half_an_ipv6_address() {
        assert_eq!(stranger("2001:db8:1:2::1"), stranger("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(stranger("2001:db8:1:2::1"), stranger("2001:db8:1:3::1"));
        assert_ne!(stranger("192.0.2.1"), stranger("192.0.2.2"));
        // As a listener on :: sees them.
        assert_eq!(stranger("::ffff:192.0.2.1"), stranger("192.0.2.1"));
        assert_ne!(stranger("::ffff:192.0.2.1"), stranger("::ffff:192.0.2.2"));
    }

    #[test]
    fn a_full_table_forgets_full_buckets_and_refuses_new_strangers_only() {
        let mut buckets = Buckets::new(2);
        for _ in 0..3 {
            assert_eq!(wait_ms(buckets.take(stranger("192.0.2.1"), RATE, 0)), 0);
        }
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.2"), RATE, 0)), 0);
        // Neither is full again: nobody is forgotten for a newcomer.
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.3"), RATE, 10)), 1_000);
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.1"), RATE, 10)), 490);
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.2"), RATE, 10)), 0);
        // Who has a certificate is let in all the same.
        let principal = (Key::Principal("gw-1".parse().unwrap()), Budget::All);
        assert_eq!(wait_ms(buckets.take(principal.clone(), RATE, 10)), 0);
        // A second later the second stranger's bucket and the principal's are full, and the first one's is not.
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.3"), RATE, 1_010)), 0);
        let known: Vec<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(stranger).into();
        let kept = |key: &&Bucket| buckets.full_at_ns.contains_key(key);
        assert_eq!(known.iter().filter(kept).collect::<Vec<_>>(), [&known[0], &known[2]]);
        assert!(!buckets.full_at_ns.contains_key(&principal));
    }

    #[test]
    fn a_full_table_is_walked_once_a_second() {
        let mut buckets = Buckets::new(1);
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.1"), RATE, 0)), 0);
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.2"), RATE, 499)), 1_000);
        // The first bucket is full again, and nobody has looked since.
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.2"), RATE, 501)), 1_000);
        assert_eq!(wait_ms(buckets.take(stranger("192.0.2.2"), RATE, 1_499)), 0);
    }
}
