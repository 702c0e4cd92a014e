//! Revocation lists over plain HTTP, as openssl and HTTP caches see them.

use std::collections::BTreeMap;
use std::process::{Command as Process, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::app::Term;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::id::{EntityId, Ordinal, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use countersign::env::Clock as _;
#[cfg(feature = "faults")]
use countersign::journal::faulty::DiskFaults;
use countersign::pb;
use countersign::x509::bundle::certificate_pem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Caller, World};

const HOUR_MS: u32 = 3_600_000;
/// Lists that are fetched while decisions are made, and decisions: at least so many.
const FETCHES: usize = 200;
const DECISIONS: usize = 60;
const REASON: RevocationReason = RevocationReason::Misuse;

/// An HTTP answer.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|at| at == b"\r\n\r\n").expect("a head and an empty line");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The number of the list, as the tag shows it.
    fn number(&self) -> String {
        assert_eq!(self.status, 200);
        let shown = String::from_utf8(openssl_crl(&self.body, &["-crlnumber", "-noout"]).stdout).unwrap();
        let shown = shown.trim().trim_start_matches("crlNumber=0x").to_lowercase();
        let tag = self.header("etag").trim_matches('"').to_owned();
        assert_eq!(shown.trim_start_matches('0'), tag.trim_start_matches('0'));
        tag
    }

    /// What openssl prints of it.
    fn text(&self) -> String {
        assert_eq!(self.status, 200);
        String::from_utf8(openssl_crl(&self.body, &["-text", "-noout"]).stdout).unwrap()
    }

    /// How many certificates are listed.
    fn listed(&self) -> usize {
        self.text().matches("Serial Number:").count()
    }
}

fn openssl_crl(der: &[u8], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.crl");
    std::fs::write(&path, der).unwrap();
    let mut openssl = Process::new("openssl");
    let output = openssl.args(["crl", "-inform", "DER", "-in"]).arg(&path).args(arguments).output();
    let output = output.expect("openssl must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

impl World {
    /// Sends these bytes to the listener of lists and gives all that comes back until it closes.
    async fn crl_raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.running().crl_address().unwrap()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A listener that has heard enough may close before it has read everything.
        drop(socket.read_to_end(&mut answer).await);
        answer
    }

    async fn crl_request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: crl.test.example\r\n{headers}\r\n");
        Answer::read(&self.crl_raw(request.as_bytes()).await)
    }

    /// Where certificates of this authority with this ordinal say that their list is.
    fn crl_path(&self, kind: AuthorityKind, ordinal: u64) -> String {
        let app = self.running().app();
        let id = app.state().authority(kind).unwrap().id;
        let address = app.profile().crl_address(&id, Ordinal(ordinal)).unwrap();
        address.strip_prefix("http://crl.test.example").unwrap().to_owned()
    }

    async fn crl(&self, kind: AuthorityKind) -> Answer {
        let answer = self.crl_request("GET", &self.crl_path(kind, 1), &[]).await;
        assert_eq!(answer.status, 200);
        answer
    }

    async fn access_crl(&self) -> Answer {
        self.crl(AuthorityKind::Access).await
    }

    /// Does openssl accept the certificate under this list, at the service's time?
    fn openssl_verifies(&self, certificate: &[u8], list: &Answer) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let ca = file("ca.pem", self.access_pem().as_bytes());
        let leaf = file("leaf.pem", certificate_pem(certificate).as_bytes());
        let list = file("list.pem", &openssl_crl(&list.body, &["-outform", "PEM"]).stdout);
        let at = self.clock.now().seconds().to_string();
        let mut openssl = Process::new("openssl");
        openssl.args(["verify", "-crl_check", "-x509_strict", "-attime", &at, "-CAfile"]).arg(ca);
        let output = openssl.arg("-CRLfile").arg(list).arg(leaf).output();
        let output = output.expect("openssl must be installed");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn is_revoked(&self, certificate: &[u8], list: &Answer) -> bool {
        match self.openssl_verifies(certificate, list) {
            Ok(()) => false,
            Err(why) if why.contains("certificate revoked") => true,
            Err(why) => panic!("{why}"),
        }
    }

    async fn member(&self, entity: EntityId) -> (SubjectId, Caller) {
        let subject = self.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        (subject, self.enroll(subject).await)
    }

    async fn take(&self, command: Command) {
        assert!(self.restrict(command, pb::Wait::Committed).await.unwrap().durable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_a_live_certificate_and_refuses_a_revoked_one() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (_, first) = world.member(entity).await;
    let (second_subject, second) = world.member(entity).await;
    let (_, third) = world.member(entity).await;
    let list = world.access_crl().await;
    assert_eq!(list.listed(), 0);
    assert!(!list.text().contains("Serial Number"));
    for caller in [&first, &second, &third] {
        assert!(!world.is_revoked(&caller.certificate, &list));
    }
    let ordinal = world.read(&first.certificate).ordinal;
    let reason = RevocationReason::KeyCompromise;
    world.take(Command::Revoke { scope: RevocationScope::Certificate(ordinal), reason }).await;
    let reason = RevocationReason::AffiliationEnded;
    world.take(Command::Revoke { scope: RevocationScope::Subject(second_subject), reason }).await;
    // At once: nobody has to wait for the next list.
    let list = world.access_crl().await;
    assert!(world.is_revoked(&first.certificate, &list) && world.is_revoked(&second.certificate, &list));
    assert!(!world.is_revoked(&third.certificate, &list));
    let text = list.text();
    for expected in [
        "X509v3 Issuing Distribution Point: critical",
        &format!("URI:http://crl.test.example{}", world.crl_path(AuthorityKind::Access, 1)),
        "Only User Certificates",
        "Key Compromise",
        "Affiliation Changed",
        &world.read(&first.certificate).serial.to_string().to_uppercase(),
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_entity_has_all_its_certificates_listed_until_they_expired() {
    let world = World::start().await;
    let (entity, other) = (world.partner().await, world.partner().await);
    let (_, apart) = world.member(other).await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(world.member(entity).await.1);
    }
    world.take(Command::Revoke { scope: RevocationScope::Entity(entity), reason: REASON }).await;
    let list = world.access_crl().await;
    assert_eq!(list.listed(), 3);
    assert!(callers.iter().all(|caller| world.is_revoked(&caller.certificate, &list)));
    assert!(!world.is_revoked(&apart.certificate, &list));
    // RFC 5280 section 3.3: they stay until a list came out after they expired.
    let last = callers.iter().map(|caller| world.read(&caller.certificate).not_after).max().unwrap();
    let left_ms = u32::try_from(last.millis() - world.clock.now().millis()).unwrap();
    world.clock.advance_ms(left_ms + 1_000);
    assert!(world.access_crl().await.listed() > 0);
    world.clock.advance_ms(HOUR_MS + 1_000);
    assert_eq!(world.access_crl().await.listed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_annex_revision_has_the_certificates_listed_that_state_it() {
    let world = World::start().await;
    let (_, first) = world.member(world.partner().await).await;
    let (_, second) = world.member(world.partner().await).await;
    let stated = world.facts(&second.certificate).entity;
    let scope = RevocationScope::AnnexRevision(stated.determination.unwrap(), stated.annex_revision.unwrap());
    world.take(Command::Revoke { scope, reason: REASON }).await;
    let list = world.access_crl().await;
    assert!(world.is_revoked(&second.certificate, &list) && !world.is_revoked(&first.certificate, &list));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_released_is_a_hold_and_a_release_removes_it() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, caller) = world.member(entity).await;
    let ordinal = world.read(&caller.certificate).ordinal;
    let suspend = |target| Command::Suspend { target, reason: REASON };
    let (of_entity, of_person) = (SuspensionTarget::Entity(entity), SuspensionTarget::Subject(subject));
    let stop = StopScope::Entity(entity);
    for (take, release) in [
        (suspend(of_person), Command::Unsuspend(of_person)),
        (suspend(of_entity), Command::Unsuspend(of_entity)),
        (Command::Hold { ordinal, reason: REASON }, Command::ReleaseHold(ordinal)),
        (Command::Stop { scope: stop.clone(), reason: REASON }, Command::ReleaseStop(stop)),
    ] {
        world.take(take).await;
        let list = world.access_crl().await;
        assert_eq!((list.listed(), list.text().matches("Certificate Hold").count()), (1, 1));
        assert!(world.is_revoked(&caller.certificate, &list));
        world.enact(release).await.unwrap();
        let list = world.access_crl().await;
        assert!(!world.is_revoked(&caller.certificate, &list));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_principal_is_listed_by_the_system_authority() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let kept = world.gateway("gw-2").await;
    assert_eq!(world.crl(AuthorityKind::System).await.listed(), 0);
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    let text = world.crl(AuthorityKind::System).await.text();
    let serial = |caller: &Caller| world.read(&caller.certificate).serial.to_string().to_uppercase();
    assert!(text.contains(&serial(&gateway)) && !text.contains(&serial(&kept)), "{text}");
    assert!(text.contains("Cessation Of Operation"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_rise_with_each_signature_record_and_restart() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.member(entity).await;
    let first = world.access_crl().await;
    // Nothing changed: the same list, also after records that revoke nothing.
    world.member(entity).await;
    assert_eq!(world.access_crl().await.body, first.body);
    // Half of its life is over: it is signed anew and says the same.
    world.clock.advance_ms(HOUR_MS / 2);
    let second = world.access_crl().await;
    assert!(second.number() > first.number() && second.listed() == 0);
    let mut last = second.number();
    let ordinal = world.read(&caller.certificate).ordinal;
    world.take(Command::Revoke { scope: RevocationScope::Certificate(ordinal), reason: REASON }).await;
    for _ in 0..3 {
        let list = world.access_crl().await;
        assert!(list.number() > last && list.listed() == 1);
        last = list.number();
        // A restart without a record between counts its signatures from the time, and its number is higher.
        world.close().await;
        world.clock.advance_ms(10);
        world.open().await;
    }
    // Nor does a run on an old copy of the record, whose head is lower, give a lower number, or one again.
    world.close().await;
    let copy = world.copy_data();
    for _ in 0..3 {
        world.restore_data(&copy);
        world.clock.advance_ms(1_000);
        world.open().await;
        let number = world.access_crl().await.number();
        let pushed = world.running().app().trust_set(Term::Leased, None).await.unwrap().number.to_string();
        assert!(number > last && pushed > number, "{last} {number} {pushed}");
        last = pushed;
        // What this copy goes on to record is lost as well.
        let ordinal = world.read(&caller.certificate).ordinal;
        world.take(Command::Hold { ordinal, reason: REASON }).await;
        world.close().await;
    }
    world.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_told_what_they_need() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.member(entity).await;
    let path = world.crl_path(AuthorityKind::Access, 1);
    let list = world.access_crl().await;
    let names = ["content-type", "cache-control", "date", "last-modified", "expires", "connection"];
    let shown = names.map(|name| list.header(name));
    let expected = [
        "application/pkix-crl",
        "public, max-age=3600",
        "Sat, 27 Jun 2026 12:00:02 GMT",
        "Sat, 27 Jun 2026 12:00:02 GMT",
        "Sat, 27 Jun 2026 13:00:02 GMT",
        "close",
    ];
    assert_eq!(shown, expected);
    let tag = list.header("etag").to_owned();
    let ask = async |name, value: &str| world.crl_request("GET", &path, &[(name, value)]).await;
    for known in [&tag, "*", &format!("\"other\", {tag}"), &format!("W/{tag}")] {
        let same = ask("If-None-Match", known).await;
        assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, tag.as_str()), "{known}");
        assert_eq!(same.header("expires"), expected[4]);
    }
    assert_eq!(ask("If-None-Match", "\"other\"").await.status, 200);
    assert_eq!(ask("If-Modified-Since", expected[3]).await.status, 304);
    assert_eq!(ask("If-Modified-Since", "Sat, 27 Jun 2026 12:00:01 GMT").await.status, 200);
    assert_eq!(ask("If-Modified-Since", "yesterday").await.status, 200);
    // The tag is believed before the time.
    let both = [("If-None-Match", "\"other\""), ("If-Modified-Since", expected[3])];
    assert_eq!(world.crl_request("GET", &path, &both).await.status, 200);
    let head = world.crl_request("HEAD", &path, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), list.body.len().to_string());
    world.clock.advance_ms(10_000);
    assert_eq!(world.access_crl().await.header("cache-control"), "public, max-age=3590");
    // A list of the same second as the one before is not named by its time.
    let ordinal = world.read(&caller.certificate).ordinal;
    world.take(Command::Hold { ordinal, reason: REASON }).await;
    let held = world.access_crl().await;
    world.enact(Command::ReleaseHold(ordinal)).await.unwrap();
    assert_eq!(ask("If-Modified-Since", held.header("last-modified")).await.status, 200);
    assert_eq!(ask("If-None-Match", held.header("etag")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_served_empty_before_its_block_opens_and_nothing_else_is() {
    let world = World::start().await;
    let path = |ordinal| world.crl_path(AuthorityKind::Access, ordinal);
    let status = async |method, path: &str| world.crl_request(method, path, &[]).await.status;
    // The first block is announced, up to 10,000; its last certificate names the second shard.
    assert_eq!(world.running().app().state().enforcement.ceiling, Ordinal(10_000));
    for announced in [path(1), path(10_000), world.crl_path(AuthorityKind::System, 10_000)] {
        let empty = world.crl_request("GET", &announced, &[]).await;
        assert_eq!((empty.status, empty.listed()), (200, 0), "{announced}");
    }
    let first = path(1);
    let other = first.replace("/0.crl", "/00.crl");
    let id = first.split('/').nth(2).unwrap();
    for missing in [
        path(20_000),
        path(u64::MAX),
        world.crl_path(AuthorityKind::System, 20_000),
        other,
        first.replace("/0.crl", "/+0.crl"),
        first.replace("/0.crl", "/-1.crl"),
        first.replace("/0.crl", "/99999999999999999999999.crl"),
        first.replace("/0.crl", "/0"),
        first.replace(id, &id.to_lowercase()),
        first.replace(id, "aut_00000000000000000000000000"),
        first.replace(id, "%2e%2e"),
        "/crl/".to_owned(),
        "/".to_owned(),
        format!("{first}/"),
        format!("/crl/../{first}"),
    ] {
        assert_eq!(status("GET", &missing).await, 404, "{missing}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
        let refused = world.crl_request(method, &first, &[]).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_slow_clients_are_cut_and_the_next_one_is_served() {
    let world = World::start().await;
    let path = world.crl_path(AuthorityKind::Access, 1);
    let slow = world.crl_raw(b"GET / HTTP/1.1\r\nHost: x\r\nX-Never");
    let long = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000));
    let many = format!("GET {path} HTTP/1.1\r\n{}\r\n", "X-Many: 1\r\n".repeat(100));
    let line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40).as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\r\n\0\0\0\xff\xff\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        line.as_bytes(),
    ] {
        let answer = world.crl_raw(garbage).await;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(head.is_empty() || head.starts_with("HTTP/1.1 4"), "{head}");
    }
    // What follows a request on its connection is not answered.
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = world.crl_raw(request.repeat(50).as_bytes()).await;
    assert!(answer.windows(9).filter(|at| at == b"HTTP/1.1 ").count() <= 1);
    let silent = world.crl_raw(b"");
    let both = async { tokio::join!(slow, silent) };
    let (answer, nothing) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("they are cut");
    assert!(!answer.starts_with(b"HTTP/1.1 2") && nothing.is_empty());
    assert_eq!(world.access_crl().await.listed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trusted_clock_no_list_is_given() {
    let world = World::start().await;
    let entity = world.partner().await;
    world.member(entity).await;
    world.access_crl().await;
    let right = world.clock.now();
    world.clock.set_wall(right.plus_ms(-6_000));
    let later = world.crl_request("GET", &world.crl_path(AuthorityKind::Access, 1), &[]).await;
    assert_eq!((later.status, later.header("retry-after"), later.body.len()), (503, "1", 0));
    assert_eq!(later.header("cache-control"), "no-store");
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    assert_eq!(world.access_crl().await.listed(), 0);
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_record_cannot_be_written_no_list_is_given() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.member(entity).await;
    let before = world.access_crl().await.number();
    DiskFaults::at(&world.dir.path().join("journal")).fail_sync();
    let ordinal = world.read(&caller.certificate).ordinal;
    let hold = Command::Hold { ordinal, reason: REASON };
    // It is held in memory: a list without it would say that all is well.
    assert!(!world.restrict(hold, pb::Wait::Committed).await.unwrap().durable);
    let path = world.crl_path(AuthorityKind::Access, 1);
    assert_eq!(world.crl_request("GET", &path, &[]).await.status, 503);
    assert_eq!(world.crl_request("GET", &world.crl_path(AuthorityKind::System, 1), &[]).await.status, 503);
    world.close().await;
    world.open().await;
    assert!(world.access_crl().await.number() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_under_load_do_not_disturb_decisions() {
    let world = Arc::new(World::start().await);
    let entity = world.partner().await;
    let (_, caller) = world.member(entity).await;
    let ordinal = world.read(&world.member(entity).await.1.certificate).ordinal;
    let gateway = world.gateway("gw-1").await;
    let channel = world.connect(Some((&gateway.key, &gateway.certificate))).await;
    let (fetched, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let fetchers: Vec<_> = (0..8)
        .map(|_| {
            let (world, fetched, done) = (Arc::clone(&world), Arc::clone(&fetched), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    world.access_crl().await;
                    fetched.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    // A lease's worth would be noticed; an unoptimised build on two busy cores needs milliseconds.
    let patience = Duration::from_secs(2);
    let mut decisions = 0_usize;
    while fetched.load(Ordering::SeqCst) < FETCHES || decisions < DECISIONS {
        // Every list is signed anew in between.
        if decisions.is_multiple_of(20) {
            world.take(Command::Hold { ordinal, reason: REASON }).await;
            world.enact(Command::ReleaseHold(ordinal)).await.unwrap();
        }
        let decided = world.evaluate(&channel, &caller.certificate, "mythos-5");
        assert!(tokio::time::timeout(patience, decided).await.expect("a decision in time").permit);
        decisions += 1;
    }
    done.store(true, Ordering::SeqCst);
    for fetcher in fetchers {
        fetcher.await.unwrap();
    }
}

/// Every certificate is accepted under the list that it names from the moment it is there, on both sides of the end of a
/// block, and a revoked one of either side is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_block_keeps_no_live_certificate_out() {
    let world = World::start().await;
    let entity = world.partner().await;
    world.take_ordinals(entity, 9_997).await;
    let own_list = async |caller: &Caller| {
        let path = world.crl_path(AuthorityKind::Access, world.read(&caller.certificate).ordinal.0);
        world.crl_request("GET", &path, &[]).await
    };
    let mut callers: Vec<Caller> = Vec::new();
    for expected in 9_997..=10_003 {
        callers.push(world.member(entity).await.1);
        let last = world.read(&callers[callers.len() - 1].certificate).ordinal;
        assert_eq!(last, Ordinal(expected));
        for caller in &callers {
            assert!(!world.is_revoked(&caller.certificate, &own_list(caller).await), "{last}");
        }
    }
    for (place, shard) in [(2, 0), (3, 1), (4, 1)] {
        let ordinal = world.read(&callers[place].certificate).ordinal;
        assert_eq!(ordinal.0 / 10_000, shard);
        world.take(Command::Hold { ordinal, reason: REASON }).await;
    }
    for (place, caller) in callers.iter().enumerate() {
        let is_revoked = world.is_revoked(&caller.certificate, &own_list(caller).await);
        assert_eq!(is_revoked, (2..=4).contains(&place), "{place}");
    }
}
