//! Certificates that were verified before, by the hash of their bytes. Only what can never change is kept: time, lease,
//! stops and revocation are looked at on every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::certificate::Certificate;
use crate::domain::id::Digest;

/// The most certificates that are kept: 100,000, some 60 MiB.
const CERTIFICATES_MAX: usize = 100_000;
/// Locks, so that threads that decide at once rarely meet.
const SHARDS: usize = 16;
/// A shard has two halves of this size; when the young one is full it becomes the old one, and the old one goes.
const HALF_MAX: usize = CERTIFICATES_MAX / SHARDS / 2;

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Digest, Arc<Certificate>>,
    old: HashMap<Digest, Arc<Certificate>>,
}

/// Verified certificates under one state of trust. Another state of trust gets a new cache.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, hash: &Digest) -> Option<&Mutex<Shard>> {
        let [first, ..] = hash.0;
        self.shards.get(usize::from(first) % SHARDS)
    }

    pub(super) fn get(&self, hash: &Digest) -> Option<Arc<Certificate>> {
        let shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.young.get(hash).or_else(|| shard.old.get(hash)).cloned()
    }

    pub(super) fn put(&self, hash: Digest, certificate: Arc<Certificate>) {
        let Some(shard) = self.shard(&hash) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.young.len() >= HALF_MAX {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(hash, certificate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::{Facts, PrincipalKind, Serial, SystemFacts};
    use crate::domain::id::{AuthorityId, Ordinal};
    use crate::domain::time::Timestamp;

    #[test]
    fn the_cache_is_bounded_and_keeps_the_young() {
        let certificate = Arc::new(Certificate {
            hash: Digest::default(),
            issuer: AuthorityId::from_bytes([0; 16]),
            serial: Serial::from_random([0; 16]),
            ordinal: Ordinal(1),
            not_before: Timestamp::default(),
            not_after: Timestamp::default(),
            key: Digest::default(),
            facts: Facts::System(SystemFacts {
                kind: PrincipalKind::Gateway,
                principal: "g".parse().unwrap(),
            }),
        });
        let cache = Cache::new();
        let hash = |n: usize| Digest::of(&n.to_be_bytes());
        for n in 0..2 * CERTIFICATES_MAX {
            cache.put(hash(n), Arc::clone(&certificate));
        }
        let kept = (0..2 * CERTIFICATES_MAX).filter(|n| cache.get(&hash(*n)).is_some()).count();
        assert!((CERTIFICATES_MAX / 3..=CERTIFICATES_MAX).contains(&kept), "{kept}");
        assert!(cache.get(&hash(2 * CERTIFICATES_MAX - 1)).is_some());
        assert!(cache.get(&hash(0)).is_none());
    }
}
