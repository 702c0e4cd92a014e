//! A real Envoy for tests: the process, a client that keeps one connection, and a model server behind it.
//!
//! A test that cannot find Envoy fails and names `tests/run`; nothing is skipped. Everything awaited here has a deadline,
//! and everything started here ends with the value that holds it.

use std::fs::File;
use std::net::TcpListener as StdTcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Envoy starts in about 0.2 s; a busy two-core machine that builds at the same time may need a hundred times that.
const START_LIMIT: Duration = Duration::from_secs(30);
/// One exchange on loopback takes milliseconds.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// No response of a test is larger; a length beyond it is a broken parse.
const BODY_MAX: usize = 1 << 20;
/// A head of this many lines is a broken parse.
const HEADERS_MAX: usize = 100;

/// Below the range from which the kernel takes ports for outgoing connections, so that none of those can take a port
/// between the moment it was found free and the moment a process listens on it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port of loopback that is free now, and that no other call in this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    // Test binaries that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(97) % span;
    for _ in PORTS {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((begin + step) % span).unwrap();
        if StdTcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port of loopback in {PORTS:?}");
}

/// The template with each `@NAME@` replaced by its value.
pub(crate) fn render(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("@{name}@");
        assert!(text.contains(&placeholder), "the template has no {placeholder}");
        text = text.replace(&placeholder, value);
    }
    if let Some(left) = placeholder(&text) {
        panic!("{left} has no value");
    }
    text
}

/// The first `@NAME@` in a text. YAML's own "@type" is in lower case.
fn placeholder(text: &str) -> Option<String> {
    let mut pieces = text.split('@').skip(1);
    let is_name =
        |piece: &&str| !piece.is_empty() && piece.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    pieces.find(is_name).map(|name| format!("@{name}@"))
}

/// A running Envoy. It is killed when this value is dropped; its log is shown when that happens in a failing test.
pub(crate) struct Envoy {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl Envoy {
    /// Starts Envoy with this configuration, whose `@LISTEN_PORT@` and other placeholders are filled first, and returns
    /// when it accepts connections.
    pub(crate) async fn start(template: &str, values: &[(&str, &str)]) -> Self {
        let port = free_port();
        let listen_port = port.to_string();
        let values: Vec<_> = values.iter().copied().chain([("LISTEN_PORT", listen_port.as_str())]).collect();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("envoy.yaml"), render(template, &values)).unwrap();

        let process = Command::new(binary())
            // One worker, and no shared memory: two Envoys of one machine would meet there.
            .args(["--config-path", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart"])
            // Main lists its several hundred extensions at the start.
            .args(["--component-log-level", "main:warning"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(File::create(directory.path().join("stdout")).unwrap())
            .stderr(File::create(directory.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut envoy = Self { process, directory, port };
        let listening = timeout(START_LIMIT, envoy.listening()).await;
        assert!(listening.is_ok(), "envoy does not listen after {START_LIMIT:?}");
        envoy
    }

    /// Where it listens, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }

    async fn listening(&mut self) {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("envoy ended with {status} before it listened");
            }
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // Both fail only when the process is already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("envoy's log:\n{}", self.log());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests/run says in the environment where the Envoy it installed is"
)]
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("COUNTERSIGN_ENVOY").map(PathBuf::from);
    let path =
        path.expect("COUNTERSIGN_ENVOY is not set: run the tests with tests/run, which installs Envoy");
    assert!(
        path.is_file(),
        "COUNTERSIGN_ENVOY is {path:?}, which is not a file: run the tests with tests/run"
    );
    path
}

/// A certificate with its chain, and its key, both in PEM.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

/// How a client connects: TLS 1.3 that trusts the roots and shows the credential, if it has one.
pub(crate) fn client_config(roots_pem: &str, credential: Option<&Credential>) -> ClientConfig {
    client_config_by(rustls::crypto::aws_lc_rs::default_provider(), roots_pem, credential)
}

/// The same of a client that offers these algorithms.
pub(crate) fn client_config_by(
    provider: rustls::crypto::CryptoProvider,
    roots_pem: &str,
    credential: Option<&Credential>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    match credential {
        None => builder.with_no_client_auth(),
        Some(credential) => {
            let chain = CertificateDer::pem_slice_iter(credential.chain_pem.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// The first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

/// An HTTP/1.1 client that sends everything on the one connection it was made with and never opens another.
pub(crate) struct HttpsClient {
    stream: BufReader<TlsStream<TcpStream>>,
    host: String,
}

impl HttpsClient {
    /// Connects to a port of loopback as `host`. In TLS 1.3 a server may refuse the client's certificate after this has
    /// succeeded: the error is then the first request's.
    pub(crate) async fn connect(port: u16, host: &str, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        within(async {
            let socket = TcpStream::connect(("127.0.0.1", port)).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, socket).await?;
            Ok(Self { stream: BufReader::new(stream), host: host.to_owned() })
        })
        .await
    }

    /// Sends one GET and reads its answer. The headers are added to Host.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Response> {
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        within(async {
            self.stream.get_mut().write_all(head.as_bytes()).await?;
            self.stream.get_mut().flush().await?;
            read_response(&mut self.stream).await
        })
        .await
    }

    /// The certificate that the server showed, DER.
    pub(crate) fn server_certificate(&self) -> Option<Vec<u8>> {
        let chain = self.stream.get_ref().get_ref().1.peer_certificates();
        chain.and_then(|chain| chain.first()).map(|der| der.to_vec())
    }

    /// How the handshake went: full or resumed.
    pub(crate) fn handshake(&self) -> Option<rustls::HandshakeKind> {
        self.stream.get_ref().get_ref().1.handshake_kind()
    }
}

async fn within<T>(exchange: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    timeout(EXCHANGE_LIMIT, exchange).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

async fn read_response<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Response> {
    let (first, headers) = read_head(stream).await?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| broken(&first))?;
    let mut response = Response { status, headers, body: String::new() };
    let body = match (response.header("content-length"), response.header("transfer-encoding")) {
        (Some(length), None) => {
            let length = length.parse().map_err(|_| broken("content-length"))?;
            read_exactly(stream, length).await?
        }
        (None, Some("chunked")) => read_chunks(stream).await?,
        _ => return Err(broken("an answer without a length")),
    };
    response.body = String::from_utf8(body).map_err(|_| broken("a body that is not UTF-8"))?;
    Ok(response)
}

/// The first line of a message, and its headers with their names in lower case.
async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
) -> std::io::Result<(String, Vec<(String, String)>)> {
    let first = read_line(stream).await?;
    let mut headers = Vec::new();
    for _ in 0..HEADERS_MAX {
        let line = read_line(stream).await?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Err(broken("too many headers"))
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

async fn read_exactly<S: AsyncRead + Unpin>(stream: &mut S, length: usize) -> std::io::Result<Vec<u8>> {
    if length > BODY_MAX {
        return Err(broken("a body beyond the limit"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn read_chunks<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= BODY_MAX {
        let size = read_line(stream).await?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| broken("a chunk size"))?;
        body.extend(read_exactly(stream, size).await?);
        read_line(stream).await?;
        if size == 0 {
            return Ok(body);
        }
    }
    Err(broken("a body beyond the limit"))
}

/// What the model server saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method, path and version.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// A model server in plain HTTP/1.1 that answers 200 "model" to everything and remembers what it was asked.
pub(crate) struct Upstream {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Dropping it ends the server.
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let mut tasks = JoinSet::new();
        let record = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(answer(socket, Arc::clone(&record)));
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The requests that reached it, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(socket: TcpStream, record: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(socket);
    // Ends when the other side closes. A request with a body is not understood: no test sends one.
    while let Ok((line, headers)) = read_head(&mut stream).await {
        record.lock().unwrap().push(Seen { line, headers });
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nmodel";
        if stream.get_mut().write_all(answer).await.is_err() {
            return;
        }
    }
}
