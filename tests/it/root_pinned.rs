//! Relying parties that trust an offline root and nothing else, and check no list: what each authority beneath it is for is in
//! its certificate, so the other kind is refused by any TLS stack.

use countersign::domain::certificate::AuthorityKind;
use countersign::domain::person::EvidenceKind;
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, SystemClock};
use countersign::x509::bundle::certificate_pem;

use crate::beneath::{beneath, listener, put, shown};
use crate::calls::openssl;
use crate::envoy_sds::{Control, Scene};
use crate::world::World;

const KINDS: [AuthorityKind; 2] = [AuthorityKind::Access, AuthorityKind::System];
const ENVOY: &str = include_str!("../../deploy/envoy/envoy.yaml");

/// What openssl says of a chain for a purpose, when it trusts this root only.
fn verify(root: &str, chain: &str, purpose: &str, at: Timestamp) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let (root, chain) =
        (put(dir.path(), "root.pem", root.as_bytes()), put(dir.path(), "chain.pem", chain.as_bytes()));
    let at = at.seconds().to_string();
    let how = ["verify", "-x509_strict", "-purpose", purpose, "-attime", &at];
    let (done, _, said) =
        openssl(&[&how[..], &["-CAfile", &root, "-untrusted", &chain, &chain]].concat(), b"");
    if done { Ok(()) } else { Err(said) }
}

#[tokio::test(flavor = "multi_thread")]
async fn beneath_one_root_a_gateway_is_no_partner_and_a_partner_no_server() {
    let mut world = World::start().await;
    let (ceremony, _) = beneath(&world, &KINDS, world.clock.now().plus_ms(86_400_000)).await;
    world.close().await;
    std::fs::remove_file(world.dir.path().join("server-certificate.pem")).unwrap();
    world.open().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let gateway = world.gateway("gw-one").await;
    let root = certificate_pem(ceremony.root.certificate().der());
    let (access, system) = (world.chain_pem(&caller), world.chain_pem(&gateway));
    let service: String = listener(&world).await.iter().map(|der| certificate_pem(der)).collect();
    let says = |chain: &str, purpose: &str| verify(&root, chain, purpose, world.clock.now());
    assert_eq!(says(&access, "sslclient"), Ok(()));
    assert_eq!(says(&service, "sslserver"), Ok(()));
    for (chain, purpose) in [(&system, "sslclient"), (&access, "sslserver"), (&service, "sslclient")] {
        let said = says(chain, purpose).unwrap_err();
        assert!(said.contains("purpose"), "{purpose}: {said}");
    }
    // To the service itself the system authority is the anchor: gateways and officers call as ever.
    let listed = world.connect_as(&gateway).await;
    assert!(world.evaluate(&listed, &caller.certificate, "mythos-5").await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_trusts_the_root_without_lists_refuses_what_is_of_the_system() {
    // Making a partner moves the clock by two seconds.
    let world = World::start_at(SystemClock.now().plus_ms(-2_000)).await;
    let (ceremony, _) = beneath(&world, &KINDS, world.clock.now().plus_ms(86_400_000)).await;
    let entity = world.partner().await;
    let gateway = world.gateway("gw-envoy").await;
    let control = Control { system_pem: world.system_bundle().await, ..Control::of(&world) };
    let dir = tempfile::tempdir().unwrap();
    let root = certificate_pem(ceremony.root.certificate().der());
    // That sample says nobody's name.
    let sample =
        format!("# @GATEWAY_ID@\n{ENVOY}").replace("@BUNDLE@", &put(dir.path(), "root.pem", root.as_bytes()));
    let scene = Scene::with((world, entity), &gateway, &control, &sample).await;
    let (_, caller) = scene.employee().await;
    let chain = scene.world.chain_pem(&caller);
    assert_eq!(shown(&scene, &caller, chain).await, Some(200), "{}", scene.envoy.log());
    assert_eq!(scene.status(&caller).await, None, "the leaf alone leads nowhere");
    assert_eq!(shown(&scene, &gateway, scene.world.chain_pem(&gateway)).await, None);
}
