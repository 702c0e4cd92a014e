use std::sync::{Arc, Mutex};

use super::shared::Shared;
use super::{Heads, LogKey, TrustedTime};
use crate::ca::{FileSigner, SignatureAlgorithm};
use crate::domain::codec::from_bytes;
use crate::domain::head::SignedHead;
use crate::domain::id::{BootId, Epoch};
use crate::domain::state::State;
use crate::env::Clock;
use crate::feed;
use crate::feed::tests::world::{NOW, World};
use crate::journal::memory::MemoryJournal;
use crate::journal::{Batch, Draft, Journal, Outcome};

fn append(journal: &MemoryJournal) {
    let next = journal.head().seq.next();
    let drafts = vec![Draft { kind: 0, body: vec![0] }];
    let writer = BootId::from_bytes([1; 16]);
    let batch = Batch { writer, nonce: next.0, time: NOW, drafts, restricting: false };
    assert_eq!(journal.append(next, &batch), Outcome::Done(next));
}

/// A service as the feed's tests know it, with a journal that is as far as its state.
struct Signing {
    world: World,
    journal: Arc<MemoryJournal>,
    shared: Arc<Shared>,
    heads: Heads,
}

fn signing() -> Signing {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let key = FileSigner::create(&dir.path().join("log.pem"), SignatureAlgorithm::Ed25519).unwrap();
    let journal = Arc::new(MemoryJournal::new(Epoch(1)));
    while journal.head().seq < world.state.position.seq {
        append(&journal);
    }
    let time = TrustedTime::start(NOW, 0, NOW);
    let shared = Arc::new(Shared::new(State::clone(&world.state), time));
    let heads = Heads {
        shared: Arc::clone(&shared),
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
        key: LogKey(Arc::new(key)),
        last: Mutex::new(None),
        trees: Mutex::default(),
    };
    Signing { world, journal, shared, heads }
}

/// As streams are sent it.
fn signed(heads: &Heads) -> SignedHead {
    from_bytes(&feed::Heads::signed_head(heads)).unwrap()
}

#[test]
fn a_head_is_signed_when_its_state_is_published_and_not_before() {
    let Signing { mut world, journal, shared, heads } = signing();
    let before = world.state.position.seq;
    assert_eq!(signed(&heads).seq, before);
    append(&journal);
    world.clock.advance_ms(1_000);
    assert_eq!(signed(&heads).seq, before, "durable, and not visible yet");
    assert_eq!(heads.signed_now().unwrap().0.seq, before, "and nothing that is visible is missing");
    world.lock(1);
    shared.state.store(Arc::clone(&world.state));
    assert_eq!(world.state.position.seq, before.next());
    let after = signed(&heads);
    assert_eq!((after.seq, after.root), (before.next(), journal.head().root));
}

#[test]
fn streams_share_a_head_for_a_while_and_who_asks_gets_one_of_now() {
    let Signing { mut world, journal, shared, heads } = signing();
    let before = signed(&heads).seq;
    append(&journal);
    world.lock(1);
    shared.state.store(Arc::clone(&world.state));
    assert_eq!(signed(&heads).seq, before, "as fresh as streams need it");
    assert_eq!(heads.signed_now().unwrap().0.seq, before.next());
    assert_eq!(signed(&heads).seq, before.next(), "and then everybody has it");
}
