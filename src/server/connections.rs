//! Connections that shook hands: how many each caller may have, what is kept for whom, and the end of those whose caller may
//! no longer call, also when they ask nothing.
//!
//! Who calls is known after the handshake only, so a connection that finds no place is closed then. Officers have places that
//! nobody else takes: whoever has the others, one of them can stop everything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::handshakes::HANDSHAKES_MAX;
use crate::app::App;
use crate::domain::id::PrincipalId;
use crate::domain::state::State;
use crate::rpc::{Guest, Holder, Peer, network};

/// Connections open at once: twice the largest fleet that one server was measured with, for a gateway may connect again
/// before its last connection is known to be gone.
pub const CONNECTIONS_MAX: usize = 20_480;
/// Of one gateway or partner: the gates and workers of one machine share its name, 256 sessions are the most that the feed
/// takes of one, and each may connect again before its last connection is known to be gone.
const OF_MACHINE_MAX: usize = 512;
/// Of one officer: terminals, watches and scripts. Twenty officers' worth is kept for them.
const OF_OFFICER_MAX: usize = 64;
/// Of one network without the certificate of a principal: a company behind one address whose people enroll.
const OF_NETWORK_MAX: usize = 512;
/// One part in so many is kept for officers: 1,280 of all.
const OFFICERS_PART: usize = 16;
/// One part in so many is kept for principals: the rest is as much as strangers and subjects may have together.
const PRINCIPALS_PART: usize = 4;
/// How often it is looked whether something changed: as often as each stream asks for itself.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks all connections are looked at, whatever changed: certificates end by themselves.
const LOOKS_UNCHANGED: u32 = 10;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of everybody.
    pub all: usize,
    /// Of one gateway or partner.
    pub of_machine: usize,
    /// Of one officer.
    pub of_officer: usize,
    /// Of one network, without the certificate of a principal.
    pub of_network: usize,
    /// Handshakes under way at once, beside them.
    pub handshakes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            all: CONNECTIONS_MAX,
            of_machine: OF_MACHINE_MAX,
            of_officer: OF_OFFICER_MAX,
            of_network: OF_NETWORK_MAX,
            handshakes: HANDSHAKES_MAX,
        }
    }
}

impl ConnectionLimits {
    /// Of everybody but officers.
    fn but_officers(&self) -> usize {
        self.all - (self.all / OFFICERS_PART).clamp(1, self.all)
    }

    /// Of everybody but principals.
    const fn but_principals(&self) -> usize {
        self.all - self.all / PRINCIPALS_PART
    }
}

/// By whom connections are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Officer(PrincipalId),
    Machine(PrincipalId),
    Network(IpAddr),
}

impl Key {
    fn of(guest: Option<&Guest>, address: IpAddr) -> Self {
        match guest.map(Guest::holder) {
            Some(Holder::Officer(id)) => Self::Officer(id.clone()),
            Some(Holder::Machine(id)) => Self::Machine(id.clone()),
            Some(Holder::Subject) | None => Self::Network(network(address)),
        }
    }
}

/// All that are open.
pub(super) struct Connections {
    app: Arc<App>,
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    counts: Counts,
    /// Those whose callers may call as long as nothing changes.
    guests: HashMap<u64, (Arc<Guest>, oneshot::Sender<()>)>,
}

#[derive(Debug, Default)]
struct Counts {
    officers: usize,
    machines: usize,
    others: usize,
    by_key: HashMap<Key, usize>,
}

impl Counts {
    fn kind(&mut self, key: &Key) -> &mut usize {
        match key {
            Key::Officer(_) => &mut self.officers,
            Key::Machine(_) => &mut self.machines,
            Key::Network(_) => &mut self.others,
        }
    }

    /// Is there a place? If not, whose bound it is.
    fn check(&self, limits: &ConnectionLimits, key: &Key) -> Result<(), &'static str> {
        let own = self.by_key.get(key).copied().unwrap_or_default();
        let but_officers = self.machines + self.others;
        let (own_max, says) = match key {
            Key::Officer(_) => (limits.of_officer, "too many connections of this officer"),
            Key::Machine(_) => (limits.of_machine, "too many connections of this principal"),
            Key::Network(_) => (limits.of_network, "too many connections of this network"),
        };
        if own >= own_max {
            return Err(says);
        }
        if matches!(key, Key::Network(_)) && self.others >= limits.but_principals() {
            return Err("too many connections of others than principals");
        }
        if !matches!(key, Key::Officer(_)) && but_officers >= limits.but_officers() {
            return Err("too many connections of others than officers");
        }
        if self.officers + but_officers >= limits.all {
            return Err("too many connections");
        }
        Ok(())
    }

    fn add(&mut self, key: &Key) {
        *self.kind(key) += 1;
        *self.by_key.entry(key.clone()).or_default() += 1;
    }

    fn remove(&mut self, key: &Key) {
        *self.kind(key) -= 1;
        let left = self.by_key.get_mut(key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.by_key.remove(key);
        }
    }
}

/// The place of one, given back when it is dropped.
pub(super) struct Room {
    connections: Arc<Connections>,
    key: Key,
    number: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.guests.remove(&self.number);
        open.counts.remove(&self.key);
    }
}

/// Learns that its caller may no longer call. Of a stranger it learns nothing.
pub(super) struct Over(oneshot::Receiver<()>);

impl Over {
    /// Ends when the caller may no longer call.
    pub(super) async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending().await
        }
    }
}

impl Connections {
    /// None is open yet.
    pub(super) fn new(app: Arc<App>, limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { app, limits, open: Mutex::default() })
    }

    /// A place for a connection, or why there is none.
    pub(super) fn enter(self: &Arc<Self>, peer: &Peer) -> Result<(Room, Over), &'static str> {
        let guest = Guest::of(&self.app, peer.certificate.as_deref());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked again now that no look passes it over.
        let guest = guest.filter(|guest| guest.may_call(&self.app));
        let key = Key::of(guest.as_ref(), peer.address);
        open.counts.check(&self.limits, &key)?;
        open.counts.add(&key);
        let number = open.next;
        open.next += 1;
        let (end, over) = oneshot::channel();
        if let Some(guest) = guest {
            open.guests.insert(number, (Arc::new(guest), end));
        }
        drop(open);
        Ok((Room { connections: Arc::clone(self), key, number }, Over(over)))
    }

    /// Looks until the service stops.
    pub(super) async fn look_after(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut last = self.app.state();
        let mut unchanged = 0;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.app.state();
            unchanged += 1;
            if is_same(&last, &now) && unchanged < LOOKS_UNCHANGED {
                continue;
            }
            (last, unchanged) = (now, 0);
            self.end_those_over();
        }
    }

    fn end_those_over(&self) {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let guests: Vec<_> =
            lock().guests.iter().map(|(number, (guest, _))| (*number, Arc::clone(guest))).collect();
        let over = guests.into_iter().filter(|(_, guest)| !guest.may_call(&self.app));
        let over: Vec<_> = over.map(|(number, _)| number).collect();
        if over.is_empty() {
            return;
        }
        tracing::info!(connections = over.len(), "connections are closed: their callers may no longer call");
        let mut open = lock();
        for number in over {
            if let Some((_, end)) = open.guests.remove(&number) {
                // Who is gone hears nothing.
                let _ = end.send(());
            }
        }
    }
}

/// Nothing changed by which anybody may call.
fn is_same(last: &Arc<State>, now: &Arc<State>) -> bool {
    last.principals.ptr_eq(&now.principals) && Arc::ptr_eq(&last.enforcement, &now.enforcement)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { all: 16, of_machine: 20, of_officer: 3, of_network: 20, handshakes: 8 };

    fn machine(n: usize) -> Key {
        Key::Machine(format!("gw-{n}").parse().unwrap())
    }

    fn officer(n: usize) -> Key {
        Key::Officer(format!("officer-{n}").parse().unwrap())
    }

    fn stranger(n: u8) -> Key {
        Key::Network(IpAddr::from([192, 0, 2, n]))
    }

    /// Takes as many places as there are.
    fn fill(counts: &mut Counts, limits: &ConnectionLimits, key: &Key) -> usize {
        let mut taken = 0;
        while counts.check(limits, key).is_ok() {
            counts.add(key);
            taken += 1;
        }
        taken
    }

    #[test]
    fn strangers_leave_a_quarter_to_principals_and_those_a_sixteenth_to_officers() {
        let mut counts = Counts::default();
        assert_eq!(fill(&mut counts, &LIMITS, &stranger(1)), 12);
        assert_eq!(
            counts.check(&LIMITS, &stranger(2)),
            Err("too many connections of others than principals")
        );
        assert_eq!(fill(&mut counts, &LIMITS, &machine(1)), 3);
        assert_eq!(counts.check(&LIMITS, &machine(2)), Err("too many connections of others than officers"));
        assert_eq!(fill(&mut counts, &LIMITS, &officer(1)), 1);
        assert_eq!(counts.check(&LIMITS, &officer(2)), Err("too many connections"));
        counts.remove(&stranger(1));
        assert_eq!(fill(&mut counts, &LIMITS, &officer(2)), 1);
    }

    #[test]
    fn each_has_a_bound_of_its_own_and_places_come_back() {
        let limits = ConnectionLimits { of_machine: 2, of_network: 4, ..LIMITS };
        let mut counts = Counts::default();
        for (key, most) in [(machine(1), 2), (machine(2), 2), (stranger(1), 4), (officer(1), 3)] {
            assert_eq!(fill(&mut counts, &limits, &key), most, "{key:?}");
        }
        for (key, most) in [(machine(1), 2), (machine(2), 2), (stranger(1), 4), (officer(1), 3)] {
            for _ in 0..most {
                counts.remove(&key);
            }
        }
        assert!(counts.by_key.is_empty(), "nobody is remembered who has none");
        assert_eq!((counts.officers, counts.machines, counts.others), (0, 0, 0));
    }

    #[test]
    fn the_shipped_limits_keep_places_for_twenty_officers() {
        let limits = ConnectionLimits::default();
        assert_eq!(limits.all - limits.but_officers(), 20 * limits.of_officer);
        assert_eq!(limits.all - limits.but_principals(), 5_120);
    }
}
