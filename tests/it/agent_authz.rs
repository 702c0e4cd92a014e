//! What another proxy with forward-auth gets from the agent's endpoint, without any proxy here: a socket, and bytes on it.

use std::path::PathBuf;
use std::time::Duration;

use countersign::x509::bundle::certificate_pem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::agent_proxy::{Proxy, Scene};

const PLACE: &str = "x-place: US";

/// An agent that answers on a Unix socket.
struct Endpoint {
    scene: Scene,
    socket: PathBuf,
    /// The header with a client's certificate.
    certificate: String,
}

impl Endpoint {
    /// One that has a lease.
    async fn start() -> Self {
        let mut scene = Scene::set(Proxy::Nginx).await;
        let config = scene.dir().join("agent.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let listen = text.lines().find(|line| line.starts_with("listen =")).unwrap();
        std::fs::write(&config, text.replace(listen, "listen = \"unix:authz.sock\"")).unwrap();
        scene.start_agent();
        let socket = scene.dir().join("authz.sock");
        scene.until("the endpoint listens", || socket.exists()).await;
        let pem = certificate_pem(&scene.caller.certificate);
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let certificate = format!("x-ssl-client-cert: {base64}");
        let endpoint = Self { scene, socket, certificate };
        endpoint.until(204).await;
        endpoint
    }

    /// A request that is let through while there is a lease.
    fn permitted(&self) -> String {
        format!("GET /authz HTTP/1.1\r\n{}\r\n{PLACE}", self.certificate)
    }

    /// One request.
    async fn ask(&self, head: impl AsRef<[u8]>) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = [head.as_ref(), b"\r\nhost: agent\r\nconnection: close\r\n\r\n"].concat();
        // A head that is refused is not read to its end: what comes back is there all the same, before the reset.
        let _ = stream.write_all(&request).await;
        let mut answer = Vec::new();
        while stream.read_buf(&mut answer).await.is_ok_and(|len| len > 0) {}
        let answer = String::from_utf8(answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn until(&self, status: u16) {
        let waited = timeout(Duration::from_secs(60), async {
            while self.ask(self.permitted()).await.0 != status {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(waited.await.is_ok(), "{status}: {}", self.scene.agent_log());
    }

    /// How many decisions with this outcome and code the service has.
    fn reported(&self, outcome: &str, code: &str) -> u64 {
        let app = self.scene.world.running().app();
        let page = app.metrics().render(&app.readings()).unwrap();
        let labels = format!("{{gateway=\"gw-agent\",outcome=\"{outcome}\",code=\"{code}\"}}");
        let row = format!("countersign_gateway_decisions_total{labels} ");
        page.lines().find_map(|line| line.strip_prefix(&row)).map_or(0, |count| count.parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_permits_denies_and_says_when_it_cannot_know() {
    let mut endpoint = Endpoint::start().await;
    let certificate = &endpoint.certificate;
    for (head, status, code) in [
        (format!("GET /authz HTTP/1.1\r\n{certificate}"), 403, "P-PLACE_NOT_ALLOWED"),
        (format!("GET /authz HTTP/1.1\r\n{certificate}\r\n{PLACE}\r\n{PLACE}"), 403, "P-PLACE_NOT_ALLOWED"),
        (
            format!("GET /authz HTTP/1.1\r\n{certificate}\r\n{certificate}\r\n{PLACE}"),
            403,
            "CREDENTIAL_INVALID",
        ),
        (format!("GET /authz HTTP/1.1\r\n{PLACE}"), 403, "CREDENTIAL_INVALID"),
        (format!("GET /authz HTTP/1.1\r\nx-ssl-client-cert: nonsense\r\n{PLACE}"), 403, "CREDENTIAL_INVALID"),
        (format!("POST /authz HTTP/1.1\r\n{certificate}\r\n{PLACE}\r\ncontent-length: 0"), 405, ""),
        (format!("GET /elsewhere HTTP/1.1\r\n{certificate}\r\n{PLACE}"), 404, ""),
        (format!("GET /authz HTTP/1.1\r\nx-long: {}", "a".repeat(256 * 1024)), 431, ""),
    ] {
        let (answered, answer) = endpoint.ask(&head).await;
        assert_eq!(answered, status, "{head:.200}: {answer}");
        assert!(answer.contains(code), "{head:.200}: {answer}");
    }
    endpoint.scene.world.close().await;
    endpoint.until(503).await;
    assert!(endpoint.ask(endpoint.permitted()).await.1.contains("STALE_VIEW"));
}

/// Bytes changed, put in or cut off. The place is missing, so that nothing that is still whole is let through.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_changed_is_answered_or_refused() {
    let endpoint = Endpoint::start().await;
    for n in 0..300_usize {
        let mut head = format!("GET /authz HTTP/1.1\r\n{}", endpoint.certificate).into_bytes();
        let at = n * 7_919 % head.len();
        match n % 3 {
            0 => head[at] = u8::try_from(n % 256).unwrap(),
            1 => head.truncate(at),
            _ => head.splice(at..at, [b'\r', b'\n', 0]).for_each(drop),
        }
        let (status, answer) = endpoint.ask(&head).await;
        let is_expected = matches!(status, 400 | 403 | 404 | 405);
        assert!(is_expected, "{answer} {}", String::from_utf8_lossy(&head));
    }
    assert_eq!(endpoint.ask(endpoint.permitted()).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_decides_is_reported_also_when_it_ends() {
    let mut endpoint = Endpoint::start().await;
    let fleet = endpoint.scene.fleet().await;
    let gate = fleet.iter().find(|session| session.agent.starts_with("countersign-client/")).unwrap();
    assert_eq!((gate.gateway.as_str(), gate.adapter.as_str()), ("gw-agent", "nginx"));
    let (_, answer) = endpoint.ask(endpoint.permitted()).await;
    let permit = answer.lines().find_map(|line| line.strip_prefix("x-countersign-code: ")).unwrap();
    endpoint.scene.until("permits are reported", || endpoint.reported("PERMIT", permit) >= 2).await;
    // Before a batch has waited for others.
    let nobody = format!("GET /authz HTTP/1.1\r\n{PLACE}");
    for _ in 0..5 {
        assert_eq!(endpoint.ask(&nobody).await.0, 403);
    }
    endpoint.scene.agent = None;
    assert_eq!(endpoint.reported("DENY", "CREDENTIAL_INVALID"), 5, "{}", endpoint.scene.agent_log());
}
