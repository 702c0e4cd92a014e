//! One entity against a list as large as the published one. `cargo test --release --lib screening::tests::speed --
//! --nocapture` prints the figures of a shipped build.

use super::files::entry;
use crate::screening::{NameIndex, Query};

/// As many as are published, with three names each.
const ENTRIES: usize = 25_000;
const ENTITIES: usize = if cfg!(debug_assertions) { 20 } else { 500 };
/// Far more than it takes without optimisation on one slow core: a scan of all pairs takes half an hour there.
const LIMIT_S: u64 = 120;

/// Invented syllables, so that words are as many and as alike as in a real list.
fn word(seed: usize) -> String {
    const PARTS: [&str; 20] = [
        "ba", "chen", "dor", "el", "fan", "gor", "hua", "in", "jin", "ka", "lo", "mir", "no", "ost", "pra",
        "qui", "ra", "shan", "tek", "vol",
    ];
    let part = |n: usize| PARTS[(seed / n.max(1)) % PARTS.len()];
    format!("{}{}{}", part(1), part(20), part(400))
}

fn name(n: usize) -> String {
    const ORDINARY: [&str; 8] = [
        "Technology",
        "Trading",
        "Institute",
        "International",
        "Industries",
        "Electronics",
        "Export",
        "Group",
    ];
    let n = n.wrapping_mul(7_919);
    format!("{} {} {} Co., Ltd.", word(n % 8_000), word((n / 3) % 8_000), ORDINARY[n % 8])
}

/// An index as large as that of the published list.
pub(super) fn published() -> NameIndex {
    let mut index = NameIndex::new();
    for n in 0..ENTRIES {
        index.add(entry(&name(n), &[&name(n + 40_000), &name(n + 90_000)], "CN")).unwrap();
    }
    index
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn an_entity_against_the_whole_list_takes_milliseconds() {
    let started = std::time::Instant::now();
    let index = published();
    let built = started.elapsed();
    let started = std::time::Instant::now();
    let hits: usize = (0..ENTITIES)
        .map(|n| index.find(Query { name: &name(n * 31 + 7), country: None, score_min: 82 }).len())
        .sum();
    let took = started.elapsed();
    let per_entity_ms = took.as_secs_f64() * 1_000.0 / ENTITIES as f64;
    println!(
        "index of {ENTRIES} entries, 3 names each: {built:.1?}; {ENTITIES} entities: {took:.1?}, {per_entity_ms:.2} ms each, \
         {:.0} entries/s, {hits} hits",
        (ENTRIES * ENTITIES) as f64 / took.as_secs_f64()
    );
    assert!(hits > 0 && took.as_secs() < LIMIT_S, "{took:?}");
}
