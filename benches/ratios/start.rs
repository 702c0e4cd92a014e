//! `start_1m`: from the start of a process to serving, with a million certificates of 100,000 people on record, beside reading and
//! hashing as many bytes as it reads. `restart_gap`: from kill -9 to the first Pong of the next one, at a gate that permits
//! meanwhile.
//!
//! All of it is issued by the service. `--certificates N` issues fewer, to a tenth as many people.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use countersign::client::{Gate, GateConfig};
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::env::{Clock as _, SystemClock, SystemEntropy};
use countersign::server;
use countersign::x509::{ClientKey, Curve};
use serde_json::{Value, json};

use crate::gate::{config, hold_card, question};
use crate::measure::{Row, median, resident_kib, wall_us};
use crate::world::{self, World};

const CERTIFICATES: usize = 1_000_000;
/// Certificates of each person.
const EACH: usize = 10;
const ENTITIES: usize = 120;
/// Requests under way at once.
const CONCURRENT: usize = 64;
/// Starts measured.
const STARTS: usize = 3;
/// Bytes read and hashed at once for the floor.
const CHUNK: usize = 1 << 20;
/// The lease of the sample's genesis.
const LEASE_MS: f64 = 10_000.0;
const GIB_MIB: f64 = 1_024.0;

pub(crate) fn start_1m() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, gateway, leaf) = runtime.block_on(populated());
    let starts: Vec<_> = (0..STARTS).map(|_| start(world.dir.path())).collect();
    let of = |key: &str| median(starts.iter().map(|start| start[key].as_f64().unwrap()).collect());
    let (took, read, resident) = (of("ms"), of("read"), of("kib") / 1_024.0);
    eprintln!("start_1m reads {:.1} MB", read / 1e6);
    let floor = median((0..STARTS).map(|_| hash_ms(world.dir.path(), read)).collect());
    let gap = runtime.block_on(restart_gap(&world, gateway, &leaf));
    let row = |name, measured, floor, unit, goal, factor: f64| Row {
        name,
        measured: (measured, unit),
        floor: (floor, unit),
        goal,
        met: measured <= factor * floor,
    };
    vec![
        row("start_1m", took, floor, "ms", "<= 3 x read and SHA-256 of its bytes", 3.0),
        row("start_1m_memory", resident, GIB_MIB, "MiB", "<= 1 GiB resident", 1.0),
        row("restart_gap", gap, LEASE_MS / 2.0, "ms", "<= half a lease, nothing denied", 1.0),
    ]
}

/// A service with everything on record that has ended, a gateway of it, and a certificate to ask it about.
async fn populated() -> (World, GateConfig, Vec<u8>) {
    // The processes that are measured have the machine's clock, and each partner costs the sample some seconds of its own.
    let mut world = World::start_at(SystemClock.now().plus_ms(-3_600_000)).await;
    let count = crate::CERTIFICATES.get().copied().unwrap_or(CERTIFICATES);
    let mut entities = Vec::new();
    for _ in 0..ENTITIES {
        entities.push(world.partner().await);
    }
    let world_shared = Arc::new(world);
    let subjects = employ(&world_shared, Arc::new(entities), count.div_ceil(EACH)).await;
    enroll(&world_shared, &Arc::new(subjects)).await;
    world = Arc::into_inner(world_shared).unwrap();
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let leaf = world.enroll(subject).await.certificate;
    let gateway = config(&world, "gw-restart").await;
    world.close().await;
    (world, gateway, leaf)
}

async fn employ(world: &Arc<World>, entities: Arc<Vec<EntityId>>, count: usize) -> Vec<SubjectId> {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = (0..CONCURRENT).map(|_| {
        let (world, entities, next) = (Arc::clone(world), Arc::clone(&entities), Arc::clone(&next));
        tokio::spawn(async move {
            let mut employed = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return employed;
                }
                let entity = entities[n % entities.len()];
                // So that the buckets of the rates fill again.
                world.clock.advance_ms(1);
                employed.push(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await);
            }
        })
    });
    let mut subjects = Vec::with_capacity(count);
    for task in tasks.collect::<Vec<_>>() {
        subjects.extend(task.await.unwrap());
    }
    subjects
}

async fn enroll(world: &Arc<World>, subjects: &Arc<Vec<SubjectId>>) {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = (0..CONCURRENT).map(|_| {
        let (world, subjects, next) = (Arc::clone(world), Arc::clone(subjects), Arc::clone(&next));
        tokio::spawn(async move {
            let caller = countersign::app::Caller { principal: "alice".parse().ok(), request: None };
            while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed) / EACH) {
                let app = world.running().app();
                let mode = countersign::app::Mode::Commit;
                let token = app.create_token(&caller, *subject, 0, mode).await.unwrap().token.reveal();
                let key = ClientKey::generate(Curve::P256).unwrap();
                drop(app.enroll(&token, &key.request().unwrap()).await.unwrap());
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A process that serves, and what it said when it did.
pub(crate) struct Served {
    child: Child,
    said: Value,
}

impl Served {
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--serve".as_ref(), folder.as_os_str(), port.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, said: serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.said["port"].as_u64().unwrap()).unwrap()
    }

    /// What `/proc` says of its memory, under this name.
    pub(crate) fn memory_kib(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Served {
    /// kill -9.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The role of such a process: it serves until it is killed, or whoever started it ends.
pub(crate) fn run_served(folder: &Path, port: u16) {
    let mut settings = world::settings(folder);
    settings.listen.set_port(port);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (begin, before) = (wall_us(), read_bytes());
    let start = server::start(settings, Arc::new(SystemClock), Arc::new(SystemEntropy));
    let running = runtime.block_on(start).unwrap();
    let ms = (wall_us() - begin) / 1e3;
    let said = json!({
        "ms": ms, "read": read_bytes() - before, "kib": resident_kib(), "port": running.address().port(),
    });
    println!("{said}");
    drop(std::io::stdin().read(&mut [0]));
}

/// Bytes that this process has read.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

fn start(folder: &Path) -> Value {
    Served::start(folder, 0).said.clone()
}

/// Reads so many bytes of the folder's files, and hashes them.
fn hash_ms(folder: &Path, bytes: f64) -> f64 {
    let mut files = Vec::new();
    files_in(folder, &mut files);
    let (mut left, mut chunk) = (bytes as usize, vec![0; CHUNK]);
    let begin = wall_us();
    let mut hash = Context::new(&SHA256);
    for path in files.iter().cycle() {
        let mut file = std::fs::File::open(path).unwrap();
        loop {
            let read = file.read(&mut chunk[..left.min(CHUNK)]).unwrap();
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            left -= read;
        }
        if left == 0 {
            break;
        }
    }
    std::hint::black_box(hash.finish());
    (wall_us() - begin) / 1e3
}

fn files_in(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_in(&path, files) } else { files.push(path) }
    }
}

/// From kill -9 to the first longer lease, at a gate that is asked all the time.
async fn restart_gap(world: &World, mut gateway: GateConfig, leaf: &[u8]) -> f64 {
    let served = Served::start(world.dir.path(), 0);
    let port = served.port();
    gateway.target.address = format!("127.0.0.1:{port}");
    gateway.clock = Arc::new(SystemClock);
    let gate = Arc::new(Gate::connect(gateway).await.unwrap());
    gate.ready(Duration::from_secs(10)).await.unwrap();
    hold_card(&gate, leaf).await;
    let denied = Arc::new(AtomicU64::new(0));
    let asking = tokio::spawn(ask(Arc::clone(&gate), leaf.to_vec(), Arc::clone(&denied)));
    let lease_end = || SystemClock.boot_ms() + gate.status().lease_left_ms;
    drop(served);
    let (killed, before) = (wall_us(), lease_end());
    let folder = world.dir.path().to_owned();
    let next = tokio::task::spawn_blocking(move || Served::start(&folder, port));
    // The end of a lease that nobody makes longer is read a millisecond early or late.
    while lease_end() <= before + 5 {
        assert!(wall_us() - killed < 60e6, "no Pong: {:?}", gate.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let gap = (wall_us() - killed) / 1e3;
    asking.abort();
    assert_eq!(denied.load(Ordering::Relaxed), 0, "denied meanwhile, after a gap of {gap} ms");
    drop(next.await.unwrap());
    gap
}

async fn ask(gate: Arc<Gate>, leaf: Vec<u8>, denied: Arc<AtomicU64>) {
    loop {
        denied.fetch_add(u64::from(!gate.decide(&leaf, &question()).is_permit()), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
