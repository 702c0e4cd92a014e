//! Certificates that were verified before, by the hash of their bytes. Only what can never change is kept: time, lease,
//! stops and revocation are looked at on every call.
//!
//! Readers take no lock and write to no memory that another thread reads: a shard is a persistent map behind an atomic
//! pointer, and who adds a certificate replaces it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use imbl::HashMap;

use crate::domain::certificate::Certificate;
use crate::domain::id::Digest;

/// The most certificates that are kept: 100,000, some 60 MiB.
const CERTIFICATES_MAX: usize = 100_000;
/// Shards, so that threads that add at once rarely meet.
const SHARDS: usize = 16;
/// A shard has two halves of this size; when the young one is full it becomes the old one, and the old one goes.
const HALF_MAX: usize = CERTIFICATES_MAX / SHARDS / 2;

/// The certificates of a shard at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    young: HashMap<Digest, Arc<Certificate>>,
    old: HashMap<Digest, Arc<Certificate>>,
}

impl Kept {
    pub(super) fn get(&self, hash: &Digest) -> Option<&Arc<Certificate>> {
        self.young.get(hash).or_else(|| self.old.get(hash))
    }
}

/// What is kept now, and the lock of who replaces it.
#[derive(Debug, Default)]
pub(super) struct Shard {
    kept: ArcSwap<Kept>,
    adding: Mutex<()>,
}

impl Shard {
    pub(super) fn load(&self) -> Guard<Arc<Kept>> {
        self.kept.load()
    }
}

/// Verified certificates under one state of trust. Another state of trust gets a new cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    shards: [Shard; SHARDS],
}

impl Cache {
    pub(super) fn shard(&self, hash: &Digest) -> &Shard {
        let [first, ..] = hash.0;
        let [zeroth, ..] = &self.shards;
        self.shards.get(usize::from(first) % SHARDS).unwrap_or(zeroth)
    }

    pub(super) fn put(&self, hash: Digest, certificate: Arc<Certificate>) {
        let shard = self.shard(&hash);
        let _adding = shard.adding.lock().unwrap_or_else(PoisonError::into_inner);
        // Maps share what they have in common: this copies a few nodes, not a map.
        let mut kept = Kept::clone(&shard.kept.load());
        if kept.young.len() >= HALF_MAX {
            kept.old = std::mem::take(&mut kept.young);
        }
        kept.young.insert(hash, certificate);
        shard.kept.store(Arc::new(kept));
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
        let cache = Cache::default();
        let hash = |n: usize| Digest::of(&n.to_be_bytes());
        let holds = |n: usize| cache.shard(&hash(n)).load().get(&hash(n)).is_some();
        for n in 0..2 * CERTIFICATES_MAX {
            cache.put(hash(n), Arc::clone(&certificate));
        }
        let kept = (0..2 * CERTIFICATES_MAX).filter(|n| holds(*n)).count();
        assert!((CERTIFICATES_MAX / 3..=CERTIFICATES_MAX).contains(&kept), "{kept}");
        assert!(holds(2 * CERTIFICATES_MAX - 1));
        assert!(!holds(0));
    }
}
