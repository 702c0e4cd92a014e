//! The canonical CBOR inside messages: the first byte says which value the rest should be.
#![no_main]

use std::sync::{Arc, OnceLock};

use countersign::domain::approval::Mandate;
use countersign::domain::codec::from_bytes;
use countersign::domain::command::Command;
use countersign::domain::enforce::{EnforcementEvent, EnforcementSet};
use countersign::domain::entity::EntityCard;
use countersign::domain::event::Genesis;
use countersign::domain::head::SignedHead;
use countersign::domain::time::{Now, Timestamp};
use countersign_fuzz::{array, seed};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match data {
        [0, bytes @ ..] => event(bytes),
        [1, bytes @ ..] => head(bytes),
        [2, bytes @ ..] => card(bytes),
        // What officers sign, and what their command lines show them first.
        [3, bytes @ ..] => drop(from_bytes::<Mandate>(bytes)),
        [4, bytes @ ..] => drop(from_bytes::<Command>(bytes)),
        [5, bytes @ ..] => drop(from_bytes::<Genesis>(bytes)),
        _ => {}
    }
});

/// An event that is read applies, and applies again without a further change.
fn event(bytes: &[u8]) {
    static SET: OnceLock<EnforcementSet> = OnceLock::new();
    let Ok(event) = from_bytes::<EnforcementEvent>(bytes) else { return };
    let mut set = SET.get_or_init(|| from_bytes(&seed("set")).expect("a set")).clone();
    set.apply(&event);
    let once = set.clone();
    set.apply(&event);
    assert_eq!(set, once);
}

fn head(bytes: &[u8]) {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let Ok(head) = from_bytes::<SignedHead>(bytes) else { return };
    let _ = head.verify(KEY.get_or_init(|| array("log-key")));
    assert_eq!(head.follows(&head), Ok(()));
}

fn card(bytes: &[u8]) {
    let Ok(card) = from_bytes::<EntityCard>(bytes) else { return };
    let card = Arc::new(card);
    for at in [i64::MIN, 0, 1_782_561_600_000, i64::MAX] {
        let _ = card.class(Now::with_margin(Timestamp::from_millis(at)));
    }
}
