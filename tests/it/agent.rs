//! The agent beside HAProxy and nginx: what it acknowledges is enforced, and what dies closes.

use std::sync::Arc;
use std::time::Duration;

use countersign::domain::certificate::{AuthorityKind, BLOCK_LEN, CanarySide};
use countersign::domain::command::Command;
use countersign::domain::id::Ordinal;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::x509::{TrustBundle, crl_read};
use rustls::HandshakeKind;

use crate::agent_proxy::{Proxy, Scene, is_refused};
use crate::world::Caller;

/// The settings without which sessions are resumed, in the samples, and what stands in their place in a bad configuration.
const NO_RESUMPTION: [(Proxy, &[(&str, &str)]); 2] = [
    (Proxy::Haproxy, &[("tune.ssl.cachesize 0", ""), (" no-tls-tickets", "")]),
    // Tickets alone would hold: nginx makes new keys for them when it reloads.
    (Proxy::Nginx, &[("ssl_session_cache off;", "ssl_session_cache shared:sessions:1m;")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_refused_by_haproxy() {
    a_revoked_client_is_refused(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_refused_by_nginx() {
    a_revoked_client_is_refused(Proxy::Nginx).await;
}

/// After the barrier: no new connection, no request on the open one, nobody else touched.
async fn a_revoked_client_is_refused(proxy: Proxy) {
    let scene = Scene::start(proxy).await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.caller))).await.unwrap();
    let mut bystander = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    assert_eq!(bystander.get("/v1/mythos", &[]).await.unwrap().status, 200);
    scene.until_strong().await;
    let enforced = scene.revoke().await;
    println!("enforced in {} ms", enforced.took_ms);
    assert_eq!(enforced.status(), pb::EnforcementStatus::Enforced, "{enforced:?}");
    let on_open = open.get("/v1/mythos", &[]).await;
    match (proxy, &on_open) {
        (_, Ok(response)) => {
            assert_eq!(response.status, 403);
            assert_eq!(response.header("x-countersign-code"), Some("CREDENTIAL_REVOKED"));
        }
        // nginx closes idle connections when it reloads.
        (Proxy::Nginx, Err(_)) => {}
        (Proxy::Haproxy, Err(error)) => panic!("{error}"),
    }
    let anew = scene.ask_anew(&scene.caller).await;
    match (proxy, &anew) {
        // The barrier waits for the agent, who denies, and not for the reload, after which the handshake is refused too.
        (Proxy::Nginx, Ok(response)) if response.status == 403 => {
            assert_eq!(response.header("x-countersign-code"), Some("CREDENTIAL_REVOKED"));
            scene.until_refused().await;
        }
        (Proxy::Nginx | Proxy::Haproxy, _) => assert!(is_refused(&anew), "{anew:?}"),
    }
    assert_eq!(scene.ask_anew(&scene.other).await.unwrap().status, 200);
    let permitted = scene.upstream.seen();
    assert!(
        permitted.iter().all(|seen| seen.line.starts_with("GET /v1/mythos")),
        "no canary reached the model"
    );
    assert!(permitted.len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_revoked_client_is_resumed_by_a_bad_haproxy_and_its_requests_denied() {
    a_resumed_session_is_denied(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_revoked_client_is_resumed_by_a_bad_nginx_and_its_requests_denied() {
    a_resumed_session_is_denied(Proxy::Nginx).await;
}

async fn a_resumed_session_is_denied(proxy: Proxy) {
    let mut scene = Scene::set(proxy).await;
    let mut sample = proxy.sample().to_owned();
    for (_, settings) in NO_RESUMPTION.iter().filter(|(of, _)| *of == proxy) {
        for (good, bad) in *settings {
            assert!(sample.contains(good), "{good}");
            sample = sample.replace(good, bad);
        }
    }
    scene.configure(&sample);
    scene.start_all().await;
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let configs = versions.map(|version| scene.resuming(&scene.caller, version));
    for config in &configs {
        let mut first = scene.connect(Arc::clone(config)).await.unwrap();
        assert_eq!(first.get("/v1/mythos", &[]).await.unwrap().status, 200);
    }
    scene.until_strong().await;
    assert_eq!(scene.revoke().await.status(), pb::EnforcementStatus::Enforced);
    for config in configs {
        let mut again = scene.connect(config).await.unwrap();
        assert_eq!(again.handshake(), Some(HandshakeKind::Resumed), "the trap: {}", scene.agent_log());
        let answer = again.get("/v1/mythos", &[]).await.unwrap();
        assert_eq!((answer.status, answer.header("x-countersign-code")), (403, Some("CREDENTIAL_REVOKED")));
    }
    scene.until("the agent says what to change", || scene.agent_log().contains("resumes its session")).await;
    assert!(
        scene.agent_log().contains("no-tls-tickets") && scene.agent_log().contains("ssl_session_cache off")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_a_revoked_client_is_resumed_by_haproxy() {
    no_session_is_resumed(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_a_revoked_client_is_resumed_by_nginx() {
    no_session_is_resumed(Proxy::Nginx).await;
}

async fn no_session_is_resumed(proxy: Proxy) {
    let scene = Scene::start(proxy).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = scene.resuming(&scene.other, version);
        for _ in 0..2 {
            let mut connection = scene.connect(Arc::clone(&config)).await.unwrap();
            assert_eq!(connection.get("/v1/mythos", &[]).await.unwrap().status, 200);
            assert_eq!(connection.handshake(), Some(HandshakeKind::Full));
        }
    }
}

/// A session is resumed, and what comes on it passes without a question: nothing that a list says reaches who has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_lets_the_revoked_in_by_their_sessions_is_closed_until_it_is_mended() {
    let mut scene = Scene::set(Proxy::Haproxy).await;
    let mut sample = Proxy::Haproxy.sample().to_owned();
    let (_, resumption) = NO_RESUMPTION[0];
    let trap = [
        (" if { var(txn.revoked) -m found }", " if { var(txn.revoked) -m found } !{ ssl_fc_is_resumed }"),
        ("http-request lua.countersign", "http-request lua.countersign unless { ssl_fc_is_resumed }"),
        (
            "unless { var(txn.countersign_status) -m int 204 }",
            "unless { var(txn.countersign_status) -m int 204 } or { ssl_fc_is_resumed }",
        ),
    ];
    for (good, bad) in resumption.iter().chain(&trap) {
        assert!(sample.contains(good), "{good}");
        sample = sample.replace(good, bad);
    }
    scene.configure(&sample);
    scene.start_agent();
    scene.start_proxy().await;
    // It is open until the first of the canaries that it accepted is on a list: some seconds.
    let config = scene.resuming(&scene.caller, &rustls::version::TLS13);
    scene.until_permitted().await;
    let mut first = scene.connect(Arc::clone(&config)).await.unwrap();
    assert_eq!(first.get("/v1/mythos", &[]).await.unwrap().status, 200);
    scene.until("the agent sees it", || scene.agent_log().contains("gets in by resuming its session")).await;
    assert!(scene.agent_log().contains("no-tls-tickets"), "it says what to change");
    scene.until_answered("closed", |answer| matches!(answer, Ok(response) if response.status == 503)).await;
    let enforced = scene.revoke().await;
    assert_ne!(enforced.status(), pb::EnforcementStatus::Enforced, "it is weak: {enforced:?}");
    let mut again = scene.connect(config).await.unwrap();
    assert_eq!(again.handshake(), Some(HandshakeKind::Resumed), "the trap: {}", scene.agent_log());
    let answer = again.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((answer.status, answer.header("x-countersign-code")), (503, Some("STALE_VIEW")));
    let of_lists = scene.fleet().await.into_iter().filter(|session| session.adapter == "sds");
    let refused = of_lists.filter(|session| session.last_nack.contains("resum")).count();
    assert!(refused > 0, "no list was acknowledged: {:#?}", scene.fleet().await);
    // It stays closed for as long as sessions are resumed.
    for _ in 0..100 {
        assert_eq!(scene.ask_anew(&scene.other).await.unwrap().status, 503, "{}", scene.agent_log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.configure(Proxy::Haproxy.sample());
    scene.proxy = None;
    scene.start_proxy().await;
    scene.until_permitted().await;
    scene.until_refused().await;
}

/// Without the question the agent is weak, and says so: nothing is called enforced.
#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_does_not_ask_is_weak() {
    let mut scene = Scene::set(Proxy::Haproxy).await;
    let asks: Vec<&str> =
        Proxy::Haproxy.sample().lines().filter(|l| !l.contains("countersign_status")).collect();
    let sample = asks.join("\n").replace("http-request lua.countersign", "");
    scene.configure(&format!("{sample}\n"));
    scene.start_all().await;
    let enforced = scene.revoke().await;
    assert_ne!(enforced.status(), pb::EnforcementStatus::Enforced, "{enforced:?}");
    let log = scene.agent_log();
    assert!(log.contains("requests pass that the agent was not asked about"), "{log}");
    // What lists and maps can say is enforced all the same.
    assert!(is_refused(&scene.ask_anew(&scene.caller).await));
}

/// Without the question nothing holds a lease, so nothing is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_does_not_ask_is_never_acknowledged() {
    let mut scene = Scene::set(Proxy::Nginx).await;
    scene.configure(&Proxy::Nginx.sample().replace("auth_request /authz;", ""));
    scene.start_agent();
    scene.start_proxy().await;
    scene.until("the agent says so", || scene.agent_log().contains("without asking")).await;
    assert!(scene.agent_log().contains("have the proxy ask the agent"), "{}", scene.agent_log());
    assert!(!scene.agent_log().contains("what the proxy keeps was seen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_refuses_to_reload_is_not_acknowledged_and_denies_all_the_same() {
    let scene = Scene::start(Proxy::Nginx).await;
    scene.until_strong().await;
    let config = scene.dir().join("proxy.conf");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\nnonsense;\n")).unwrap();
    let enforced = scene.revoke().await;
    let answer = scene.ask_anew(&scene.caller).await.unwrap();
    assert_eq!((answer.status, answer.header("x-countersign-code")), (403, Some("CREDENTIAL_REVOKED")));
    assert_eq!(
        enforced.status(),
        pb::EnforcementStatus::Enforced,
        "who asks at each request enforces: {enforced:?}"
    );
    scene.until("the agent says so", || scene.agent_log().contains("does not work with its list")).await;
    // Mended, it gets its list by itself.
    std::fs::write(&config, text).unwrap();
    scene.until_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_cannot_be_told_closes_with_its_lease() {
    let scene = Scene::start(Proxy::Haproxy).await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    std::fs::remove_file(scene.dir().join("haproxy.sock")).unwrap();
    scene.until("the agent says so", || scene.agent_log().contains("does not work with its list")).await;
    assert!(scene.agent_log().contains("is HAProxy running"), "{}", scene.agent_log());
    scene.until_answered("closed", |answer| answer.is_err()).await;
    let on_open = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((on_open.status, on_open.header("x-countersign-code")), (503, Some("STALE_VIEW")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_agent_closes_haproxy_with_its_lease_and_a_new_one_opens_it() {
    let mut scene = Scene::start(Proxy::Haproxy).await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    scene.agent.as_mut().unwrap().kill();
    // The decision is gone at once; the lease and the list after it make sure that nothing but them is needed.
    let at_once = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((at_once.status, at_once.header("x-countersign-code")), (503, Some("STATE_UNAVAILABLE")));
    scene.until_answered("no handshake", |answer| answer.is_err()).await;
    let later = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((later.status, later.header("x-countersign-code")), (503, Some("STALE_VIEW")));
    scene.start_agent();
    scene.until_permitted().await;
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_agent_closes_nginx_at_once_and_a_new_one_opens_it() {
    let mut scene = Scene::start(Proxy::Nginx).await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    scene.agent.as_mut().unwrap().kill();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 500);
    assert_eq!(scene.ask_anew(&scene.other).await.unwrap().status, 500);
    scene.start_agent();
    scene.until_permitted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_service_closes_haproxy_with_the_lease() {
    a_dead_service_closes(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_service_closes_nginx_with_the_lease() {
    a_dead_service_closes(Proxy::Nginx).await;
}

async fn a_dead_service_closes(proxy: Proxy) {
    let mut scene = Scene::start(proxy).await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    let port = scene.world.running().address().port();
    scene.world.close().await;
    let closed = |status: u16| matches!(status, 500 | 503);
    scene
        .until_answered("closed", |answer| match answer {
            Ok(response) => proxy == Proxy::Nginx && closed(response.status),
            Err(_) => proxy == Proxy::Haproxy,
        })
        .await;
    assert!(closed(open.get("/v1/mythos", &[]).await.unwrap().status));
    scene.world.open_at(port).await;
    scene.until_permitted().await;
}

/// Each set names one canary, now the one and now the other: a proxy that stays with an old list is found out.
#[tokio::test(flavor = "multi_thread")]
async fn the_canaries_alternate() {
    let scene = Scene::start(Proxy::Haproxy).await;
    let app = scene.world.running().app();
    let bundle = TrustBundle::from_pem(&scene.world.access_pem()).unwrap();
    let side_listed = || {
        let pem = std::fs::read(scene.dir().join("access-crl.pem")).unwrap();
        let list = crl_read::read(pem::parse(&pem).unwrap().contents(), &bundle).unwrap();
        let state = app.state();
        let canaries = state.canaries.iter().filter(|(_, canary)| list.serials.contains(&canary.serial));
        let sides: Vec<CanarySide> = canaries.map(|(facts, _)| facts.side).collect();
        assert_eq!(sides.len(), 1, "exactly one");
        sides[0]
    };
    let first = side_listed();
    scene.until("the other one is listed", || side_listed() != first).await;
    scene.until("the first one is listed again", || side_listed() == first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_accepts_every_live_certificate_while_a_block_changes() {
    every_live_certificate_is_accepted(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_accepts_every_live_certificate_while_a_block_changes() {
    every_live_certificate_is_accepted(Proxy::Nginx).await;
}

impl Scene {
    /// Another person of the partner.
    async fn enroll(&self) -> Caller {
        self.world
            .enroll(self.world.person(self.entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await)
            .await
    }

    /// Each of them, and who was there from the beginning, on a new connection. Says how many asked.
    async fn all_are_permitted(&self, callers: &[Caller]) -> usize {
        for caller in callers.iter().chain([&self.other]) {
            let answer = self.ask_anew(caller).await;
            assert!(
                matches!(&answer, Ok(response) if response.status == 200),
                "{answer:?} {}",
                self.agent_log()
            );
        }
        callers.len() + 1
    }
}

/// A certificate of the old block, those on both sides of the change and those of the new one, at every moment of it.
async fn every_live_certificate_is_accepted(proxy: Proxy) {
    let mut scene = Scene::start(proxy).await;
    // The next block is announced, and opened with the gateway's acknowledgement, when half of this one is used.
    let half = BLOCK_LEN / 2;
    scene.skip_ordinals(Ordinal(half - 3)).await;
    assert_eq!(scene.world.running().app().state().opened, Ordinal(BLOCK_LEN));
    let mut callers = vec![scene.enroll().await];
    let mut asked = 0;
    while scene.world.running().app().state().opened < Ordinal(2 * BLOCK_LEN) {
        callers.push(scene.enroll().await);
        asked += scene.all_are_permitted(&callers).await;
        assert!(asked < 10_000, "the next block does not open: {}", scene.agent_log());
    }
    // Across the border: the last of one block, and the first of the next.
    scene.skip_ordinals(Ordinal(BLOCK_LEN - 2)).await;
    for _ in 0..4 {
        callers.push(scene.enroll().await);
        scene.all_are_permitted(&callers).await;
    }
    let app = scene.world.running().app();
    let last = |caller: &Caller| app.read_certificate(&caller.certificate).unwrap().ordinal;
    let ordinals: Vec<_> = callers.iter().rev().take(4).map(last).collect();
    assert!(
        ordinals.contains(&Ordinal(BLOCK_LEN - 1)) && ordinals.contains(&Ordinal(BLOCK_LEN)),
        "{ordinals:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_follows_a_rotation() {
    a_rotation_is_followed(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_follows_a_rotation() {
    a_rotation_is_followed(Proxy::Nginx).await;
}

/// The proxy lets in what the next authority issues from its first certificate on, and when the one before is revoked, with
/// the agent's own canaries, nobody of it and everybody else.
async fn a_rotation_is_followed(proxy: Proxy) {
    let scene = Scene::start(proxy).await;
    assert_eq!(scene.ask_anew(&scene.caller).await.unwrap().status, 200);
    scene.until_strong().await;
    let old = scene.world.read(&scene.caller.certificate).issuer;
    let next = scene.world.prepare(AuthorityKind::Access).await;
    let mut looks = 0;
    while let Err(status) = scene.world.enact(Command::ActivateAuthority(next)).await {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        assert!(looks < 600 && status.message().contains("gw-agent"), "{looks} {status:?}");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let caller = scene.enroll().await;
    assert_eq!(scene.world.read(&caller.certificate).issuer, next);
    let first = scene.ask_anew(&caller).await;
    assert!(matches!(&first, Ok(response) if response.status == 200), "{first:?} {}", scene.agent_log());
    let reason = RevocationReason::CaCompromise;
    scene.world.enact(Command::RevokeAuthority { authority: old, reason }).await.unwrap();
    let is_open = |answer: std::io::Result<crate::envoy::Response>| matches!(answer, Ok(response) if response.status == 200);
    for (who, wanted) in [(&scene.caller, false), (&caller, true)] {
        for _ in 0..600 {
            if is_open(scene.ask_anew(who).await) == wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(!is_open(scene.ask_anew(&scene.caller).await));
    let open = scene.ask_anew(&caller).await;
    assert!(matches!(&open, Ok(response) if response.status == 200), "{open:?} {}", scene.agent_log());
    scene.until_strong().await;
}

/// A stop of everything is a list that nobody gets past, and the other way round when it is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_everything_closes_haproxy() {
    let scene = Scene::start(Proxy::Haproxy).await;
    scene.until_strong().await;
    let mut open = scene.connect(Arc::new(scene.tls(&scene.other))).await.unwrap();
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200);
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::GovernmentOrder };
    let enforced = scene.world.restrict(stop, pb::Wait::Enforced).await.unwrap();
    assert_eq!(enforced.status(), pb::EnforcementStatus::Enforced, "{enforced:?}");
    assert!(scene.ask_anew(&scene.other).await.is_err(), "no handshake");
    let on_open = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!(on_open.status, 503, "{on_open:?}");
    scene.world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    scene.until_permitted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_without_a_network() {
    for proxy in [Proxy::Haproxy, Proxy::Nginx] {
        let scene = Scene::set(proxy).await;
        let config = scene.dir().join("agent.toml");
        let check = |adapter: Proxy| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
            command.args(["agent", "--check", "--adapter", adapter.name(), "--config"]).arg(&config);
            let output = command.output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(said).unwrap())
        };
        let other = if proxy == Proxy::Haproxy { Proxy::Nginx } else { Proxy::Haproxy };
        assert!(check(proxy).0, "{:?}", check(proxy));
        let (fits, said) = check(other);
        assert!(!fits && said.contains(&format!("[{}] is missing", other.name())), "{said}");
        let text = std::fs::read_to_string(&config).unwrap();
        for (good, bad, why) in [
            ("listen = \"127.0.0.1", "listen = \"0.0.0.0", "loopback"),
            ("path = \"/\"", "nothing = 1", "unknown field"),
            ("ca = \"listener-ca.pem\"", "ca = \"none.pem\"", "none.pem"),
            ("identity = \"identity\"", "identity = \"nobody\"", "nobody"),
        ] {
            assert!(text.contains(good), "{good}");
            std::fs::write(&config, text.replace(good, bad)).unwrap();
            let (fits, said) = check(proxy);
            assert!(!fits && said.contains(why), "{bad}: {said}");
        }
        assert!(!scene.dir().join("state").exists(), "a check writes nothing");
    }
}
