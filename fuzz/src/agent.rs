//! The agent's endpoint for proxies (src/agent/authz.rs), as it is shipped, on a socket of its own. What it asks is a stand-in
//! for the gate that permits one person one model and keeps what it was asked.

#[path = "../../src/agent/authz.rs"]
mod authz;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::authz::{Endpoint, Listener, serve};
use self::enforcer::Enforcer;
use self::probe::Flights;
use crate::config::agent::{AuthzConfig, LocalAddress};

/// How long an answer may take: it is computed at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The model that is permitted.
const MODEL: &str = "mythos-5";
/// Where it may be used.
const PLACE: &str = "US";

mod enforcer {
    use std::sync::Mutex;

    use countersign::client::{Answer, DecidedBy};
    use countersign::domain::enforce::{Position, Request};
    use countersign::domain::id::{Epoch, Seq};
    use countersign::domain::policy::Place;

    /// Stands in for the gate.
    pub(super) struct Enforcer {
        pub(super) person: Vec<u8>,
        pub(super) permits: Mutex<usize>,
    }

    impl Enforcer {
        #[expect(clippy::unused_async, reason = "as the agent's own")]
        pub(super) async fn decide(&self, leaf_der: &[u8], request: &Request<'_>) -> Option<Answer> {
            let is_place = matches!(request.place, Place::Us);
            let is_permit = leaf_der == self.person && request.model == super::MODEL && is_place;
            if is_permit {
                *self.permits.lock().expect("no panic before") += 1;
            }
            let code = if is_permit { "NO_LICENSE_REQUIRED" } else { "CREDENTIAL_INVALID" };
            Some(Answer {
                is_permit,
                code: code.to_owned(),
                legal: "NO_LICENSE_REQUIRED".to_owned(),
                rule: String::new(),
                explanation: format!("asked about {:?}", request.model),
                as_of: Position { epoch: Epoch(1), seq: Seq(1) },
                good_until_boot_ms: None,
                by: DecidedBy::Gate,
            })
        }
    }
}

mod probe {
    pub(super) const PROBE_HEADER: &str = "x-countersign-probe";

    /// Probes that are on their way: there are none.
    pub(super) struct Flights;

    impl Flights {
        pub(super) fn arrived(&self, name: &str) {
            assert!(!name.is_empty());
        }
    }
}

struct Scene {
    runtime: Runtime,
    socket: std::path::PathBuf,
    enforcer: Arc<Enforcer>,
    _dir: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

fn scene() -> &'static Mutex<Scene> {
    static SCENE: OnceLock<Mutex<Scene>> = OnceLock::new();
    SCENE.get_or_init(|| Mutex::new(open()))
}

fn open() -> Scene {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("authz");
    let config = AuthzConfig {
        certificate_header: "x-ssl-client-cert".to_owned(),
        model: None,
        model_header: Some("x-model".to_owned()),
        place_header: Some("x-place".to_owned()),
        access_form: None,
        serving_region: Some(PLACE.to_owned()),
        purpose: None,
    };
    let enforcer = Arc::new(Enforcer { person: crate::seed("leaf/person"), permits: Mutex::new(0) });
    let flights = Arc::new(Flights);
    let endpoint = Arc::new(Endpoint { enforcer: Arc::clone(&enforcer), flights, config });
    let listener = runtime.block_on(Listener::bind(&LocalAddress::Unix(socket.clone()))).expect("a socket");
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(serve(listener, endpoint, stopped));
    Scene { runtime, socket, enforcer, _dir: dir, _stop: stop }
}

/// Sends bytes as a proxy and reads whatever is answered until the agent has done with the connection. It ends, every answer
/// is one of those that a proxy knows, and nothing is let through that was not permitted.
pub fn ask(bytes: &[u8]) {
    let scene = scene().lock().unwrap_or_else(PoisonError::into_inner);
    *scene.enforcer.permits.lock().expect("no panic before") = 0;
    let exchange = async {
        let mut stream = UnixStream::connect(&scene.socket).await.expect("it listens");
        // It may have hung up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answered = scene.runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, exchange).await });
    let answer = answered.expect("the connection ends");
    let permits = *scene.enforcer.permits.lock().expect("no panic before");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1."), "{text}");
    let passed = statuses(&text).inspect(|status| {
        let known = ["100", "204", "400", "403", "404", "405", "414", "431", "501", "503"];
        assert!(known.contains(status), "{text}");
    });
    assert!(passed.filter(|status| *status == "204").count() <= permits, "{text}");
}

/// The status of each answer. What is asked about is quoted in the bodies of answers, on one line with everything else there.
fn statuses(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split("\r\n").filter_map(|line| {
        // A body has no line end, so the head of the next answer follows it on its line.
        line.rfind("HTTP/1.").map(|at| &line[at..])
    });
    lines.filter_map(|line| line.split(' ').nth(1))
}
