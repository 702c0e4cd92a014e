//! What a service manager is told (sd_notify(3)): that the service answers, and that it stops. One datagram each, to the socket
//! that systemd names in the environment of a unit with `Type=notify`; without one, nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whom to tell.
pub(super) struct Manager(Option<OsString>);

impl Manager {
    #[expect(
        clippy::disallowed_methods,
        reason = "the protocol of sd_notify: nobody but the service manager sets it"
    )]
    pub(super) fn of_this_process() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()))
    }

    /// It answers: who waits for it may go on. Also of one that permits nothing yet: a restored service waits for its
    /// officers, who have to reach it.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=answering\n");
    }

    /// It was told to stop, and calls under way end.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining\n");
    }

    fn tell(&self, what: &str) {
        let Some(name) = &self.0 else { return };
        if let Err(error) = send(name, what) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

fn send(name: &OsStr, what: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a listener at this address receives when it is told.
    fn told(address: &SocketAddr, name: &str) -> Vec<String> {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        let manager = Manager(Some(name.into()));
        manager.ready();
        manager.stopping();
        let mut bytes = [0; 64];
        let mut one = || {
            let len = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..len].to_vec()).unwrap()
        };
        vec![one(), one()]
    }

    #[test]
    fn a_manager_is_told_by_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = path.to_str().unwrap().replace('/', "-");
        let expected = ["READY=1\nSTATUS=answering\n", "STOPPING=1\nSTATUS=draining\n"];
        let by_path = SocketAddr::from_pathname(&path).unwrap();
        assert_eq!(told(&by_path, path.to_str().unwrap()), expected);
        let by_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        assert_eq!(told(&by_name, &format!("@{abstract_name}")), expected);
    }

    #[test]
    fn a_manager_that_is_gone_or_none_stops_nothing() {
        Manager(None).ready();
        Manager(Some("/nowhere/notify".into())).ready();
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
    }
}
