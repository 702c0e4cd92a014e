//! "Renew now, cut at T" over the wire: gateways cut by themselves, lists are never good beyond T without saying so, and whoever
//! watches sees how much is left.

use std::sync::Arc;
use std::time::Duration;

use countersign::app::Term;
use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::command::Command;
use countersign::domain::enforce::message::Strength;
use countersign::domain::event::Event;
use countersign::domain::id::{AnnouncementId, EntityId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, ManualClock, SystemEntropy};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::x509::TrustBundle;
use countersign::x509::crl_read;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::calls::{denied, enrolled, key, refused};
use crate::cli_served::Served;
use crate::gate::{self, PATIENCE, STRONG, permits, question};
use crate::world::{Caller, World};

const REASON: RevocationReason = RevocationReason::CaCompromise;
const HOUR_MS: u32 = 3_600_000;

impl World {
    pub(crate) fn announcement(
        &self,
        scope: RevocationScope,
        in_ms: u32,
    ) -> (AnnouncementId, Timestamp, Command) {
        let id = AnnouncementId::from_parts(self.clock.now(), SystemEntropy.bytes16());
        let cut_at = self.clock.now().plus_ms(i64::from(in_ms));
        (id, cut_at, Command::AnnounceRevocation { id, scope, cut_at, reason: REASON })
    }

    pub(crate) async fn announce(&self, scope: RevocationScope, in_ms: u32) -> (AnnouncementId, Timestamp) {
        let (id, cut_at, command) = self.announcement(scope, in_ms);
        let done = self.restrict(command, pb::Wait::Enforced).await.unwrap();
        assert!(done.pending.is_empty() && done.durable);
        (id, cut_at)
    }

    pub(crate) fn access_issuer(&self) -> RevocationScope {
        RevocationScope::Issuer(self.running().app().state().authority(AuthorityKind::Access).unwrap().id)
    }

    async fn next_of(&self, caller: &Caller) -> Caller {
        let key = key();
        let certificate = self.renew(&self.connect_as(caller).await, &key).await.unwrap();
        Caller { key, certificate }
    }
}

/// Lets time pass at a gateway that would notice if it had stood still.
async fn pass(clock: &ManualClock, ms: u32) {
    for _ in 0..ms / 25 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        clock.advance_ms(25);
    }
}

async fn member(world: &World, entity: EntityId) -> Caller {
    world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_cut_at_the_instant_though_the_server_is_gone_and_close_what_is_open() {
    let mut world = World::start().await;
    let (entity, _, old) = enrolled(&world).await;
    let clock = Arc::new(ManualClock::at(world.clock.now()));
    let strength = Strength { per_request: false, closes_connections: true, ..STRONG };
    let gateway = world.gateway("gw-1").await;
    let gate = gate::connect(&world, (&gateway, world.running().address()), strength, &clock).await;
    let in_time = {
        let (_, cut_at) = world.announce(world.access_issuer(), 8_000).await;
        assert_eq!(cut_at, clock.now().plus_ms(8_000));
        world.next_of(&old).await
    };
    let outside = member(&world, entity).await;
    gate.want(entity);
    gate::until(&gate, &old.certificate, permits).await;
    assert!(permits(&gate, &in_time.certificate));
    let (open, going_on) = (
        gate.connections().register(&old.certificate).unwrap(),
        gate.connections().register(&in_time.certificate).unwrap(),
    );
    world.close().await;
    // A second early at most: the gateway's clock may be that much behind.
    pass(&clock, 6_900).await;
    assert!(permits(&gate, &old.certificate), "{:?}", gate.status());
    pass(&clock, 200).await;
    assert_eq!(gate.decide(&old.certificate, &question("mythos-5")).decision.code(), "CREDENTIAL_REVOKED");
    assert!(permits(&gate, &in_time.certificate) && permits(&gate, &outside.certificate));
    assert_eq!(tokio::time::timeout(PATIENCE, open.denied()).await.unwrap(), "CREDENTIAL_REVOKED");
    assert_eq!(going_on.why_denied(), None);
    // Back again, with the time that passed: the server refuses it too, at every door, and says so on record.
    world.clock.advance_ms(8_000);
    world.open().await;
    denied(&world.mythos(&old.certificate).await, "CREDENTIAL_REVOKED");
    assert!(world.mythos(&in_time.certificate).await.permit);
    let renewal = world.renew(&world.connect_as(&old).await, &key()).await;
    refused(renewal, Code::Unauthenticated, "your certificate is refused");
    world.recorded(|event| matches!(event, Event::AnnouncementPassed(_))).await;
}

impl World {
    /// Waits until an event of this kind is on record.
    async fn recorded(&self, is: impl Fn(&Event) -> bool) {
        let found = async {
            loop {
                let records =
                    self.running().app().journal().read(countersign::domain::id::Seq(1), 100_000).unwrap();
                let entries = records.iter().map(|record| countersign::app::store::entry_of(record).unwrap());
                if entries.into_iter().any(|entry| is(&entry.event)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it is recorded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_and_no_pushed_set_is_good_beyond_the_instant_without_naming_it() {
    let world = World::start().await;
    let (entity, _, old) = enrolled(&world).await;
    let authority = world.running().app().state().authority(AuthorityKind::Access).unwrap().id;
    let serial = world.read(&old.certificate).serial;
    let bundle = TrustBundle::from_pem(&world.access_pem()).unwrap();
    let listed = |der: &[u8]| crl_read::read(der, &bundle).unwrap().serials.contains(&serial);
    // A list from before is not confirmed: it was good for an hour.
    let before = world.running().app().crl(authority, 0).await.unwrap().unwrap();
    assert_eq!(before.next_update, world.clock.now().plus_ms(i64::from(HOUR_MS)));
    let (_, cut_at) = world.announce(RevocationScope::Entity(entity), 600_000).await;
    let whole = |at: Timestamp| Timestamp::from_millis(at.seconds() * 1_000);
    for (left_ms, passed_ms) in [(600_000, 0), (60_000, 540_000), (3_500, 56_500)] {
        world.clock.advance_ms(passed_ms);
        assert_eq!(world.clock.now(), cut_at.plus_ms(-left_ms));
        let list = world.running().app().crl(authority, 0).await.unwrap().unwrap();
        assert_eq!((list.next_update, listed(&list.der)), (whole(cut_at), false), "{left_ms}");
        let set = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
        assert_eq!((set.next_update, set.entries), (whole(cut_at), 0), "{left_ms}");
        let leased = world.running().app().trust_set(Term::Leased, None).await.unwrap();
        assert!(leased.next_update <= cut_at && leased.entries == 0, "{left_ms}");
        assert!(leased.next_update > world.clock.now(), "nobody else is shut out: {left_ms}");
    }
    for (before_ms, passed_ms) in [(3_000, 500), (0, 3_000), (-60_000, 60_000)] {
        world.clock.advance_ms(passed_ms);
        assert_eq!(world.clock.now(), cut_at.plus_ms(-before_ms));
        let list = world.running().app().crl(authority, 0).await.unwrap().unwrap();
        assert!(listed(&list.der) && list.next_update > cut_at, "{before_ms}");
        let set = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
        // One that ends in time may still be the last.
        assert!(set.entries == 1 || (before_ms == 3_000 && set.next_update <= cut_at), "{before_ms}");
    }
}

pub(crate) async fn watch(channel: Channel) -> Streaming<pb::WatchRenewalsResponse> {
    let mut client = RevocationServiceClient::new(channel);
    client.watch_renewals(pb::WatchRenewalsRequest {}).await.unwrap().into_inner()
}

/// When a subject is to renew its certificate.
pub(crate) async fn window(world: &World, caller: &Caller) -> pb::GetRenewalResponse {
    let mut client = AttestationServiceClient::new(world.connect_as(caller).await);
    client.get_renewal(pb::GetRenewalRequest {}).await.unwrap().into_inner()
}

/// The next message in which it is so.
pub(crate) async fn seen(
    stream: &mut Streaming<pb::WatchRenewalsResponse>,
    is_so: impl Fn(&[pb::RenewalCampaign]) -> bool,
) -> Vec<pb::RenewalCampaign> {
    let found = async {
        loop {
            let message = stream.message().await.unwrap().expect("the stream goes on");
            if is_so(&message.campaigns) {
                return message.campaigns;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it is shown")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_what_is_left_and_a_partner_only_its_own() {
    let world = World::start().await;
    let (entity, _, first) = enrolled(&world).await;
    let second = member(&world, entity).await;
    let (apart, _, third) = enrolled(&world).await;
    let idle = world.partner().await;
    let roles = [Role::PartnerAdmin];
    let mut partners = Vec::new();
    for (name, of) in [("partner-1", entity), ("partner-2", apart), ("partner-3", idle)] {
        let admin = world.principal(name, (PrincipalKind::Partner, &roles), Some(of)).await;
        partners.push(watch(world.connect_as(&admin).await).await);
    }
    let mut officer = watch(world.alice()).await;
    assert_eq!(seen(&mut officer, <[_]>::is_empty).await, [], "nothing is announced, and it says so");
    let (id, cut_at) = world.announce(world.access_issuer(), HOUR_MS).await;
    let shown = seen(&mut officer, |rows| !rows.is_empty()).await;
    let [row] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!((row.cause.clone(), row.state.as_str()), (id.to_string(), "ANNOUNCED"));
    assert_eq!((row.affected, row.renewed, row.left), (3, 0, 3));
    assert_eq!((row.cut_at.clone(), row.reason.as_str()), (cut_at.to_string(), "CA_COMPROMISE"));
    assert!(row.scope.starts_with("issuer aut_") && row.holders.len() == 2 && row.certificates.is_empty());
    // A partner: its own, without the scope, which would say that others are affected.
    let own = seen(&mut partners[0], |rows| !rows.is_empty()).await;
    let [own] = own.as_slice() else { panic!("{own:?}") };
    assert_eq!((own.affected, own.left, own.certificates.len()), (2, 2, 2));
    assert_eq!((own.scope.as_str(), own.reason.as_str(), own.holders.len()), ("", "", 1));
    let others = seen(&mut partners[1], |rows| !rows.is_empty()).await;
    assert_eq!((others[0].affected, others[0].certificates.len()), (1, 1));
    // Its own certificate: when to renew it, and after that as usual.
    let early = window(&world, &first).await;
    assert_eq!((early.cause.as_str(), early.renew_from.parse()), ("ANNOUNCED", Ok(world.clock.now())));
    assert!(early.renew_until.parse::<Timestamp>().unwrap() < cut_at && early.retry_after_s > 0);
    let renewed = world.next_of(&first).await;
    assert_eq!(window(&world, &renewed).await.cause, "LIFETIME");
    let shown = seen(&mut officer, |rows| rows.iter().any(|row| row.renewed == 1)).await;
    assert_eq!((shown[0].affected, shown[0].left), (3, 2));
    world.next_of(&second).await;
    let own = seen(&mut partners[0], |rows| rows.iter().any(|row| row.left == 0)).await;
    assert_eq!((own[0].renewed, own[0].certificates.len()), (2, 0));
    // After its instant what is left stays on the list, cut.
    world.clock.advance_ms(HOUR_MS);
    let shown = seen(&mut officer, |rows| rows.iter().any(|row| row.state == "CUT")).await;
    assert_eq!((shown[0].affected, shown[0].renewed, shown[0].left), (3, 2, 1));
    denied(&world.mythos(&third.certificate).await, "CREDENTIAL_REVOKED");
    // Who has nothing of it saw nothing all the while.
    let nothing = tokio::time::timeout(Duration::from_millis(1_200), partners[2].message()).await;
    let only = nothing.ok().map(|message| message.unwrap().unwrap().campaigns);
    assert!(only.is_none_or(|rows| rows.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_is_shown_until_nothing_of_the_authority_is_left() {
    let world = World::start().await;
    let (entity, _, first) = enrolled(&world).await;
    let RevocationScope::Issuer(old) = world.access_issuer() else { panic!() };
    let next = world.prepare(AuthorityKind::Access).await;
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    world.enact(Command::TaintAuthority { authority: old, reason: REASON }).await.unwrap();
    let mut officer = watch(world.alice()).await;
    let shown = seen(&mut officer, |rows| rows.iter().any(|row| row.state == "TAINTED")).await;
    assert_eq!((shown[0].cause.clone(), shown[0].affected, shown[0].left), (old.to_string(), 1, 1));
    assert_eq!(shown[0].holders[0].entity_id, entity.to_string());
    assert_eq!(window(&world, &first).await.cause, "TAINTED");
    let renewed = world.next_of(&first).await;
    assert_eq!(world.read(&renewed.certificate).issuer, next);
    let shown = seen(&mut officer, |rows| rows.iter().any(|row| row.left == 0)).await;
    assert_eq!((shown[0].affected, shown[0].renewed), (1, 1));
}

#[test]
fn officers_announce_hasten_postpone_and_withdraw_on_the_command_line() {
    let served = Served::start();
    let list = served.by("alice", &["authority", "list"]).done().json();
    let rows = list.as_array().unwrap();
    let access = rows.iter().find(|row| row["kind"] == "ACCESS").unwrap();
    assert!(access["rotation"]["prepare_at"].as_str().is_some_and(|at| !at.is_empty()));
    let issuer = access["authority_id"].as_str().unwrap();
    let announce =
        ["revoke", "announce", "--issuer", issuer, "--in-hours", "24", "--reason", "CA_COMPROMISE"];
    let dry = served.by("alice", &announce).done();
    assert_eq!(dry.json()["committed"], false);
    let done = served.by("alice", &[&announce[..], &["--wait", "--commit"]].concat()).done();
    assert!(done.err.contains("is to be renewed now (CA_COMPROMISE)"), "{}", done.err);
    let announced = || served.by("alice", &["revoke", "announced"]).done().json();
    let first = announced();
    let (cause, cut_at) = (first[0]["cause"].as_str().unwrap().to_owned(), first[0]["cut_at"].clone());
    assert!(cause.starts_with("ann_") && first[0]["state"] == "ANNOUNCED");
    served.by("bob", &["revoke", "hasten", &cause, "--in-hours", "2", "--commit"]).done();
    assert_ne!(announced()[0]["cut_at"], cut_at);
    served.both(&["revoke", "postpone", &cause, "--in-hours", "12"]);
    served.both(&["revoke", "withdraw", &cause]);
    assert_eq!(announced().as_array().unwrap().len(), 0);
    served.by("alice", &["revoke", "hasten", &cause, "--in-hours", "1", "--commit"]).fails(&["withdrawn"]);
    // A standing approval of rotations: two give it, one takes it.
    let rotation = || {
        let list = served.by("alice", &["authority", "list"]).done().json();
        list.as_array().unwrap().iter().find(|row| row["kind"] == "ACCESS").unwrap()["rotation"].clone()
    };
    assert_eq!(rotation()["approved_seq"], 0);
    let until = countersign::env::SystemClock.now().plus_ms(86_400_000).to_string();
    served.both(&["authority", "automate", "--kind", "ACCESS", "--until", &until, "--rotations", "2"]);
    assert_eq!(rotation()["rotations_left"], 2);
    served.by("bob", &["authority", "by-hand", "--kind", "ACCESS"]).done();
    assert_eq!(rotation()["approved_seq"], 0);
}
