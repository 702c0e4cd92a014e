//! The listener: accepts, shakes hands with a deadline, and hands connections with their peers to the services.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::reload::Offered;
use crate::app::App;
use crate::domain::certificate::Facts;
use crate::rpc::Peer;

/// Handshakes under way at once; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 1_024;
/// How long a handshake may take: slow clients cannot hold a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to begin HTTP/2, once it shook hands: its preface and its first frame header. From then on
/// the server's own probes find out whether somebody is there.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of both (RFC 9113 sections 3.4 and 4.1).
const BEGIN_LEN: usize = 24 + 9;
/// How long a handshake waits for another certificate when the authority of the one that is shown was revoked: issuing one
/// takes milliseconds.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may wait to write, without a byte taken, to a peer that reads nothing: three leases. HTTP/2's own probe
/// does not end such a connection, because its farewell cannot be written either.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that have shaken hands and wait for the server task.
const READY_MAX: usize = 128;
/// How long to wait when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Ends when the connection is to be cut.
type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection with its peer.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    cut: Cut,
    pace: Pace,
    /// Given back when the connection ends.
    _room: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Finds out who is slow: who does not begin, and who does not read.
struct Pace {
    times: PaceTimes,
    /// Bytes still to be read before the connection has begun, and until when.
    beginning: Option<(usize, Pin<Box<Sleep>>)>,
    /// Until when something must be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How slow a peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceTimes {
    /// To shake hands.
    pub handshake: Duration,
    /// To begin HTTP/2.
    pub begin: Duration,
    /// To take something of what is written.
    pub write: Duration,
}

impl Default for PaceTimes {
    fn default() -> Self {
        Self { handshake: HANDSHAKE_TIMEOUT, begin: BEGIN_TIMEOUT, write: WRITE_TIMEOUT }
    }
}

impl Pace {
    fn new(times: PaceTimes) -> Self {
        let until = Box::pin(tokio::time::sleep(times.begin));
        Self { times, beginning: Some((BEGIN_LEN, until)), stalled: None }
    }

    /// Waits to read.
    fn check_beginning(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some((_, until)) = &mut self.beginning else { return Ok(()) };
        match until.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "it was not begun in time")),
            Poll::Pending => Ok(()),
        }
    }

    fn read(&mut self, len: usize) {
        self.beginning = self.beginning.take().and_then(|(left, until)| {
            let left = left.checked_sub(len).filter(|left| *left > 0)?;
            Some((left, until))
        });
    }

    /// What came of an attempt to write.
    fn wrote<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let wait = self.times.write;
        let until = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        match until.as_mut().poll(context) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
            }
            Poll::Pending => written,
        }
    }
}

type Incoming = ReceiverStream<io::Result<Connection>>;

/// Connections that shook hands, apart by whether they showed a certificate.
pub(super) struct Accepted {
    pub(super) known: Incoming,
    pub(super) strangers: Incoming,
}

/// How many connections there may be, and how long those of strangers last.
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    /// When a connection without a client certificate is cut.
    pub(super) stranger_age: Duration,
    /// How slow anybody may be.
    pub(super) pace: PaceTimes,
}

/// What every handshake needs.
#[derive(Clone)]
struct Desk {
    /// As it is now: it follows the record.
    offered: watch::Receiver<Offered>,
    app: Arc<App>,
    cut: watch::Receiver<bool>,
    /// When a stranger's connection is cut.
    stranger_age: Duration,
    pace: PaceTimes,
    /// Places of whoever is no principal: officers and gateways always find a quarter of all for themselves.
    others: Arc<Semaphore>,
    known: mpsc::Sender<io::Result<Connection>>,
    strangers: mpsc::Sender<io::Result<Connection>>,
}

/// Accepts until the service stops, and no more than so many at once: further ones wait in the kernel's queue.
pub(super) fn incoming(
    (listener, bounds): (TcpListener, Bounds),
    offered: watch::Receiver<Offered>,
    app: Arc<App>,
    mut stopped: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
) -> Accepted {
    let Bounds { connections_max, stranger_age, pace } = bounds;
    let (known, known_out) = mpsc::channel(READY_MAX);
    let (strangers, strangers_out) = mpsc::channel(READY_MAX);
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let open = Arc::new(Semaphore::new(connections_max));
    let others = Arc::new(Semaphore::new(connections_max / 4 * 3));
    let desk = Desk { offered, app, cut, stranger_age, pace, others, known, strangers };
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok(room) = Arc::clone(&open).acquire_owned().await else { return };
            let accepted = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let desk = desk.clone();
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(pace.handshake, desk.shake(socket, address.ip())).await;
                drop(place);
                match shaken {
                    Ok(Ok((stream, peer))) => desk.hand_over(stream, peer, room).await,
                    Ok(Err(error)) => {
                        tracing::info!(peer.address = %address.ip(), %error, "handshake failed")
                    }
                    Err(_) => tracing::info!(peer.address = %address.ip(), "handshake took too long"),
                }
            });
        }
    });
    Accepted { known: ReceiverStream::new(known_out), strangers: ReceiverStream::new(strangers_out) }
}

impl Desk {
    /// What is shown: from the record on that revokes its authority another one, if any can be had.
    async fn config(&self) -> Arc<ServerConfig> {
        let mut offered = self.offered.clone();
        let switched = offered.wait_for(|offered| offered.holds(&self.app));
        // Whoever heard of the record refuses the old one; for who did not it is better than nothing.
        drop(tokio::time::timeout(SWITCH_TIMEOUT, switched).await);
        Arc::clone(&self.offered.borrow().config)
    }

    async fn shake(&self, socket: TcpStream, address: IpAddr) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        socket.set_nodelay(true)?;
        let stream = TlsAcceptor::from(self.config().await).accept(socket).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first()).map(|der| Arc::from(der.as_ref()));
        Ok((stream, Peer { address, certificate }))
    }

    async fn hand_over(self, stream: TlsStream<TcpStream>, peer: Peer, room: OwnedSemaphorePermit) {
        let is_principal = peer.certificate.as_deref().is_some_and(|der| is_principal(&self.app, der));
        let place = if is_principal { None } else { self.others.try_acquire_owned().ok() };
        if !is_principal && place.is_none() {
            tracing::warn!(peer.address = %peer.address, "too many connections of others than principals");
            return;
        }
        let mut stopping = self.cut;
        let stopped = async move { drop(stopping.wait_for(|cut| *cut).await) };
        let (ready, cut): (_, Cut) = match peer.certificate {
            Some(_) => (self.known, Box::pin(stopped)),
            None => {
                let ended = async move { drop(tokio::time::timeout(self.stranger_age, stopped).await) };
                (self.strangers, Box::pin(ended))
            }
        };
        let pace = Pace::new(self.pace);
        drop(ready.send(Ok(Connection { stream, peer, cut, pace, _room: (room, place) })).await);
    }
}

/// Is this the certificate of a registered principal, as it is now?
fn is_principal(app: &App, der: &[u8]) -> bool {
    let Ok(certificate) = app.read_certificate(der) else { return false };
    match &certificate.facts {
        Facts::System(facts) => app.state().is_current(&certificate, facts),
        Facts::Access(_) | Facts::Canary(_) => false,
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        connection.check_cut(context)?;
        connection.pace.check_beginning(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut connection.stream).poll_read(context, buffer);
        connection.pace.read(buffer.filled().len() - before);
        read
    }
}

impl Connection {
    /// A stream without end learns here that it has to end: wherever it is waited for, because nobody reads a connection
    /// that cannot be written to.
    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.cut = Box::pin(std::future::ready(()));
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.get_mut();
        connection.check_cut(context)?;
        let written = Pin::new(&mut connection.stream).poll_write(context, buffer);
        connection.pace.wrote(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        connection.check_cut(context)?;
        let flushed = Pin::new(&mut connection.stream).poll_flush(context);
        connection.pace.wrote(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
