//! A gateway in front of a model, with the library: connections of whoever is revoked are refused in the handshake, closed
//! when they are open, and every request is decided.
//!
//! ```text
//! cargo run --example gateway -- FOLDER
//!
//! FOLDER has what the operator gave this gateway:
//!   server            address of the service, host:port
//!   log-key           public key that signs its heads, as hexadecimal digits
//!   trust-domain      of the certificates, such as example.org
//!   arc               of their attributes, such as 1.3.6.1.4.1.32473
//!   system.pem        authorities of principals
//!   gateway.pem, gateway.key    its own certificate and key at the service
//!   tls.pem, tls.key            what it shows to clients of the model
//!   listen            where it listens, such as 127.0.0.1:8443
//! ```
//!
//! Then, as a person with a certificate: `curl --cert me.pem --key me.key --cacert tls.pem https://localhost:8443/`.

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::client::{Gate, GateConfig, GateLayer, Identity, Question, Target};
use countersign::domain::enforce::message::Strength;
use countersign::domain::policy::Place;
use countersign::env::{SystemClock, SystemEntropy};
use countersign::x509::Profile;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::codegen::http::{Request, Response, request::Parts};
use tower::{Layer, service_fn};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder? see the top of examples/gateway.rs")?;
    let folder = Path::new(&folder);
    let gate = Gate::connect(config(folder)?).await?;
    gate.ready(Duration::from_secs(30)).await?;
    let acceptor = gate.acceptor(&identity(folder, "tls")?)?;
    // One model is served here, to whoever reaches this address: the network says that they are in the United States.
    let question = |_: &Parts| Some(Question::inference("mythos-5").from_place(Place::Us));
    let model = GateLayer::new(&gate, question).layer(service_fn(model));
    let listener = TcpListener::bind(read(folder, "listen")?).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, model) = (acceptor.clone(), model.clone());
        tokio::spawn(async move {
            let stream = match acceptor.accept(tcp).await {
                Ok(stream) => stream,
                Err(fault) => return eprintln!("{fault}"),
            };
            let service = TowerToHyperService::new(model.of_peer(stream.leaf()));
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("{error}");
            }
        });
    }
}

/// The model: an answer, or on `/stream` words without end.
async fn model<B>(request: Request<B>) -> Result<Answer, Infallible> {
    if request.uri().path() != "/stream" {
        return Ok(Response::new(Full::from("an answer\n").boxed_unsync()));
    }
    let words = tokio_stream::iter(std::iter::repeat("word\n")).throttle(Duration::from_millis(20));
    let frames = words.map(|word| Ok(http_body::Frame::data(Bytes::from_static(word.as_bytes()))));
    Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
}

fn read(folder: &Path, name: &str) -> Result<String, Box<dyn Error>> {
    let text = std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    Ok(text.trim().to_owned())
}

fn identity(folder: &Path, name: &str) -> Result<Identity, Box<dyn Error>> {
    let (chain, key) = (read(folder, &format!("{name}.pem"))?, read(folder, &format!("{name}.key"))?);
    Ok(Identity::from_pem(&chain, &key)?)
}

fn config(folder: &Path) -> Result<GateConfig, Box<dyn Error>> {
    let log_key = hex::decode(read(folder, "log-key")?)?;
    Ok(GateConfig {
        target: Target {
            address: read(folder, "server")?,
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: read(folder, "system.pem")?,
        },
        identity: identity(folder, "gateway")?,
        profile: Profile::new(read(folder, "trust-domain")?.parse()?, read(folder, "arc")?.parse()?, None),
        log_key: log_key.as_slice().try_into()?,
        // It decides every request, closes connections and cuts streams of the revoked, and resumes nothing.
        strength: Strength {
            per_request: true,
            closes_connections: true,
            resumption_off: true,
            stream_cut_ms: 1_000,
            pausable: false,
        },
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    })
}
