use super::*;
use crate::domain::id::Epoch;

fn place(shard: u64) -> Place {
    Place { authority: AuthorityId::from_bytes([1; 16]), kind: AuthorityKind::Access, shard }
}

fn kept(second: i64, used_ms: u64) -> Kept {
    let signed_at = Timestamp::from_millis(second * 1_000);
    let list = PublishedCrl {
        der: Bytes::new(),
        number: CrlNumber::new(Epoch(1), 1, Seq(1)).unwrap(),
        signed_at,
        next_update: signed_at.plus_ms(60_000),
        is_dated: true,
    };
    let basis = Basis { feed_seq: Seq(1), principals: OrdMap::new(), certificates: OrdMap::new() };
    Kept { list, entries: Vec::new(), basis, used_ms }
}

fn crls() -> Crls {
    Crls::new(60, Seq(1), Timestamp::from_millis(0))
}

#[test]
fn no_more_lists_are_kept_than_allowed_and_the_least_wanted_goes() {
    let crls = crls();
    for shard in 0..KEPT_MAX as u64 {
        // Shard 7 was not asked for the longest.
        let used_ms = if shard == 7 { 1 } else { 100 + shard };
        assert_eq!(crls.keep(place(shard), kept(i64::try_from(shard).unwrap(), used_ms)), None);
    }
    // Who comes back for it cannot know it by its time.
    assert_eq!(crls.keep(place(9_999), kept(1, 500)), Some(Timestamp::from_millis(7_000)));
    assert_eq!(crls.kept().len(), KEPT_MAX);
    assert_eq!(crls.signed_at(place(7)), None);
    // The same shard again takes no place of another.
    assert_eq!(crls.keep(place(9_999), kept(2, 501)), None);
}

#[test]
fn a_list_is_young_in_the_first_half_of_its_life() {
    let (crls, list) = (crls(), kept(1_000, 0).list);
    let at = |ms: i64| Timestamp::from_millis(1_000_000 + ms);
    assert!(crls.is_young(&list, at(0)) && crls.is_young(&list, at(29_999)));
    assert!(!crls.is_young(&list, at(30_000)));
    // A clock that was set back: the list would hold from the future on.
    assert!(!crls.is_young(&list, at(-1)));
}

#[test]
fn signatures_are_counted_upwards_whatever_the_clock_does() {
    let numbers = Numbers::default();
    let given = [5, 5, 3, 9, -1, i64::MAX, 4].map(|ms| numbers.next(Timestamp::from_millis(ms)));
    let most = i64::MAX.unsigned_abs();
    assert_eq!(given, [5, 6, 7, 9, 10, most, most + 1]);
}
