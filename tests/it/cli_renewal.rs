//! An officer's short certificate, renewed by the officer's own commands: in time, after its end, and not at all when it is not
//! due, may not be, or cannot be.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign::config::OFFICER_TTL_DEFAULT_S;
use countersign::domain::certificate::{Facts, PrincipalKind};
use countersign::domain::command::Command;
use countersign::domain::officer_command::OfficerCommand;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::RevocationReason;
use countersign::env::{Clock as _, SystemClock};
use countersign::x509::bundle::certificate_pem;

use crate::cli::{Desk, Ended};
use crate::forge::{Forgery, seconds};
use crate::world::{Caller, World};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// A service that has run for this long, by a clock that is right now: commands go by the machine's.
async fn run_for(past_s: i64) -> World {
    let world = World::start_at(SystemClock.now().plus_ms(-past_s * 1_000)).await;
    world.clock.advance_ms(u32::try_from(past_s * 1_000).unwrap());
    world
}

/// Folders of identities, and the service that they talk to.
struct Office {
    desk: Arc<Desk>,
    url: String,
}

impl Office {
    fn of(world: &World) -> Self {
        Self::at(world.running().address())
    }

    fn at(address: SocketAddr) -> Self {
        let url = format!("https://localhost:{}", address.port());
        Self { desk: Arc::new(Desk::new()), url }
    }

    /// An identity in a folder.
    fn holds(&self, world: &World, who: (&str, &Caller), certificate: &[u8]) {
        self.put(&world.system_pem(), who, certificate);
    }

    fn put(&self, bundle: &str, (name, caller): (&str, &Caller), certificate: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.desk.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("key.pem"), caller.key.to_pem()).unwrap();
        std::fs::set_permissions(folder.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(folder.join("certificate.pem"), certificate_pem(certificate)).unwrap();
        std::fs::write(folder.join("system-bundle.pem"), bundle).unwrap();
    }

    fn certificate(&self, name: &str) -> String {
        std::fs::read_to_string(self.desk.path(&format!("{name}/certificate.pem"))).unwrap()
    }

    /// A command as who has this folder.
    async fn by(&self, identity: &str, arguments: &[&str]) -> Ended {
        let connection = ["--server", &self.url, "--identity", identity, "--json"];
        let mut command = self.desk.command(&[arguments, &connection].concat());
        tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
    }
}

/// The caller's certificate as it would be with this validity, in seconds from now.
fn valid(world: &World, caller: &Caller, (from_s, until_s): (i64, i64)) -> Vec<u8> {
    let mut forgery = Forgery::of(world, &caller.certificate);
    (forgery.not_before, forgery.not_after) = (seconds(world, from_s), seconds(world, until_s));
    forgery.sign(world, &caller.key)
}

async fn officer(world: &World, name: &str) -> Caller {
    world.principal(name, (PrincipalKind::Officer, &[Role::Auditor, Role::Registrar]), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_renews_a_certificate_past_two_thirds_of_its_life_or_ended_first() {
    let world = run_for(6 * HOUR_S).await;
    let office = Office::of(&world);
    for (name, validity) in [("due", (-4 * HOUR_S, HOUR_S)), ("ended", (-4 * HOUR_S, -HOUR_S))] {
        let erin = officer(&world, name).await;
        office.holds(&world, (name, &erin), &valid(&world, &erin, validity));
        let key = std::fs::read(office.desk.path(&format!("{name}/key.pem"))).unwrap();
        let done = office.by(name, &["stop", "list"]).await.done();
        assert!(done.err.contains("certificate.pem was renewed until"), "{}", done.err);
        assert_eq!(done.json()["stops"], serde_json::json!([]), "what was asked is answered");
        // It is the one on record, for the same key, and nobody is told twice.
        assert_eq!(office.certificate(name), certificate_pem(&erin.certificate));
        assert_eq!(std::fs::read(office.desk.path(&format!("{name}/key.pem"))).unwrap(), key);
        let again = office.by(name, &["stop", "list"]).await.done();
        assert_eq!(again.err, "", "{}", again.err);
        let names = std::fs::read_dir(office.desk.path(name)).unwrap().count();
        assert_eq!(names, 3, "nothing half-written is left");
    }
    // Before its time nothing is asked.
    let fresh = officer(&world, "fresh").await;
    let young = valid(&world, &fresh, (-HOUR_S, 2 * HOUR_S));
    office.holds(&world, ("fresh", &fresh), &young);
    let done = office.by("fresh", &["stop", "list"]).await.done();
    assert_eq!((done.err.as_str(), office.certificate("fresh")), ("", certificate_pem(&young)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_leaves_the_old_certificate_and_the_command_is_done() {
    let mut world = World::start_at(SystemClock.now().plus_ms(-5 * DAY_S * 1_000)).await;
    world.close().await;
    world.settings.officer_ttl_s = OFFICER_TTL_DEFAULT_S;
    world.open().await;
    // Its last certificate is five days old, so there is no other to be handed out again.
    let erin = officer(&world, "erin").await;
    world.clock.advance_ms(u32::try_from(5 * DAY_S * 1_000).unwrap());
    world.close().await;
    // Those of the world's own officers are new.
    world.open().await;
    world.close().await;
    world.settings.low_water = u64::MAX / 2;
    world.open().await;
    let office = Office::of(&world);
    let old = valid(&world, &erin, (-5 * DAY_S, DAY_S));
    office.holds(&world, ("erin", &erin), &old);
    let done = office.by("erin", &["stop", "list"]).await.done();
    assert!(done.err.contains("could not be renewed") && done.err.contains("READ_ONLY"), "{}", done.err);
    assert_eq!(office.certificate("erin"), certificate_pem(&old));
    // One that has ended can do nothing without, and says what would help.
    let ended = valid(&world, &erin, (-5 * DAY_S, -HOUR_S));
    office.holds(&world, ("erin", &erin), &ended);
    let words = ["READ_ONLY", "could not be renewed", "90 days", "CREDENTIAL_EXPIRED"];
    office.by("erin", &["stop", "list"]).await.fails(&words);
    assert_eq!(office.certificate("erin"), certificate_pem(&ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_act_is_not_renewed_and_who_is_no_principal_is_told_how() {
    let world = run_for(6 * HOUR_S).await;
    let office = Office::of(&world);
    let erin = officer(&world, "erin").await;
    let principal = "erin".parse().unwrap();
    let suspend = OfficerCommand::Suspend { principal, reason: RevocationReason::KeyCompromise };
    world.enact(Command::Officers(suspend)).await.unwrap();
    let ended = valid(&world, &erin, (-4 * HOUR_S, -HOUR_S));
    office.holds(&world, ("erin", &erin), &ended);
    office.by("erin", &["stop", "list"]).await.fails(&["could not be renewed", "suspended or removed"]);
    assert_eq!(office.certificate("erin"), certificate_pem(&ended));
    // A partner's administrator renews in time, and not after the end.
    let entity = world.partner().await;
    let partner =
        world.principal("portal", (PrincipalKind::Partner, &[Role::PartnerAdmin]), Some(entity)).await;
    office.holds(&world, ("portal", &partner), &valid(&world, &partner, (-4 * HOUR_S, HOUR_S)));
    let done = office.by("portal", &["entity", "list"]).await.done();
    assert!(done.err.contains("was renewed until"), "{}", done.err);
    office.holds(&world, ("portal", &partner), &valid(&world, &partner, (-4 * HOUR_S, -HOUR_S)));
    office.by("portal", &["entity", "list"]).await.fails(&["ended at", "an officer makes a new one"]);
    // People have a verb of their own, and officers theirs.
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let person = world.enroll(subject).await;
    office.holds(&world, ("person", &person), &person.certificate);
    office.by("person", &["principal", "renew"]).await.fails(&["countersign renew --out DIR"]);
    let frank = officer(&world, "frank").await;
    office.holds(&world, ("frank", &frank), &frank.certificate);
    office.by("frank", &["renew", "--out", "next"]).await.fails(&["frank is a principal", "principal renew"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn principal_renew_gives_a_later_one_when_there_is_one() {
    let world = run_for(6 * HOUR_S).await;
    let office = Office::of(&world);
    let erin = officer(&world, "erin").await;
    let gateway = world.gateway("gw-1").await;
    for (name, caller) in [("erin", &erin), ("gw-1", &gateway)] {
        office.holds(&world, (name, caller), &valid(&world, caller, (-HOUR_S, 2 * HOUR_S)));
        let done = office.by(name, &["principal", "renew"]).await.done().json();
        assert_eq!(done["renewed"], true, "{done}");
        assert_eq!(office.certificate(name), certificate_pem(&caller.certificate));
        let again = office.by(name, &["principal", "renew"]).await.done().json();
        assert_eq!((&again["renewed"], &again["not_after"]), (&false.into(), &done["not_after"]), "{again}");
    }
    // A gateway's program renews its own: other verbs leave it alone.
    let old = valid(&world, &gateway, (-4 * HOUR_S, HOUR_S));
    office.holds(&world, ("gw-1", &gateway), &old);
    office.by("gw-1", &["cert", "bundle"]).await.done();
    assert_eq!(office.certificate("gw-1"), certificate_pem(&old));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_officers_live_as_configured_and_those_of_machines_thirty_days() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.officer_ttl_s = OFFICER_TTL_DEFAULT_S;
    world.open().await;
    let entity = world.partner().await;
    let life_s = |world: &World, caller: &Caller| {
        let read = world.read(&caller.certificate);
        assert!(matches!(read.facts, Facts::System(_)));
        (read.not_after.millis() - read.not_before.millis()) / 1_000 - 60
    };
    let erin = officer(&world, "erin").await;
    assert_eq!(life_s(&world, &erin), 7 * DAY_S);
    assert_eq!(life_s(&world, &world.gateway("gw-1").await), 30 * DAY_S);
    let roles = [Role::PartnerAdmin];
    let portal = world.principal("portal", (PrincipalKind::Partner, &roles), Some(entity)).await;
    assert_eq!(life_s(&world, &portal), 30 * DAY_S);
    world.close().await;
    world.settings.officer_ttl_s = 3_600;
    world.open().await;
    assert_eq!(life_s(&world, &officer(&world, "frank").await), HOUR_S);
    // Who has a longer one from before keeps it: no other would live longer.
    let app = world.running().app();
    let kept = app.issue_principal(&"erin".parse().unwrap(), &erin.key.request().unwrap()).await.unwrap();
    assert_eq!(kept.certificate, erin.certificate);
}

#[tokio::test(flavor = "multi_thread")]
async fn officers_whose_certificates_ended_while_the_service_was_down_accept_its_clock() {
    let mut world = World::start_at(SystemClock.now().plus_ms(-8 * DAY_S * 1_000)).await;
    world.close().await;
    world.settings.officer_ttl_s = OFFICER_TTL_DEFAULT_S;
    world.open().await;
    let mut identities = Vec::new();
    for name in ["erin", "frank"] {
        identities
            .push((name, world.principal(name, (PrincipalKind::Officer, &[Role::Approver]), None).await));
    }
    let bundle = world.system_pem();
    world.clock.advance_ms(u32::try_from(8 * DAY_S * 1_000).unwrap());
    world.close().await;
    let running = world.launch().await.unwrap();
    let office = Office::at(running.address());
    for (name, caller) in &identities {
        office.put(&bundle, (name, caller), &caller.certificate);
    }
    let done = office.by("erin", &["clock", "accept", "--commit"]).await.done();
    assert!(done.err.contains("could not be renewed"), "{}", done.err);
    let proposal = done.json()["proposal"].as_str().unwrap().to_owned();
    office.by("frank", &["approvals", "approve", &proposal, "--yes"]).await.done();
    // The clock is believed, and with it that their certificates have ended.
    let done = office.by("erin", &["stop", "list"]).await.done();
    assert!(done.err.contains("was renewed until"), "{}", done.err);
    running.stop().await;
}
