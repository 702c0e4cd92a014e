//! A connection through the middle that breaks: to a service under one address, whatever port it has after a restart.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Hands bytes on until it is cut.
pub(crate) struct Relay {
    pub(crate) url: String,
    way: Arc<Mutex<Way>>,
}

#[derive(Clone, Copy)]
enum Way {
    /// To this service; the connection is cut when so many bytes went there.
    Until(SocketAddr, usize),
    /// Whoever connects is closed at once.
    Cut,
    /// To this service.
    To(SocketAddr),
}

impl Relay {
    /// To a service, until so many bytes went there.
    pub(crate) fn until(url: &str, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = format!("https://{}", listener.local_addr().unwrap());
        let way = Arc::new(Mutex::new(Way::Until(address(url), bytes)));
        let shared = Arc::clone(&way);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let way = Arc::clone(&shared);
                std::thread::spawn(move || hand_on(&client, &way));
            }
        });
        Self { url: own, way }
    }

    pub(crate) fn is_cut(&self) -> bool {
        matches!(*self.way.lock().unwrap(), Way::Cut)
    }

    /// Lets connections through again, to this service.
    pub(crate) fn mend(&self, url: &str) {
        *self.way.lock().unwrap() = Way::To(address(url));
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("https://").parse().unwrap()
}

fn hand_on(client: &TcpStream, way: &Mutex<Way>) {
    let (target, limit) = match *way.lock().unwrap() {
        Way::Cut => return,
        Way::Until(target, limit) => (target, Some(limit)),
        Way::To(target) => (target, None),
    };
    let Ok(server) = TcpStream::connect(target) else { return };
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
    let (mut sent, mut chunk, mut input, mut output) = (0, vec![0; 16 << 10], client, &server);
    while let Ok(len @ 1..) = input.read(&mut chunk) {
        sent += len;
        if limit.is_some_and(|limit| sent > limit) {
            *way.lock().unwrap() = Way::Cut;
            break;
        }
        if output.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    drop(server.shutdown(Shutdown::Both));
    drop(client.shutdown(Shutdown::Both));
    back.join().unwrap();
}
