//! The enforcement set of a snapshot, after decompression. What is read can be asked about everything.
#![no_main]

use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::enforce::{EnforcementSet, Names};
use countersign::domain::id::{AuthorityId, Digest, EntityId, LineageId, Ordinal, SubjectId};
use countersign::domain::time::{Now, Timestamp};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(set) = from_bytes::<EnforcementSet>(data) else { return };
    assert_eq!(to_bytes(&set), data);
    for ordinal in [0, 1, 65_535, 65_536, set.ceiling.0, u64::MAX] {
        let names = Names {
            issuer: AuthorityId::from_bytes([1; 16]),
            ordinal: Ordinal(ordinal),
            entity: EntityId::from_bytes([2; 16]),
            subject: SubjectId::from_bytes([3; 16]),
            lineage: LineageId::from_bytes([4; 16]),
            determination: None,
            annex_revision: None,
            key: Digest([5; 32]),
        };
        let now = Now::with_margin(Timestamp::from_millis(1_782_518_400_000));
        let fault = set.fault_of(&names, now);
        assert!(fault.is_some() || (ordinal <= set.ceiling.0 && !set.revoked.contains(names.ordinal)));
        let _ = (set.is_barred(&names), set.is_suspended(names.entity, names.subject));
    }
});
