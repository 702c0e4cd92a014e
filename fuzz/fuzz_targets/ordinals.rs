//! A set of ordinals: roaring bitmaps as the server or anybody else wrote them. Every ordinal that is listed is in the set,
//! and taking all of them out leaves nothing.
#![no_main]

use countersign::domain::codec::from_bytes;
use countersign::domain::enforce::OrdinalSet;

/// Ordinals that are taken out one by one; more would only be slow.
const TAKEN_MAX: usize = 10_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(set) = from_bytes::<OrdinalSet>(data) else { return };
    let listed: Vec<_> = set.iter().take(TAKEN_MAX).collect();
    assert!(listed.is_sorted() && listed.iter().all(|ordinal| set.contains(*ordinal)));
    let mut rest = set.clone();
    listed.iter().for_each(|ordinal| rest.remove(*ordinal));
    assert_eq!(rest.len(), set.len() - listed.len() as u64);
    listed.iter().for_each(|ordinal| rest.insert(*ordinal));
    assert_eq!(rest, set);
});
