//! A partner's helper: redeems the tokens of its people and keeps their certificates good. Each key is made here, in a file of
//! its person, and never leaves it.
//!
//! ```text
//! cargo run --example partner -- FOLDER [--once]
//!
//! FOLDER has what the operator and `countersign person tokens` gave:
//!   server            address of the service, host:port
//!   server-name       the name in its certificate, when that is another one
//!   system.pem        authorities of principals
//!   tokens.jsonl      tokens, mode 0600; it may be removed once all of them are redeemed
//! and gets, for each person:
//!   people/sub_.../current/key.pem            mode 0600
//!   people/sub_.../current/certificate.pem    the chain, leaf first
//! ```
//!
//! A certificate is renewed with a new key when 70 % of its life is over, or as soon as the service says so. `current` moves to
//! the new pair in one step. Whatever ends the helper, the same command goes on: a key is on disk before anything is asked for
//! with it, and the same key gets the same certificate. With `--once` it redeems, renews what is due, and ends; exit 1 when
//! somebody has no good certificate.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Identity, Stamp, Stamped, Target, channel};
use countersign::domain::id::{Digest, SubjectId};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock, SystemClock};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::x509::{ClientKey, Curve, TrustBundle, chain_pem};
use tokio::task::JoinSet;
use tonic::{Code, Status};

type Fault = Box<dyn Error + Send + Sync>;

/// Requests under way at once: enough to hide the network, too few to be a burst.
const CONCURRENT: usize = 16;
/// How often a call is tried anew, and the first wait, which doubles: some two minutes.
const TRIES: u32 = 9;
const WAIT: Duration = Duration::from_millis(250);
/// How long a call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long the helper sleeps at most, and at least, between looks at what is due.
const SLEEP_MAX_MS: i64 = 60_000;
const SLEEP_MIN_MS: i64 = 500;

/// What all of them need.
struct Service {
    folder: PathBuf,
    target: Target,
    clock: Arc<dyn Clock>,
    curve: Curve,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Fault> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder? see the top of examples/partner.rs")?;
    let is_once = match arguments.next().as_deref() {
        None => false,
        Some("--once") => true,
        Some(other) => return Err(format!("{other} is not known; there is --once").into()),
    };
    let service = Arc::new(Service::of(Path::new(&folder))?);
    let mut due = BTreeMap::new();
    let mut failed = enroll_all(&service).await?;
    loop {
        failed += renew_all(&service, &mut due).await?;
        if is_once {
            return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let now = service.clock.now();
        let next = due.values().min().map_or(SLEEP_MAX_MS, |at: &Timestamp| at.millis() - now.millis());
        let sleep_ms = next.clamp(SLEEP_MIN_MS, SLEEP_MAX_MS);
        tokio::time::sleep(Duration::from_millis(u64::try_from(sleep_ms)?)).await;
        // Tokens may have come meanwhile.
        failed = enroll_all(&service).await?;
    }
}

impl Service {
    fn of(folder: &Path) -> Result<Self, Fault> {
        let system_bundle_pem = read(&folder.join("system.pem"))?;
        let target = Target {
            address: read(&folder.join("server"))?,
            server_name: read(&folder.join("server-name")).ok(),
            system_bundle_pem,
        };
        let curve = Curve::of_profile(TrustBundle::from_pem(&target.system_bundle_pem)?.algorithms()?);
        Ok(Self { folder: folder.to_owned(), target, clock: Arc::new(SystemClock), curve })
    }

    async fn connect(&self, identity: Option<&Identity>) -> Result<AttestationServiceClient<Stamped>, Fault> {
        let channel = channel(&self.target, identity, &self.clock).await?;
        let stamped = Stamped::new(channel, Stamp::new(Arc::clone(&self.clock)));
        Ok(AttestationServiceClient::new(stamped))
    }

    fn person(&self, subject: SubjectId) -> Person {
        Person { folder: self.folder.join("people").join(subject.to_string()) }
    }
}

/// The folder of one person: a folder for each pair of key and certificate, numbered, and a link to the newest.
struct Person {
    folder: PathBuf,
}

impl Person {
    /// The number of the newest pair with a certificate.
    fn newest(&self) -> u32 {
        let numbers = std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            entry.path().join("certificate.pem").exists().then_some(number)
        });
        numbers.max().unwrap_or(0)
    }

    fn pair(&self, number: u32) -> PathBuf {
        self.folder.join(number.to_string())
    }

    /// The key of a pair: the one that is there, or a new one that is durable by now.
    fn key(&self, number: u32, curve: Curve) -> Result<ClientKey, Fault> {
        let (folder, path) = (self.pair(number), self.pair(number).join("key.pem"));
        if path.exists() {
            return Ok(ClientKey::from_pem(&read(&path)?)?);
        }
        std::fs::create_dir_all(&folder)?;
        let key = ClientKey::generate(curve)?;
        write(&path, key.to_pem().as_bytes())?;
        // Names are durable with the folders that they stand in.
        for folder in [&folder, &self.folder] {
            File::open(folder)?.sync_all()?;
        }
        Ok(key)
    }

    /// Keeps a certificate and moves `current` to it; the pair before the one before goes.
    fn keep(&self, number: u32, leaf: &[u8], above: &[bytes::Bytes]) -> Result<(), Fault> {
        write(&self.pair(number).join("certificate.pem"), chain_pem(leaf, above)?.as_bytes())?;
        self.point_to(number)?;
        if let Some(old) = number.checked_sub(2).filter(|old| *old > 0) {
            drop(std::fs::remove_dir_all(self.pair(old)));
        }
        Ok(())
    }

    fn point_to(&self, number: u32) -> Result<(), Fault> {
        let next = self.folder.join("current.new");
        drop(std::fs::remove_file(&next));
        std::os::unix::fs::symlink(number.to_string(), &next)?;
        std::fs::rename(&next, self.folder.join("current"))?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }

    fn identity(&self, number: u32) -> Result<Identity, Fault> {
        let of = |name: &str| read(&self.pair(number).join(name));
        Ok(Identity::from_pem(&of("certificate.pem")?, &of("key.pem")?)?)
    }
}

/// Redeems the token of everybody who has no certificate yet; how many could not.
async fn enroll_all(service: &Arc<Service>) -> Result<usize, Fault> {
    let path = service.folder.join("tokens.jsonl");
    let Ok(meta) = std::fs::metadata(&path) else { return Ok(0) };
    if meta.mode() & 0o077 != 0 {
        return Err(format!("{}: tokens are secrets: chmod 600", path.display()).into());
    }
    let mut tokens = BTreeMap::new();
    for (at, line) in read(&path)?.lines().enumerate() {
        // Not what is wrong with it: that would show it.
        let (subject, token) = token_in(line).ok_or(format!("line {} is no token", at + 1))?;
        tokens.insert(subject, token);
    }
    tokens.retain(|subject, _| service.person(*subject).newest() == 0);
    if tokens.is_empty() {
        return Ok(0);
    }
    let client = service.connect(None).await?;
    let calls = tokens.into_iter().map(|(subject, token)| {
        let (service, client) = (Arc::clone(service), client.clone());
        async move { (subject, enroll(&service, client, subject, token).await) }
    });
    Ok(all(calls).await.into_iter().filter(|(subject, done)| !told("enrolled", *subject, done)).count())
}

fn token_in(line: &str) -> Option<(SubjectId, String)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some((line.get("subject_id")?.as_str()?.parse().ok()?, line.get("token")?.as_str()?.to_owned()))
}

async fn enroll(
    service: &Service,
    client: AttestationServiceClient<Stamped>,
    subject: SubjectId,
    token: String,
) -> Result<(), Fault> {
    let person = service.person(subject);
    let csr = person.key(1, service.curve)?.request()?;
    let request = pb::EnrollRequest { token, csr: csr.into() };
    let issued = again(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.enroll(request).await }
    })
    .await?;
    person.keep(1, &issued.certificate, &issued.chain)
}

/// Renews what is due, and notes when each is to be looked at next; how many could not.
async fn renew_all(service: &Arc<Service>, due: &mut BTreeMap<SubjectId, Timestamp>) -> Result<usize, Fault> {
    let people = std::fs::read_dir(service.folder.join("people")).into_iter().flatten();
    let now = service.clock.now();
    let subjects = people.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<SubjectId>().ok());
    let subjects = subjects.filter(|subject| due.get(subject).is_none_or(|at| *at <= now));
    let calls = subjects.filter(|subject| service.person(*subject).newest() > 0).map(|subject| {
        let service = Arc::clone(service);
        async move { (subject, renew(&service, subject).await) }
    });
    let mut failed = 0;
    for (subject, done) in all(calls).await {
        let next = match &done {
            Ok((next, is_renewed)) => {
                if *is_renewed {
                    told("renewed", subject, &Ok(()));
                }
                *next
            }
            Err(_) => now.plus_ms(SLEEP_MAX_MS),
        };
        failed += usize::from(done.is_err());
        if let Err(error) = done {
            told("renewed", subject, &Err(error));
        }
        due.insert(subject, next);
    }
    Ok(failed)
}

/// Renews the newest certificate if it is time; when it is to be looked at next.
async fn renew(service: &Service, subject: SubjectId) -> Result<(Timestamp, bool), Fault> {
    let person = service.person(subject);
    let number = person.newest();
    // A kill between a certificate and its link.
    person.point_to(number)?;
    let identity = person.identity(number)?;
    let client = service.connect(Some(&identity)).await?;
    let window = again(|| {
        let mut client = client.clone();
        async move { client.get_renewal(pb::GetRenewalRequest {}).await }
    })
    .await?;
    let (from, until): (Timestamp, Timestamp) = (window.renew_from.parse()?, window.renew_until.parse()?);
    let now = service.clock.now();
    // 70 % of its life, and a little later for some, so that those who enrolled together do not come together.
    let [share, ..] = Digest::of(&subject.to_bytes()).0;
    let spread_ms = (until.millis() - from.millis()) / 4 * i64::from(share) / 256;
    let at = from.plus_ms(if window.cause == "LIFETIME" { spread_ms } else { 0 });
    if at > now {
        let look = now.plus_ms(i64::from(window.retry_after_s) * 1_000);
        return Ok((at.min(look), false));
    }
    let csr = person.key(number + 1, service.curve)?.request()?;
    let request = pb::RenewRequest { csr: csr.into() };
    let issued = again(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.renew(request).await }
    })
    .await?;
    person.keep(number + 1, &issued.certificate, &issued.chain)?;
    Ok((now.plus_ms(SLEEP_MIN_MS), true))
}

/// Does all of it, some at once.
async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for call in calls {
        if running.len() == CONCURRENT {
            done.extend(running.join_next().await.and_then(Result::ok));
        }
        running.spawn(call);
    }
    done.extend(running.join_all().await);
    done
}

/// Makes a call that may be repeated until it is answered or refused.
async fn again<T, F>(call: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    for tries in 0..=TRIES {
        let answered = tokio::time::timeout(CALL_LIMIT, call()).await;
        match answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if tries < TRIES && may_pass(status.code()) => {
                tokio::time::sleep(WAIT * 2_u32.pow(tries)).await;
            }
            Err(status) => return Err(status.message().into()),
        }
    }
    Err("no answer".into())
}

const fn may_pass(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::ResourceExhausted | Code::DeadlineExceeded)
}

/// Says what came of one; was it good?
fn told(what: &str, subject: SubjectId, done: &Result<(), Fault>) -> bool {
    match done {
        Ok(()) => println!("{what} {subject}"),
        Err(error) => eprintln!("not {what} {subject}: {error}"),
    }
    done.is_ok()
}

fn read(path: &Path) -> Result<String, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Writes a file whole or not at all, for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let new = path.with_extension("new");
    drop(std::fs::remove_file(&new));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(std::fs::rename(&new, path)?)
}
