//! What comes before a root or its list ends, and what nobody can do with a root that has ended.

use countersign::ca::root::CeremonyFault;
use countersign::domain::certificate::{AuthorityKind, Serial};
use countersign::domain::command::Command;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use countersign::x509::{AuthorityRequest, root_row};
use tonic::Code;

use crate::beneath::Ceremony;
use crate::logs;
use crate::world::World;

const ACCESS: AuthorityKind = AuthorityKind::Access;
const DAY_MS: u32 = 86_400_000;

async fn prepare(world: &World, certificate: Vec<u8>) -> Result<pb::PrepareAuthorityResponse, tonic::Status> {
    let request = pb::PrepareAuthorityRequest {
        kind: ACCESS.to_string(),
        beneath_root: true,
        certificate: certificate.into(),
        ..Default::default()
    };
    AuthorityServiceClient::new(world.alice())
        .prepare_authority(request)
        .await
        .map(tonic::Response::into_inner)
}

/// Day by day: a service that is down for a week asks its officers for the clock. It looks once a day at what ends.
async fn days(world: &World, count: u32) {
    for _ in 0..count {
        world.clock.advance_ms(DAY_MS);
    }
}

/// Waits for a line of the log about a root.
async fn said(what: &str, root: &str) -> String {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            if let Some(line) = logs::find(&[what, root]) {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("the log never says {what:?} of {root}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_a_root_and_of_its_list_are_warned_of_before() {
    logs::keep();
    let world = World::start().await;
    let begin = world.clock.now();
    let day = i64::from(DAY_MS);
    let ceremony = Ceremony::until(begin.plus_ms(400 * day), begin);
    let root = ceremony.root.id().to_string();
    world.trust_root(&ceremony, begin.plus_ms(100 * day)).await;
    world.go_beneath_until(&ceremony, ACCESS, begin.plus_ms(399 * day)).await;
    days(&world, 2).await;
    tokio::task::yield_now().await;
    // A hundred days before, and more than a year before: nothing is said.
    days(&world, 30).await;
    assert!(logs::find(&["ends", &root]).is_none());
    days(&world, 20).await;
    let line = said("the revocation list of a root ends soon", &root).await;
    assert!(line.contains("WARN"), "{line}");
    let line = said("a root ends within a year", &root).await;
    assert!(line.contains("WARN"), "{line}");
    days(&world, 60).await;
    let line = said("the revocation list of a root has ended", &root).await;
    assert!(line.contains("ERROR") && line.contains("have the root sign another"), "{line}");
    // What the alarms of deploy/prometheus/alerts.yml compare with now.
    let readings = world.running().app().readings();
    let [reading] = readings.roots.as_slice() else { panic!("one root") };
    let list_ends_s = begin.plus_ms(100 * day).seconds();
    assert_eq!((reading.list_ends_s, &reading.name), (list_ends_s, &root));
    assert_eq!(reading.certificate_ends_s, ceremony.root.certificate().not_after().seconds());
    let alerts = include_str!("../../deploy/prometheus/alerts.yml");
    for name in ["root_list_expiry_timestamp_seconds", "root_certificate_expiry_timestamp_seconds"] {
        assert!(alerts.contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_root_that_has_ended_nothing_is_certified_trusted_or_prepared() {
    let world = World::start().await;
    let begin = world.clock.now();
    let day = i64::from(DAY_MS);
    let ceremony = Ceremony::until(begin.plus_ms(20 * day), begin);
    let other = Ceremony::at(begin);
    world.trust_root(&ceremony, begin.plus_ms(19 * day)).await;
    world.trust_root(&other, begin.plus_ms(300 * day)).await;
    let made = prepare(&world, Vec::new()).await.unwrap();
    let request = AuthorityRequest::from_der(&made.certificate_request).unwrap();
    let serial = || Serial::from_random(SystemEntropy.bytes16());
    let until = begin.plus_ms(20 * day);
    // A second of it is cut: it ends in whole seconds, as the root does.
    let certified = ceremony.issuer().certify(&request, serial(), until, begin).unwrap();
    let cross = ceremony.cross(&other.root, begin);
    days(&world, 21).await;
    let now = world.clock.now();
    let ended = CeremonyFault::Ended(ceremony.root.certificate().not_after());
    let again = ceremony.issuer().certify(&request, serial(), now.plus_ms(day), now);
    assert_eq!(again.unwrap_err(), ended);
    assert_eq!(ceremony.issuer().cross_certify(&other.root, serial(), now).unwrap_err(), ended);
    // What it certified before ended with it.
    let refused = prepare(&world, certified.der().to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("passed"), "{refused}");
    let row = root_row::cross(&cross, &ceremony.root).unwrap();
    let refused = world.enact(Command::AddCrossCertificate(row)).await.unwrap_err();
    assert!(refused.message().contains("its validity has passed"), "{refused}");
    // It is not trusted anew, with whatever list.
    world.enact(Command::DropRoot(ceremony.root.id())).await.unwrap();
    let row = ceremony.row(ceremony.list(&[], now, now.plus_ms(day)));
    let refused = world.enact(Command::TrustRoot(row)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("its validity has passed"), "{refused}");
    // The root that has not ended goes on.
    let certified = other.issuer().certify(&request, serial(), now.plus_ms(300 * day), now).unwrap();
    assert!(!prepare(&world, certified.der().to_vec()).await.unwrap().mandate.is_empty());
}
