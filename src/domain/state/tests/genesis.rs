//! Genesis: two officers who can approve, and nothing in force that the code's ceilings do not allow.

use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{AuthorityKind, PrincipalKind, TTL_MAX_S};
use crate::domain::codec::to_bytes;
use crate::domain::determination::DeterminationKind;
use crate::domain::enforce::LEASE_MAX_MS;
use crate::domain::entity::EntityStatus;
use crate::domain::event::{Entry, Event, Genesis};
use crate::domain::flow::{Reject, admit};
use crate::domain::id::{Digest, Epoch, Seq};
use crate::domain::principal::Role;
use crate::domain::state::{ApplyFault, State};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;

fn begin(entry: &Entry) -> Result<State, ApplyFault> {
    State::genesis(Epoch(1), at(GENESIS_AT), entry)
}

/// Why a changed genesis, signed by both, is refused.
fn refused(change: impl FnOnce(&mut Genesis)) -> String {
    let mut genesis = genesis();
    change(&mut genesis);
    begin(&genesis_entry(to_bytes(&genesis), &[alice(), bob()])).unwrap_err().why
}

#[test]
fn genesis_establishes_officers_provider_policy_and_authorities() {
    let bytes = to_bytes(&genesis());
    let state = begin(&genesis_entry(bytes.clone(), &[alice(), bob()])).unwrap();
    assert_eq!((state.position.epoch, state.position.seq), (Epoch(1), Seq(1)));
    assert_eq!((state.principals.len(), state.authorities.len()), (2, 2));
    let provider = &state.entities[&PROVIDER];
    assert_eq!((provider.status, provider.card.is_provider), (EntityStatus::Active, true));
    assert_eq!(state.bundle(), &sample());
    assert_eq!((state.feed_digest, state.feed_seq), (Digest::of(&bytes), Seq(1)));
    assert_eq!(state.enforcement.lease_ms, 10_000);
    assert_eq!(state.authority(AuthorityKind::Access).unwrap().id, ACCESS_CA);
}

#[test]
fn both_officers_sign_genesis() {
    let bytes = to_bytes(&genesis());
    for (signers, missing) in [(vec![alice()], "bob"), (vec![bob()], "alice"), (vec![alice(), dave()], "bob")]
    {
        let fault = begin(&genesis_entry(bytes.clone(), &signers)).unwrap_err();
        assert_eq!(fault.why, format!("genesis is not signed by {missing}"));
    }
    let mut forged = genesis_entry(bytes, &[alice(), bob()]);
    if let Event::Genesis { bytes, .. } = &mut forged.event {
        *bytes = to_bytes(&Genesis { ttl_s: 1, ..genesis() });
    }
    assert_eq!(begin(&forged).unwrap_err().why, "genesis is not signed by alice");
}

#[test]
fn genesis_has_exactly_two_different_officers_who_can_approve() {
    let two = "genesis needs two officers with different names and keys";
    assert_eq!(refused(|g| g.officers.truncate(1)), two);
    assert_eq!(refused(|g| g.officers[1] = alice().principal()), two);
    assert_eq!(
        begin(&genesis_entry(
            to_bytes(&Genesis {
                officers: vec![alice().principal(), bob().principal(), dave().principal()],
                ..genesis()
            }),
            &[alice(), bob(), dave()],
        ))
        .unwrap_err()
        .why,
        two
    );
    assert_eq!(
        refused(|g| g.officers[0].kind = PrincipalKind::Gateway),
        "a principal of genesis is not an officer"
    );
    assert_eq!(refused(|g| g.officers[0].roles = vec![Role::Vetter]), "an officer of genesis cannot approve");
}

#[test]
fn genesis_has_one_authority_of_each_kind() {
    let why = "genesis needs one access and one system authority";
    assert_eq!(refused(|g| g.authorities.truncate(1)), why);
    assert_eq!(refused(|g| g.authorities[1].kind = AuthorityKind::Access), why);
}

#[test]
fn genesis_stays_under_the_ceilings() {
    assert!(refused(|g| g.lease_ms = LEASE_MAX_MS + 1).contains("lease"));
    assert!(refused(|g| g.lease_ms = 0).contains("lease"));
    assert!(refused(|g| g.ttl_s = TTL_MAX_S + 1).contains("certificates"));
    assert!(refused(|g| g.ttl_s = 0).contains("certificates"));
    assert!(refused(|g| g.log_key.truncate(31)).contains("log key"));
}

#[test]
fn genesis_refuses_a_bundle_that_does_not_fit_together() {
    let why = refused(|g| g.bundle.determinations.retain(|d| d.kind != DeterminationKind::IsInformedNotice));
    assert!(why.contains("which is not in the bundle"), "{why}");
}

#[test]
fn genesis_is_the_first_record_and_only_that() {
    let world = World::new();
    let again = genesis_entry(to_bytes(&genesis()), &[alice(), bob()]);
    assert_eq!(admit(&world.state, &again, world.now).unwrap_err(), Reject::Exists("genesis"));
    let fault = world.state.clone().apply(world.state.position.seq.next(), world.now, &again).unwrap_err();
    assert_eq!(fault.why, "genesis is not the first record");
    let other = entry(Event::InstantPassed(world.now));
    assert_eq!(begin(&other).unwrap_err().why, "the first record is not genesis");
}

#[test]
fn the_profile_of_genesis_holds_for_the_keys_in_it_and_is_standard_when_it_is_absent() {
    let cnsa = |g: &mut Genesis| g.algorithms = Some(AlgorithmProfile::Cnsa);
    let why = refused(cnsa);
    assert!(why.starts_with("the key of alice: ") && why.contains("P-384 keys only"), "{why}");
    let state = begin(&genesis_entry(to_bytes(&genesis()), &[alice(), bob()])).unwrap();
    assert_eq!(state.settings.algorithms(), AlgorithmProfile::Standard);
    // The bytes of a genesis without one are those of before there were profiles.
    let mut told = genesis();
    cnsa(&mut told);
    let first = |genesis: &Genesis| to_bytes(genesis)[0];
    assert_eq!((first(&genesis()), first(&told)), (0x89, 0x8c));
}
