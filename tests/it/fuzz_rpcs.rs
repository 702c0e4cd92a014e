//! Every RPC against a live server over mTLS, with messages that are made of bytes: as their fields say, changed, cut, random. There is
//! always an answer that names its call, nothing panics, nothing of ours fails inside, and the record verifies at the end.
//!
//! `COUNTERSIGN_FUZZ_CALLS=5000` sends so many to each method, `COUNTERSIGN_FUZZ_SEED=7` others.

mod raw;
mod words;

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use countersign::app::store::verify_offline;
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::rpc::methods::{Access, METHODS, Method};
use countersign::wire::REQUEST_ID;
use tokio::task::JoinSet;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use self::raw::RawCodec;
use self::words::{Random, Words};
use crate::calls::reason;
use crate::health::becomes;
use crate::kill::asked;
use crate::world::World;

/// Calls of each method, unless the environment says otherwise.
const CALLS: usize = 120;
/// Methods that are tried at once.
const AT_ONCE: usize = 4;
/// What the server is told, so that nothing waits for gateways that nobody drives.
const GRPC_TIMEOUT: &str = "2500m";
/// An answer comes by its deadline; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(60);
/// Messages that are read of a stream of answers, and for how long.
const ANSWERS: usize = 2;
const ANSWER_WAIT: Duration = Duration::from_millis(20);

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on, panics of the service in this process are kept: a task that ends in one tells nobody.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Another test of this process may fail meanwhile, in its own code.
            if panic.location().is_some_and(|at| !at.file().starts_with("tests/")) {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            before(panic);
        }));
    });
}

fn number(name: &str, default: usize) -> usize {
    asked(name).map_or(default, |text| text.parse().unwrap())
}

/// Everybody who may call something.
struct Callers(Vec<(As, Channel)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Anonymous,
    Subject,
    Role(Role),
    Every,
}

impl Callers {
    async fn of(world: &World) -> (Self, Words) {
        let mut words = Words::default();
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let caller = world.enroll(subject).await;
        let token = world.token(subject).await;
        let gateway = world.gateway("gw-1").await;
        for word in [entity.to_string(), subject.to_string(), token, "gw-1".to_owned(), "alice".to_owned()] {
            words.texts.push(word);
        }
        words.bytes.push(caller.certificate.clone());
        words.bytes.push(caller.key.request().unwrap());
        words.bytes.push(gateway.key.request().unwrap());
        words.bytes.push(words::mandate(world).await);
        let mut callers = vec![
            (As::Anonymous, world.connect(None).await),
            (As::Subject, world.connect_as(&caller).await),
            (As::Role(Role::Gateway), world.connect_as(&gateway).await),
            (As::Every, world.alice()),
        ];
        for role in PrincipalKind::Officer.roles() {
            let name = format!("fuzz-{}", role.as_str().to_lowercase().replace('_', "-"));
            let officer = world.principal(&name, (PrincipalKind::Officer, &[*role]), None).await;
            callers.push((As::Role(*role), world.connect_as(&officer).await));
        }
        let roles = [Role::PartnerAdmin];
        let partner = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(entity)).await;
        callers.push((As::Role(Role::PartnerAdmin), world.connect_as(&partner).await));
        (Self(callers), words)
    }

    /// Who may call it.
    fn admitted(&self, method: &Method) -> Vec<Channel> {
        let may = |who: As| match (method.access, who) {
            (Access::Anyone, _) | (Access::Subject, As::Subject) => true,
            (Access::Roles(roles), As::Role(role)) => roles.contains(&role),
            (Access::Roles(roles), As::Every) => {
                PrincipalKind::Officer.roles().iter().any(|role| roles.contains(role))
            }
            (Access::Renewal, As::Role(_) | As::Every) => true,
            (Access::Subject | Access::Roles(_) | Access::Renewal, _) => false,
        };
        self.0.iter().filter(|(who, _)| may(*who)).map(|(_, channel)| channel.clone()).collect()
    }
}

/// Sends these messages as one call.
async fn call(channel: &Channel, path: &'static str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let mut request = Request::new(tokio_stream::iter(messages));
    request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(GRPC_TIMEOUT));
    let path = PathAndQuery::from_static(path);
    let mut answers = client.streaming(request, path, RawCodec).await?.into_inner();
    for _ in 0..ANSWERS {
        match tokio::time::timeout(ANSWER_WAIT, answers.message()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) | Err(_) => return Ok(()),
            // A stream that began was named by its beginning.
            Ok(Err(end)) => {
                assert!(std::error::Error::source(&end).is_none(), "the connection was lost: {end:?}");
                assert_ne!(reason(&end), "INTERNAL", "{end:?}");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Is it an answer of the service, and none of a fault of ours?
fn judge(path: &str, messages: &[Vec<u8>], answer: &Result<(), Status>) {
    let Err(status) = answer else { return };
    let sent: Vec<_> = messages.iter().map(hex::encode).collect();
    assert!(status.metadata().contains_key(REQUEST_ID), "{path} with {sent:?}: {status:?}");
    assert_ne!(reason(status), "INTERNAL", "{path} with {sent:?}: {status:?}");
    assert_ne!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
}

/// Sends many calls to one method, by each of its callers in turn.
async fn try_method(
    path: &'static str,
    callers: Vec<Channel>,
    words: Arc<Words>,
    (seed, calls): (u64, usize),
) {
    let mut random = Random::new(seed, path);
    for n in 0..calls {
        let channel = &callers[n % callers.len()];
        let messages = words.messages(path, &mut random);
        let answer = tokio::time::timeout(LIMIT, call(channel, path, messages.clone())).await;
        let answer = answer.unwrap_or_else(|_| {
            panic!("{path} does not answer {:?}", messages.iter().map(hex::encode).collect::<Vec<_>>())
        });
        judge(path, &messages, &answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_answers_whatever_bytes_come() {
    keep_panics();
    let mut world = World::start().await;
    let (callers, words) = Callers::of(&world).await;
    let words = Arc::new(words);
    let seed = number("COUNTERSIGN_FUZZ_SEED", 1) as u64;
    let calls = number("COUNTERSIGN_FUZZ_CALLS", CALLS);
    let mut running = JoinSet::new();
    for method in METHODS {
        let admitted = callers.admitted(method);
        assert!(!admitted.is_empty(), "nobody here may call {}", method.path);
        running.spawn(try_method(method.path, admitted, Arc::clone(&words), (seed, calls)));
        while running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    raw::try_transport(&world).await;
    becomes(&world.connect(None).await, ServingStatus::Serving).await;
    drop(callers);
    world.close().await;
    let panics = PANICS.lock().unwrap().clone();
    assert!(panics.is_empty(), "{panics:#?}");
    let verified = verify_offline(&world.settings.data, &mut |_| {}).unwrap();
    assert_eq!(verified.state, Some(verified.journal.head.seq));
    assert!(verified.calls.faults.is_empty() && verified.calls.lines > 0, "{:?}", verified.calls);
    world.open().await;
}
