//! The listener: accepts, shakes hands with a deadline, and hands connections with their peers to the services.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::rpc::Peer;

/// Handshakes under way at once; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 1_024;
/// How long a handshake may take: slow clients cannot hold a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that have shaken hands and wait for the server task.
const READY_MAX: usize = 128;
/// How long to wait when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Ends when the service cuts what is still open.
type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection with its peer.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    cut: Cut,
    /// Given back when the connection ends.
    _room: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts until the service stops, and no more than so many at once: further ones wait in the kernel's queue.
pub(super) fn incoming(
    (listener, connections_max): (TcpListener, usize),
    config: Arc<ServerConfig>,
    mut stopped: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let open = Arc::new(Semaphore::new(connections_max));
    let acceptor = TlsAcceptor::from(config);
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
            let (acceptor, ready, cut) = (acceptor.clone(), ready.clone(), cut.clone());
            tokio::spawn(async move {
                let shaken =
                    tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(&acceptor, socket, address.ip(), cut))
                        .await;
                drop(place);
                match shaken {
                    Ok(Ok((stream, peer, cut))) => {
                        drop(ready.send(Ok(Connection { stream, peer, cut, _room: room })).await)
                    }
                    Ok(Err(error)) => {
                        tracing::info!(peer.address = %address.ip(), %error, "handshake failed")
                    }
                    Err(_) => tracing::info!(peer.address = %address.ip(), "handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn shake(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    address: std::net::IpAddr,
    mut cut: watch::Receiver<bool>,
) -> io::Result<(TlsStream<TcpStream>, Peer, Cut)> {
    socket.set_nodelay(true)?;
    let stream = acceptor.accept(socket).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|der| Arc::from(der.as_ref()));
    Ok((stream, Peer { address, certificate }, Box::pin(async move { drop(cut.wait_for(|cut| *cut).await) })))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = self.get_mut();
        // A connection is always being read, so this is where a stream without end learns that the service has ended.
        if connection.cut.as_mut().poll(context).is_ready() {
            connection.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut connection.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
