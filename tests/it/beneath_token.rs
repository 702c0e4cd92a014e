//! An authority beneath a root whose key is on a token: it waits there for the ceremony, across restarts.

use countersign::domain::certificate::AuthorityKind;
use countersign::domain::person::EvidenceKind;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::authority_service_client::AuthorityServiceClient;

use crate::beneath::Ceremony;
use crate::pkcs11::{Token, given, served_by, softhsm, with_token};
use crate::world::World;

const ACCESS: AuthorityKind = AuthorityKind::Access;

fn keys_on(token: &Token) -> usize {
    token.tool(&["--list-objects", "--type", "privkey"]).matches("never extractable").count()
}

async fn ask(world: &World) -> Result<pb::PrepareAuthorityResponse, tonic::Status> {
    let request =
        pb::PrepareAuthorityRequest { kind: ACCESS.to_string(), beneath_root: true, ..Default::default() };
    let mut client = AuthorityServiceClient::new(world.alice());
    client.prepare_authority(request).await.map(tonic::Response::into_inner)
}

#[test]
fn an_authority_beneath_a_root_has_its_key_on_the_token() {
    with_token("beneath_token::the_service_beneath_a_root_with_a_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_beneath_a_root_with_a_token() {
    let Some(token) = given() else { return };
    let (mut world, _) = served_by(&token, softhsm(), 5_000).await;
    let before = keys_on(&token);
    // Refused before a key is made.
    let refused = ask(&world).await.unwrap_err();
    assert!(refused.message().contains("no root is on record"), "{refused}");
    assert_eq!(keys_on(&token), before);
    let ceremony = Ceremony::at(world.clock.now());
    world.trust_root(&ceremony, world.clock.now().plus_ms(30 * 86_400_000)).await;
    // What cannot be kept leaves no key behind.
    // What cannot be kept leaves no key behind: the folder of requests cannot be made.
    let (keys, away) = (world.dir.path().join("keys"), world.dir.path().join("away"));
    std::fs::rename(&keys, &away).unwrap();
    let refused = ask(&world).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Internal, "{refused}");
    assert_eq!(keys_on(&token), before);
    std::fs::rename(&away, &keys).unwrap();
    let first = ask(&world).await.unwrap();
    assert_eq!(keys_on(&token), before + 1);
    // Days pass and the service starts again: the same key waits.
    world.close().await;
    world.open().await;
    let again = ask(&world).await.unwrap();
    assert_eq!(
        (&again.authority_id, &again.certificate_request),
        (&first.authority_id, &first.certificate_request)
    );
    assert_eq!(keys_on(&token), before + 1);
    let authority = world.go_beneath(&ceremony, ACCESS).await;
    assert_eq!(authority.to_string(), first.authority_id);
    assert_eq!(keys_on(&token), before + 1, "no other key was made");
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    assert_eq!(world.read(&caller.certificate).issuer, authority);
    // The token signs what it issued after another start too.
    world.close().await;
    world.open().await;
    let caller = world.enroll(subject).await;
    assert_eq!(world.read(&caller.certificate).issuer, authority);
    world.close().await;
}
