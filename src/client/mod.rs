//! The gateway library: a subscription that keeps a view of what is enforced, and decisions on it in about a
//! microsecond. Whatever it cannot know it denies.
//!
//! It never permits without a lease, and never on a view that it replaced before it answered. Callers: programs in front
//! of a model; the command line uses its transport.
//!
//! # A gateway in ten lines
//!
//! `examples/gateway.rs` is a whole program around these:
//!
//! ```no_run
//! # use countersign::client::{Gate, GateConfig, GateLayer, Identity, Question};
//! # use countersign::domain::policy::Place;
//! # use tonic::codegen::http::request::Parts;
//! # async fn gateway(config: GateConfig, identity: Identity) -> Result<(), Box<dyn std::error::Error>> {
//! # let model = tower::service_fn(|_: tonic::codegen::http::Request<tonic::body::Body>| async {
//! #     Ok::<_, std::convert::Infallible>(tonic::codegen::http::Response::new(tonic::body::Body::empty()))
//! # });
//! let gate = Gate::connect(config).await?;
//! gate.ready(std::time::Duration::from_secs(30)).await?;
//! let acceptor = gate.acceptor(&identity)?;
//! let question = |_: &Parts| Some(Question::inference("mythos-5").from_place(Place::Us));
//! let layer = GateLayer::new(&gate, question);
//! let listener = tokio::net::TcpListener::bind("[::]:8443").await?;
//! loop {
//!     let (tcp, _) = listener.accept().await?;
//!     let stream = acceptor.accept(tcp).await?;
//!     let service = tower::Layer::layer(&layer, model).of_peer(stream.leaf());
//!     // Serve `stream` with `service`, by hyper or whatever speaks HTTP, in a task of its own.
//! #   drop((stream, service));
//! }
//! # }
//! ```
//!
//! # What it promises, and what its user does
//!
//! * [`Gate::decide`] and [`Gate::decide_or_ask`] decide one request. A permit is used within 250 ms or asked for again.
//! * [`Gate::acceptor`] refuses who is denied whatever they ask in the handshake, and closes their open connections.
//!   [`Gate::server_config`] with [`Connections::register`] does the same for a server of one's own.
//! * [`GateLayer`] decides requests and cuts answers under way. Which model a request is for, and from where, its user says,
//!   and never takes from the client.
//! * An acknowledgement means enforced: it waits until every connection that a record closes has been let go.
//! * [`GateOptions`]: a view that is kept across restarts, renewal of the gate's own certificate, reports of its decisions.
//! * [`Gate::metrics`] for operators, [`Gate::status`] for health checks.

mod ask;
mod cache;
mod connections;
mod gate;
mod give_back;
mod index;
mod keep;
mod layer;
mod link;
mod metrics;
mod published;
mod question;
mod renew;
mod replica;
mod reports;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
mod tls;
pub mod transport;
mod trust;

pub use ask::{Answer, DecidedBy};
pub use connections::{Barred, Connection, Connections};
pub use gate::{Gate, GateConfig, GateDecision, GateOptions, GateStatus};
pub use index::{Key, Touched};
pub use keep::{KeepFault, Kept, SnapshotFile};
pub use layer::{GateBody, GateLayer, GateService, Permit};
pub use metrics::GateMetrics;
pub use question::Question;
pub use renew::Renewal;
pub use replica::{Refusal, Replica, ReplicaConfig, Taken};
pub use reports::Reports;
pub use tls::{AcceptFault, GateAcceptor, GateStream, PeerLeaf};
pub use transport::{ConnectCause, Identity, Stamp, Stamped, Target, TransportFault, channel};

pub use published::{Published, Standing};
