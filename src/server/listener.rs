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
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::connections::{ConnectionLimits, Connections, Room};
use super::handshakes::{Handshake, Handshakes};
use super::turned_away::TurnedAway;
use crate::app::App;
use crate::rpc::Peer;

/// How long a handshake may take: slow clients cannot hold a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to begin HTTP/2, once it shook hands: its preface and its first frame header. From then on
/// the server's own probes find out whether somebody is there.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of both (RFC 9113 sections 3.4 and 4.1).
const BEGIN_LEN: usize = 24 + 9;
/// How long the server may wait to write, without a byte taken, to a peer that reads nothing: three leases. HTTP/2's own probe
/// does not end such a connection, because its farewell cannot be written either.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection goes on whose caller may no longer call. Nothing is answered on it but refusals, and its streams say
/// within a second why they end.
const FAREWELL: Duration = Duration::from_secs(3);
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
    _room: Room,
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
    /// To hear why, once the caller may no longer call.
    pub farewell: Duration,
}

impl Default for PaceTimes {
    fn default() -> Self {
        Self { handshake: HANDSHAKE_TIMEOUT, begin: BEGIN_TIMEOUT, write: WRITE_TIMEOUT, farewell: FAREWELL }
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

/// How many connections there may be, and how long they last.
pub(super) struct Bounds {
    pub(super) connections: ConnectionLimits,
    /// When a connection without a client certificate is cut.
    pub(super) stranger_age: Duration,
    /// How slow anybody may be.
    pub(super) pace: PaceTimes,
}

/// What every handshake needs.
#[derive(Clone)]
struct Desk {
    /// As it is now: it follows the record.
    config: watch::Receiver<Arc<ServerConfig>>,
    cut: watch::Receiver<bool>,
    /// When a stranger's connection is cut.
    stranger_age: Duration,
    pace: PaceTimes,
    connections: Arc<Connections>,
    turned_away: Arc<TurnedAway>,
    known: mpsc::Sender<io::Result<Connection>>,
    strangers: mpsc::Sender<io::Result<Connection>>,
}

/// Accepts until the service stops. Who finds no place for a handshake, or none for its connection, is closed: officers and
/// other networks must not wait in the kernel's queue behind those who have taken every place.
pub(super) fn incoming(
    (listener, bounds): (TcpListener, Bounds),
    config: watch::Receiver<Arc<ServerConfig>>,
    app: Arc<App>,
    stopped: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
) -> Accepted {
    let Bounds { connections: limits, stranger_age, pace } = bounds;
    let (known, known_out) = mpsc::channel(READY_MAX);
    let (strangers, strangers_out) = mpsc::channel(READY_MAX);
    let turned_away = TurnedAway::new(Arc::clone(&app));
    let connections = Connections::new(app, limits);
    tokio::spawn(Arc::clone(&connections).look_after(stopped.clone()));
    let desk = Desk { config, cut, stranger_age, pace, connections, turned_away, known, strangers };
    tokio::spawn(accept((listener, Handshakes::new(limits.handshakes)), desk, stopped));
    Accepted { known: ReceiverStream::new(known_out), strangers: ReceiverStream::new(strangers_out) }
}

async fn accept(
    (listener, handshakes): (TcpListener, Arc<Handshakes>),
    desk: Desk,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
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
        let Some(handshake) = handshakes.begin(address.ip()) else {
            desk.turned_away.say(
                address.ip(),
                "a connection was closed",
                &"too many handshakes of this network",
            );
            continue;
        };
        tokio::spawn(desk.clone().welcome(socket, address.ip(), handshake));
    }
}

impl Desk {
    async fn welcome(self, socket: TcpStream, address: IpAddr, mut handshake: Handshake) {
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.pace.handshake, self.shake(socket, address)) => shaken,
            () = handshake.cut() => Ok(Err(io::Error::other("another network needs its place"))),
        };
        drop(handshake);
        match shaken {
            Ok(Ok((stream, peer))) => self.hand_over(stream, peer).await,
            Ok(Err(error)) => self.turned_away.say(address, "a handshake failed", &error),
            Err(_) => self.turned_away.say(address, "a handshake failed", &"it took too long"),
        }
    }

    async fn shake(&self, socket: TcpStream, address: IpAddr) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        socket.set_nodelay(true)?;
        let config = Arc::clone(&self.config.borrow());
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first()).map(|der| Arc::from(der.as_ref()));
        Ok((stream, Peer { address, certificate }))
    }

    async fn hand_over(self, stream: TlsStream<TcpStream>, peer: Peer) {
        let (room, over) = match self.connections.enter(&peer) {
            Ok(entered) => entered,
            Err(why) => {
                self.turned_away.say(peer.address, "a connection was closed", &why);
                return;
            }
        };
        let mut stopping = self.cut;
        let stopped = async move { drop(stopping.wait_for(|cut| *cut).await) };
        let (ready, cut): (_, Cut) = match peer.certificate {
            Some(_) => {
                let farewell = self.pace.farewell;
                let left = async move {
                    over.wait().await;
                    tokio::time::sleep(farewell).await;
                };
                let ended = async move {
                    tokio::select! {
                        () = stopped => {}
                        () = left => {}
                    }
                };
                (self.known, Box::pin(ended))
            }
            None => {
                let ended = async move { drop(tokio::time::timeout(self.stranger_age, stopped).await) };
                (self.strangers, Box::pin(ended))
            }
        };
        let pace = Pace::new(self.pace);
        drop(ready.send(Ok(Connection { stream, peer, cut, pace, _room: room })).await);
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
