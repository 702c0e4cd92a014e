//! Recoveries: who can stop one, what stays stopped, and whose keys they need.

use crate::domain::certificate::PrincipalKind;
use crate::domain::codec::to_bytes;
use crate::domain::command::{Command, NewPrincipal, ObjectRef};
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{Reject, mandate_for};
use crate::domain::id::{Digest, ProposalId};
use crate::domain::principal::Role;
use crate::domain::proposal::Lapse;
use crate::domain::recovery::{
    RECOVERY_DELAY_MS, RECOVERY_PREFIX, RecoveryKey, RecoveryKeys, RecoverySignature, SignedRecovery,
};
use crate::domain::revocation::RevocationReason;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

const ID: ProposalId = ProposalId::from_bytes([0x77; 16]);

struct Scene {
    world: World,
    keys: [Officer; 3],
    new: NewPrincipal,
}

/// Two of three recovery keys are needed.
fn scene() -> Scene {
    let keys = ["one", "two", "three"].map(|name| Officer::new(name, &[]));
    let mut world = World::new();
    let named = keys.iter().map(|key| RecoveryKey(key.spki())).collect();
    world.state.recovery = Some(RecoveryKeys { threshold: 2, keys: named });
    let new = NewPrincipal { roles: vec![Role::Approver], ..dave().principal() };
    Scene { world, keys, new }
}

fn key(officer: &Officer) -> Digest {
    Digest::of(&officer.spki())
}

fn block(key: Digest) -> Command {
    Command::BlockKey { key, reason: RevocationReason::KeyCompromise }
}

fn announced(id: ProposalId, signed: SignedRecovery) -> Entry {
    Entry { event: Event::RecoveryAnnounced { id, signed }, by: None, request: None }
}

impl Scene {
    fn sign(&self, new: &NewPrincipal) -> SignedRecovery {
        let command = Command::RegisterPrincipal(new.clone());
        let bytes = to_bytes(&mandate_for(&self.world.state, command, self.world.now));
        let by = |officer: &Officer| {
            let signature = officer.sign(RECOVERY_PREFIX, &bytes).signature;
            RecoverySignature { key: key(officer), signature }
        };
        let signatures = self.keys[..2].iter().map(by).collect();
        SignedRecovery { bytes, signatures }
    }

    fn announce(&mut self) -> SignedRecovery {
        let signed = self.sign(&self.new);
        self.world.record(announced(ID, signed.clone())).unwrap();
        signed
    }

    fn lapse(&self) -> Option<Lapse> {
        self.world.state.recovery_lapse(&self.world.state.recoveries[&ID])
    }
}

#[test]
fn nobody_blocks_so_many_recovery_keys_that_none_can_recover() {
    let Scene { mut world, keys, .. } = scene();
    world.go(block(key(&keys[0])));
    world.go(block(key(&keys[0])));
    for needed in &keys[1..] {
        let refused = world.try_go(block(key(needed)));
        assert!(matches!(refused, Err(Reject::WrongState { .. })), "{refused:?}");
    }
    world.go(Command::UnblockKey(key(&keys[0])));
    world.go(block(key(&keys[1])));
    world.go(block(Digest::of(b"somebody else's")));
}

#[test]
fn a_recovery_of_a_blocked_key_lapses_and_one_that_blocked_keys_signed() {
    let first = |scene: &Scene| key(&scene.keys[0]);
    let new = |scene: &Scene| Digest::of(&scene.new.key);
    for blocked in [&first as &dyn Fn(&Scene) -> Digest, &new] {
        let mut scene = scene();
        scene.announce();
        assert_eq!(scene.lapse(), None);
        let key = blocked(&scene);
        scene.world.go(block(key));
        let why = Lapse::Changed(ObjectRef::Key(key));
        assert_eq!(scene.lapse(), Some(why.clone()));
        scene.world.now = scene.world.now.plus_ms(RECOVERY_DELAY_MS);
        let effect = entry(Event::RecoveryTookEffect(ID));
        assert!(matches!(scene.world.record(effect.clone()), Err(Reject::Conflict(_))));
        let seq = scene.world.state.position.seq.next();
        assert!(scene.world.state.clone().apply(seq, scene.world.now, &effect).is_err());
        scene.world.record(entry(Event::ProposalLapsed { id: ID, why })).unwrap();
        assert!(scene.world.state.recoveries.is_empty());
    }
}

#[test]
fn a_rejected_recovery_is_not_announced_again() {
    let mut scene = scene();
    let signed = scene.announce();
    let reason = "nobody asked for it".to_owned();
    scene.world.record(entry(Event::ProposalRejected { id: ID, reason })).unwrap();
    let again = announced(ProposalId::from_bytes([0x78; 16]), signed);
    let refused = scene.world.record(again.clone());
    assert!(matches!(&refused, Err(Reject::Conflict(why)) if why.contains("rejected")), "{refused:?}");
    let seq = scene.world.state.position.seq.next();
    assert!(scene.world.state.clone().apply(seq, scene.world.now, &again).is_err());
    // Signed anew it is another one.
    scene.world.now = scene.world.now.plus_ms(1_000);
    scene.announce();
}

#[test]
fn nobody_is_registered_with_a_recovery_key() {
    let mut scene = scene();
    let new = NewPrincipal { key: scene.keys[2].spki(), ..scene.new.clone() };
    let signed = scene.sign(&new);
    assert_eq!(scene.world.record(announced(ID, signed)), Err(Reject::Exists("key")));
    assert_eq!(new.kind, PrincipalKind::Officer);
    assert_eq!(scene.world.try_go(Command::RegisterPrincipal(new)), Err(Reject::Exists("key")));
}
