//! What the fuzz targets begin with (fuzz/): the bytes of a real session, written anew by each run of the tests, so that they
//! are never of an older format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use countersign::app::Term;
use countersign::client::{Gate, GateOptions, Kept, SnapshotFile};
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::enforce::EnforcementSet;
use countersign::domain::event::{Entry, Event};
use countersign::domain::id::{BootId, EntityId, SubjectId};
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::envoy::asked::leaf;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use countersign::pb::subscribe_response::Message as Down;
use countersign::screening::read_list;
use countersign::x509::bundle::certificate_pem;
use countersign::x509::{TrustBundle, crl_read};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::calls::enrolled;
use crate::gate::{PATIENCE, STRONG, config};
use crate::screening;
use crate::world::{Caller, World};

const REASON: RevocationReason = RevocationReason::Drill;

/// The folder of the seeds.
struct Seeds(PathBuf);

impl Seeds {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz/seeds");
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Everything that a gateway hears on one stream.
struct Session {
    up: mpsc::Sender<pb::SubscribeRequest>,
    down: Streaming<pb::SubscribeResponse>,
    heard: Vec<pb::SubscribeResponse>,
    applied: u64,
}

impl Session {
    async fn open(world: &World, gateway: &Caller) -> Self {
        let (up, waiting) = mpsc::channel(8);
        let boot_id = BootId::from_parts(world.clock.now(), SystemEntropy.bytes16()).to_string();
        up.send(request(Up::Open(pb::Open { boot_id, versions: vec![1], ..Default::default() })))
            .await
            .unwrap();
        let mut client = EnforcementServiceClient::new(world.connect_as(gateway).await);
        let down = client.subscribe(ReceiverStream::new(waiting)).await.unwrap().into_inner();
        Self { up, down, heard: Vec::new(), applied: 0 }
    }

    /// Listens up to a message that is one.
    async fn until(&mut self, is: impl Fn(&Down) -> bool) {
        let listening = async {
            loop {
                let heard = self.down.message().await.unwrap().expect("the stream goes on");
                self.heard.push(heard.clone());
                let Some(message) = heard.message else { continue };
                self.acknowledge(&message).await;
                if is(&message) {
                    return;
                }
            }
        };
        timeout(PATIENCE, listening).await.expect("the server says it");
    }

    /// The server waits for acknowledgements when many messages have none.
    async fn acknowledge(&mut self, message: &Down) {
        match message {
            Down::SnapshotBegin(begin) => self.applied = begin.seq,
            Down::Delta(delta) => self.applied = delta.to_seq,
            _ => return,
        }
        let ack = pb::Ack { applied_seq: self.applied, barrier_id: 0 };
        if matches!(message, Down::Delta(_)) {
            self.up.send(request(Up::Ack(ack))).await.unwrap();
        }
    }

    /// The first lease, as a gateway gets it that has applied everything so far.
    async fn lease(&mut self) {
        self.up.send(request(Up::Ping(pb::Ping { ping_id: 1, applied_seq: self.applied }))).await.unwrap();
        self.until(|message| matches!(message, Down::Pong(_))).await;
    }

    /// The messages one after the other, each with its length before it.
    fn recording(&self) -> Vec<u8> {
        self.heard.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect()
    }

    /// The enforcement set of its snapshot.
    fn set(&self) -> Vec<u8> {
        let (mut len, mut parts) = (0, Vec::new());
        for response in &self.heard {
            match &response.message {
                Some(Down::SnapshotBegin(begin)) => len = usize::try_from(begin.bytes).unwrap(),
                Some(Down::SnapshotPart(part)) => parts.extend_from_slice(&part.data),
                _ => {}
            }
        }
        zstd::bulk::decompress(&parts, len).unwrap()
    }
}

fn request(message: Up) -> pb::SubscribeRequest {
    pb::SubscribeRequest { message: Some(message) }
}

/// One restriction of each kind that one certificate allows.
async fn restrict(world: &World, (entity, subject, leaf): (EntityId, SubjectId, &[u8])) {
    let ordinal = world.read(leaf).ordinal;
    let lineage = world.facts(leaf).step.lineage;
    for command in [
        Command::Hold { ordinal, reason: REASON },
        Command::Suspend { target: SuspensionTarget::Subject(subject), reason: REASON },
        Command::Stop { scope: StopScope::Model("mythos-5".parse().unwrap()), reason: REASON },
        Command::Stop { scope: StopScope::All, reason: REASON },
        Command::Revoke { scope: RevocationScope::Certificate(ordinal), reason: REASON },
        Command::Revoke { scope: RevocationScope::Lineage(lineage), reason: REASON },
        Command::Revoke { scope: RevocationScope::Subject(subject), reason: REASON },
        Command::Revoke { scope: RevocationScope::Entity(entity), reason: REASON },
    ] {
        world.restrict(command, pb::Wait::Committed).await.unwrap();
    }
    let next = world.prepare(AuthorityKind::Access).await;
    world.enact(Command::RollbackAuthority(next)).await.unwrap();
    // Long enough that the next snapshot is made anew.
    for _ in 0..2 {
        let parts = world.running().app().state().bundle().parts().clone();
        world.enact(Command::AdoptPolicy(Box::new(parts))).await.unwrap();
    }
}

/// What a gateway can say.
fn said(entity: EntityId, signed_head: &Bytes) -> [(&'static str, Up); 5] {
    let boot_id = BootId::from_bytes([1; 16]).to_string();
    let cards = vec![pb::HeldCard { entity_id: entity.to_string(), revision: 7 }];
    let open = pb::Open {
        boot_id,
        epoch: 1,
        applied_seq: 9,
        digest: vec![7; 32].into(),
        signed_head: signed_head.clone(),
        versions: vec![1],
        enforcement: Some(pb::Strength { per_request: true, stream_cut_ms: 100, ..Default::default() }),
        cards,
        agent: "countersign-client/0.1.0".to_owned(),
        adapter: "library".to_owned(),
    };
    let nack = pb::Nack { seq: 9, code: "GAP".to_owned(), detail: "a record is missing".to_owned() };
    [
        ("open", Up::Open(open)),
        ("ack", Up::Ack(pb::Ack { applied_seq: 9, barrier_id: 1 })),
        ("nack", Up::Nack(nack)),
        ("ping", Up::Ping(pb::Ping { ping_id: 1, applied_seq: 9 })),
        ("want", Up::Want(pb::Want { entity_id: entity.to_string() })),
    ]
}

/// What the first two officers signed.
async fn genesis(world: &World) -> Vec<u8> {
    let mut client = AuditServiceClient::new(world.alice());
    let first = pb::ListRecordsRequest { from_seq: 1, page_size: 1 };
    let records = client.list_records(first).await.unwrap().into_inner().records;
    let entry: Entry = from_bytes(&records[0].body).unwrap();
    let Event::Genesis { bytes, .. } = entry.event else { panic!("{entry:?}") };
    bytes
}

/// The payloads inside messages, each after the number that the target knows its kind by.
fn payloads(heard: &[pb::SubscribeResponse]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for message in heard.iter().filter_map(|response| response.message.as_ref()) {
        match message {
            Down::Delta(delta) => {
                let events = delta.records.iter().flat_map(|record| &record.events);
                found.extend(events.map(|event| [&[0], event.as_ref()].concat()));
                found.extend(delta.cards.iter().map(|card| [&[2], card.card.as_ref()].concat()));
            }
            Down::Welcome(pb::Welcome { signed_head, .. }) | Down::Pong(pb::Pong { signed_head, .. }) => {
                found.push([&[1], signed_head.as_ref()].concat());
            }
            _ => {}
        }
    }
    found
}

/// What proxies, their agents and the gate's own disk give.
async fn of_proxies(world: &World, seeds: &Seeds, (gateway, person): (&Caller, &Caller)) {
    let set = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
    let list = pem::parse(&set.crl).unwrap();
    let authorities = TrustBundle::from_pem(std::str::from_utf8(&set.bundle).unwrap()).unwrap();
    assert!(crl_read::read_all(std::str::from_utf8(&set.crl).unwrap(), &authorities).is_ok());
    seeds.write("access.pem", &set.bundle);
    seeds.write("access-key.pem", &std::fs::read(world.dir.path().join("keys/access.pem")).unwrap());
    seeds.write("crl/list", list.contents());
    seeds.write("crl/set", &set.crl);
    for action in 0..6 {
        seeds.write(&format!("crl/change-{action}"), &[action, 9, 1, 2, 3, 4]);
    }
    let pem = certificate_pem(&person.certificate);
    let escaped = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let rest = "\0mythos-5\0INFERENCE\0US\0DE\0";
    for (name, text) in [("escaped", &escaped), ("base64", &base64)] {
        assert_eq!(leaf(text).as_ref(), Some(&person.certificate), "{name}");
        seeds.write(&format!("leaf_header/{name}"), format!("{text}{rest}").as_bytes());
    }
    // Asks for two of the names, is sent sets, acknowledges, refuses, asks for others.
    seeds.write(
        "sds/leased",
        &[1, 0, 1, 0, 0, 0, 2, 1, 5, 0, 1, 0, 0, 1, 1, 2, 1, 7, 0, 1, 0, 0, 2, 2, 1, b'x'],
    );
    seeds.write("sds/incremental", &[0, 1, 2, 0, 0, 0, 1, 0, 0, 2, 1, 3, 3, 1, 1, 0, 1, 0, 1, 1, 1]);
    let path = world.dir.path().join("kept");
    let options = GateOptions {
        snapshot: Some(SnapshotFile { path: path.clone(), every_ms: 0 }),
        ..GateOptions::default()
    };
    let config = config(world, (gateway, world.running().address()), STRONG, &world.clock);
    let gate = Gate::connect_with(config, options).await.unwrap();
    // Once a signed head covers it, which comes with a Pong.
    let written = async {
        while !path.exists() {
            world.clock.advance_ms(500);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, written).await.expect("a view is kept");
    gate.shutdown().await;
    let kept = std::fs::read(path).unwrap();
    assert!(Kept::from_bytes(&kept).is_ok());
    seeds.write("kept/file", &kept);
    let (len, content) = kept[40..].split_first_chunk::<8>().unwrap();
    let len = usize::try_from(u64::from_be_bytes(*len)).unwrap();
    seeds.write("kept/content", &zstd::bulk::decompress(content, len).unwrap());
}

/// What a proxy asks the agent for each request.
fn of_agent(seeds: &Seeds, person: &Caller) {
    let pem = certificate_pem(&person.certificate);
    let escaped = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let ask = |certificate: &str, more: &str| {
        format!(
            "GET /authz HTTP/1.1\r\nHost: localhost\r\nX-Ssl-Client-Cert: {certificate}\r\nX-Model: mythos-5\r\n\
             X-Place: US\r\n{more}\r\n"
        )
    };
    let (first, second) =
        (ask(&escaped, ""), ask(&base64, "x-countersign-probe: p-1\r\nConnection: close\r\n"));
    seeds.write("agent_http/escaped", first.as_bytes());
    seeds.write("agent_http/two", format!("{first}{second}").as_bytes());
    seeds.write("agent_http/twice", ask(&escaped, "X-Model: fable-5\r\n").as_bytes());
    seeds.write("agent_http/posted", b"POST /authz HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    seeds.write(
        "agent_http/chunked",
        b"GET /authz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    );
}

/// What officers and partners give as files: a screening list in its three formats, a policy bundle, lists of people.
fn of_files(seeds: &Seeds, (entity, subject): (EntityId, SubjectId)) {
    let rows = [("a1", "Northwind Quantum Ltd.", "NQ; Nordwind"), ("a2", "Far Away Shipping", "")];
    let csv = screening::csv(&rows);
    let tsv = csv.replace("\"Town, CN\"", "Town").replace(',', "\t");
    let json = serde_json::json!({ "total": 1, "sources": [], "results": [{
        "id": "a1", "source": "Entity List (EL) - Bureau of Industry and Security", "entity_number": 7, "type": "Entity",
        "name": "Northwind Quantum Ltd.", "alt_names": ["NQ"], "programs": [], "start_date": "2019-05-21",
        "addresses": [{ "address": "1 Road", "city": "Town", "state": null, "postal_code": null, "country": "CN" }],
        "nationalities": ["CN"], "ids": [{ "type": "x", "number": "1" }],
    }] });
    for (name, text) in [("csv", csv), ("tsv", tsv), ("json", json.to_string())] {
        assert!(read_list(text.as_bytes(), |_| Ok(())).is_ok(), "{name}: {text}");
        seeds.write(&format!("screening/{name}"), text.as_bytes());
    }
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/policy");
    let mut files =
        ["models", "posture", "provider-policy"].map(|name| policy.join(format!("{name}.toml"))).to_vec();
    let determinations = std::fs::read_dir(policy.join("determinations")).unwrap();
    files.extend(determinations.map(|entry| entry.unwrap().path()));
    files[3..].sort();
    let texts: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    seeds.write("policy/sample", texts.join("\0").as_bytes());
    seeds.write("policy/one", texts[..4].join("\0").as_bytes());
    let until = "2027-03-31T00:00:00Z";
    let csv = format!(
        "entity_id,reference,relation,relation_until\n{entity},E-1,EMPLOYEE,{until}\r\n{entity},\"E-2\",CONTRACTOR,\n\
         {entity},E-l,EMPLOYEE,\n"
    );
    let of_subject = format!("entity_id,subject_id,relation\n{entity},{subject},EMPLOYEE\n");
    let lines = format!(
        "{{\"entity_id\":\"{entity}\",\"reference\":\"E-1\",\"relation\":\"EMPLOYEE\",\"relation_until\":\"{until}\"}}\n\
         {{\"entity_id\":\"{entity}\",\"subject_id\":\"{subject}\",\"relation\":\"NONE\"}}\n"
    );
    for (name, kind, text) in
        [("csv", 0, &csv), ("alike", 2, &csv), ("subject", 0, &of_subject), ("jsonl", 1, &lines)]
    {
        seeds.write(&format!("people/{name}"), &[&[kind], text.as_bytes()].concat());
    }
    for name in ["countersign-access-unleased-canary", "countersign-access", "countersign-listener"] {
        seeds.write(&format!("sds_name/{name}"), name.as_bytes());
    }
}

/// One text of each kind that a target tells apart by its number.
fn words(seeds: &Seeds, world: &World, leaf: &[u8]) {
    let (facts, authority) = (world.facts(leaf), world.read(leaf).issuer.to_string());
    let words = [
        format!("/{authority}/0.crl"),
        "countersign-client/0.1.0".to_owned(),
        "gw-1".to_owned(),
        facts.entity.entity.to_string(),
        facts.subject.to_string(),
        authority,
        facts.step.lineage.to_string(),
        BootId::from_bytes([1; 16]).to_string(),
        "mythos-5".to_owned(),
        "INFERENCE".to_owned(),
        world.clock.now().to_string(),
        "test.example".to_owned(),
        "1.3.6.1.4.1.32473".to_owned(),
        "US".to_owned(),
    ];
    for (kind, word) in (0_u8..).zip(words) {
        seeds.write(&format!("words/{kind}"), &[&[kind], word.as_bytes()].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_of_the_fuzz_targets_are_those_of_a_real_session() {
    let world = World::start().await;
    let seeds = Seeds::new();
    let (entity, subject, person) = enrolled(&world).await;
    let gateway = world.gateway("gw-1").await;
    let bundle = world.access_pem() + &world.system_pem();
    seeds.write("bundle.pem", bundle.as_bytes());
    seeds.write("log-key", &world.running().app().state().settings.log_key);
    seeds.write("entity", &entity.to_bytes());
    seeds.write("leaf/person", &person.certificate);
    seeds.write("leaf/gateway", &gateway.certificate);
    seeds.write("csr/request", &person.key.request().unwrap());
    seeds.write("files/bundle", bundle.as_bytes());
    seeds.write("files/certificate", certificate_pem(&person.certificate).as_bytes());

    // One gateway hears everything as it happens, another what has become of it.
    let mut first = Session::open(&world, &gateway).await;
    first.until(|message| matches!(message, Down::SnapshotEnd(_))).await;
    first.up.send(request(Up::Want(pb::Want { entity_id: entity.to_string() }))).await.unwrap();
    first.until(|message| matches!(message, Down::Delta(delta) if !delta.cards.is_empty())).await;
    restrict(&world, (entity, subject, &person.certificate)).await;
    first.lease().await;
    let mut second = Session::open(&world, &gateway).await;
    second.until(|message| matches!(message, Down::SnapshotEnd(_))).await;
    second.lease().await;
    seeds.write("replica/deltas", &first.recording());
    seeds.write("replica/snapshot", &second.recording());
    let heard = [first.heard.as_slice(), &second.heard].concat();
    for (at, message) in heard.iter().enumerate() {
        seeds.write(&format!("to_gateway/{at}"), &message.encode_to_vec());
    }
    let command = Command::RemovePrincipal("gw-1".parse().unwrap());
    let mandate = world.mandate(&command).await.unwrap();
    let of_officers = [(3, mandate), (4, to_bytes(&command)), (5, genesis(&world).await)];
    let of_officers = of_officers.map(|(kind, bytes)| [&[kind], bytes.as_slice()].concat());
    let payloads = [payloads(&heard).as_slice(), &of_officers].concat();
    assert!((0..=5).all(|kind| payloads.iter().any(|payload| payload[0] == kind)), "{payloads:?}");
    for (at, payload) in payloads.iter().enumerate() {
        seeds.write(&format!("payload/{at}"), payload);
    }
    let set: EnforcementSet = from_bytes(&second.set()).unwrap();
    assert!(!set.revoked.is_empty() && !set.held.is_empty() && !set.stops.is_empty(), "{set:?}");
    seeds.write("set", &second.set());
    seeds.write("snapshot/set", &second.set());
    seeds.write("ordinals/revoked", &to_bytes(&set.revoked));
    of_proxies(&world, &seeds, (&gateway, &person)).await;
    of_agent(&seeds, &person);
    of_files(&seeds, (entity, subject));
    words(&seeds, &world, &person.certificate);
    seeds.write("from_gateway/reports", &crate::reports::good().encode_to_vec());
    let Some(Down::Welcome(welcome)) = &first.heard[0].message else { panic!("{:?}", first.heard[0]) };
    for (name, message) in said(entity, &welcome.signed_head) {
        seeds.write(&format!("from_gateway/{name}"), &request(message).encode_to_vec());
    }
}
