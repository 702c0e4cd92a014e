//! `import_100k`: a list of 100,000 people of 120 entities, over mTLS, beside the same records appended bare: each of the
//! same batches with one write and one fdatasync. `import_100k_memory`: the most memory of the process that takes them.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use countersign::domain::certificate::AuthorityKind;
use countersign::domain::id::{EntityId, Seq};
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::journal::Journal as _;
use countersign::journal::file::{FileJournal, Options};
use countersign::pb;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::measure::{Row, median, wall_us};
use crate::start::Served;
use crate::world::{World, tls_stream};

const PEOPLE: usize = 100_000;
const ENTITIES: usize = 120;
/// People of one batch and batches of one call, as `person import` sends them.
const BATCH_LEN: usize = 1_000;
const CALL_LEN: usize = 8 * BATCH_LEN;
/// How often the bare records are appended.
const ROUNDS: usize = 5;
const MEMORY_MIB: f64 = 256.0;

pub(crate) fn import_100k() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, entities, channel) = runtime.block_on(founded());
    let before = head_of(world.dir.path());
    let served = Served::start(world.dir.path(), 0);
    let begin_kib = served.memory_kib("VmRSS");
    let channel = runtime.block_on(channel.connect(served.port()));
    let calls = calls(&entities);
    let began = wall_us();
    runtime.block_on(import(channel, calls));
    let took = wall_us() - began;
    let peak_mib = (served.memory_kib("VmHWM") - begin_kib) / 1_024.0;
    drop(served);
    let frames = frames_after(world.dir.path(), before);
    let bare = median((0..ROUNDS).map(|_| append_bare(world.dir.path(), &frames)).collect());
    let rate = |us: f64| PEOPLE as f64 / us * 1e6;
    vec![
        Row {
            name: "import_100k",
            measured: (rate(took), "1/s"),
            floor: (rate(bare), "1/s"),
            goal: ">= 0.5 x bare appends and fdatasync",
            met: rate(took) >= 0.5 * rate(bare),
        },
        Row {
            name: "import_100k_memory",
            measured: (peak_mib, "MiB"),
            floor: (MEMORY_MIB, "MiB"),
            goal: "peak - start <= 256 MiB",
            met: peak_mib <= MEMORY_MIB,
        },
    ]
}

/// What a registrar connects with.
struct Registrar {
    tls: Arc<rustls::ClientConfig>,
}

impl Registrar {
    async fn connect(self, port: u16) -> Channel {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let connector = tower::service_fn(move |_| {
            let connected = tls_stream(Arc::clone(&self.tls), address);
            async move { connected.await.map(hyper_util::rt::TokioIo::new) }
        });
        Endpoint::from_static("https://localhost").connect_with_connector(connector).await.unwrap()
    }
}

/// A service with its entities on record that has ended.
async fn founded() -> (World, Vec<EntityId>, Registrar) {
    // The process that is measured has the machine's clock, and each partner costs the sample some seconds of its own.
    let mut world = World::start_at(SystemClock.now().plus_ms(-3_600_000)).await;
    let mut entities = Vec::new();
    for _ in 0..ENTITIES {
        entities.push(world.partner().await);
    }
    let csr = world.alice.key.request().unwrap();
    let issued = world.running().app().issue_principal(&"alice".parse().unwrap(), &csr).await.unwrap();
    let state = world.running().app().state();
    let trusted: Vec<_> =
        state.enforcement.trusted(AuthorityKind::System).map(|card| card.certificate.clone()).collect();
    world.close().await;
    world.clock.set_wall(SystemClock.now());
    let tls = world.tls_of(&trusted, Some((&world.alice.key, &issued.certificate)));
    (world, entities, Registrar { tls })
}

fn calls(entities: &[EntityId]) -> Vec<Vec<pb::ImportPeopleRequest>> {
    let person = |n: usize| pb::ImportedPerson {
        entity_id: entities[n % entities.len()].to_string(),
        reference: format!("E-{n:06}"),
        relation: "EMPLOYEE".to_owned(),
        relation_until: "2027-03-31T00:00:00Z".to_owned(),
        ..Default::default()
    };
    let people: Vec<_> = (0..PEOPLE).map(person).collect();
    let batch = |people: &[_]| pb::ImportPeopleRequest { people: people.to_vec(), ..Default::default() };
    people.chunks(CALL_LEN).map(|call| call.chunks(BATCH_LEN).map(batch).collect()).collect()
}

async fn import(channel: Channel, calls: Vec<Vec<pb::ImportPeopleRequest>>) {
    let mut client = ProvisioningServiceClient::new(channel);
    let mut nominated = 0;
    for call in calls {
        let answer = client.import_people(tokio_stream::iter(call)).await.unwrap().into_inner();
        nominated += answer.outcomes.iter().filter(|outcome| outcome.outcome == "NOMINATED").count();
    }
    assert_eq!(nominated, PEOPLE);
}

fn opened(folder: &Path) -> FileJournal {
    FileJournal::open(&folder.join("journal"), &Options::new(SystemEntropy.bytes16()), None).unwrap().0
}

fn head_of(folder: &Path) -> Seq {
    opened(folder).head().seq
}

/// The bytes of each batch that nominated people: headers and bodies.
fn frames_after(folder: &Path, before: Seq) -> Vec<Vec<u8>> {
    let journal = opened(folder);
    let (mut frames, mut last, mut next) = (Vec::<Vec<u8>>::new(), None, before.next());
    loop {
        let records = journal.read(next, usize::MAX).unwrap();
        let Some(end) = records.last().map(|record| record.header.seq) else { return frames };
        for record in records {
            if last != Some(record.header.nonce) {
                frames.push(Vec::new());
            }
            last = Some(record.header.nonce);
            let frame = frames.last_mut().unwrap();
            frame.extend(record.header.encode());
            frame.extend(record.body.unwrap());
        }
        next = end.next();
    }
}

/// How long it takes to append them with a sync each, in microseconds.
fn append_bare(folder: &Path, frames: &[Vec<u8>]) -> f64 {
    let path = folder.join("floor");
    let mut file = File::create(&path).unwrap();
    file.sync_all().unwrap();
    let began = wall_us();
    for frame in frames {
        file.write_all(frame).unwrap();
        file.sync_data().unwrap();
    }
    let took = wall_us() - began;
    std::fs::remove_file(path).unwrap();
    took
}
