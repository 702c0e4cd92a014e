//! The model: one server, its journal, gateways, and streams between them that keep their order until they break. The
//! clocks run 0.1 % slow or fast; all steps between two waits happen at one instant, in every order.
//!
//! What is shipped is what runs here: [`Lease`], [`Pings`], [`Roster`] with its barrier, [`judge`] and [`lost_history`].
//! The glue is in the place of `feed::Session` and `client::Replica`, and allows more than they do: a gateway pings when
//! it likes and never looks at how long it stood still, and a server may not notice for long that a stream broke.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::consumer::{Consumer, Set};
use super::setup::{Broken, Budget, Setup};
use crate::domain::enforce::message::{Open, Strength};
use crate::domain::enforce::{
    Claim, EnforcedBy, Lease, Outlook, OwnPath, Pings, Position, Roster, SessionKey, Start, judge,
    lost_history,
};
use crate::domain::id::{BootId, Digest, Epoch, Seq};

/// Where the boot clocks of server and gateways stand at first: they have nothing in common.
const SERVER_BOOT_MS: u64 = 1_000_000;
const GATEWAY_BOOT_MS: u64 = 50_000;

/// Kinds of records. With the branch of history they are the byte of a record.
pub(super) const REVOCATION: u8 = 1;
const LOWERING: u8 = 2;
const OTHER: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Up {
    Ping(u64),
    Ack(Seq),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Down {
    /// What is now held: by a Delta or by a snapshot.
    Records(Claim),
    Pong {
        ping_id: u64,
        head: Claim,
        lease_ms: u32,
    },
}

/// A stream, and the server's end of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Link {
    key: SessionKey,
    connection: u64,
    /// The gateway knows no more of it; the server may not have noticed.
    is_cut: bool,
    /// The server crashed; what it sent may still arrive.
    is_orphan: bool,
    /// Up to which record it was sent; none: a snapshot must come first.
    sent: Option<Position>,
    pings: Pings,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Gate {
    boot: u8,
    rate: u64,
    pub(super) lease: Lease,
    view: Option<Claim>,
    signed_head: Option<Claim>,
    /// Received and, when that is what is broken, not applied yet.
    received: Option<Claim>,
    pub(super) link: Option<Link>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) roster: Roster,
    pub(super) published: Position,
    /// The set that was signed last.
    pub(super) set: Option<Set>,
    /// From here on it knows the digests of its records.
    base: Seq,
    /// The caller of the revocation waits; since when.
    waits_since_ms: Option<u64>,
    pub(super) answers: BTreeMap<Seq, u8>,
    pub(super) is_rolled_back: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now_us: u64,
    server_rate: u64,
    /// The record: one byte each, whose digest and tree hash is what it is.
    pub(super) journal: Vec<u8>,
    branch: u8,
    /// The revocation, and the byte of its record.
    revoked: Option<(Position, u8)>,
    pub(super) enforced: Option<EnforcedBy>,
    pub(super) server: Option<Server>,
    pub(super) gates: Vec<Gate>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) left: Budget,
}

const STRENGTH: Strength = Strength {
    per_request: true,
    closes_connections: true,
    resumption_off: true,
    stream_cut_ms: 0,
    pausable: false,
};

pub(super) const fn at(len: usize) -> Position {
    Position { epoch: Epoch(1), seq: Seq(len as u64) }
}

impl Gate {
    fn boot_ms(&self, now_us: u64) -> u64 {
        GATEWAY_BOOT_MS + now_us * self.rate / 1_000_000
    }

    fn position(&self) -> Position {
        self.view.map(|(position, _)| position).unwrap_or_default()
    }

    fn stream(&mut self) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| !link.is_cut)
    }

    /// The server's end of the stream.
    fn session(&mut self) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| !link.is_orphan)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.is_cut && !link.is_orphan)
    }

    pub(super) fn can_ping(&self) -> bool {
        self.is_connected() && self.view.is_some()
    }

    pub(super) fn has_received(&self) -> bool {
        self.received.is_some()
    }
}

impl Link {
    pub(super) fn has_up(&self) -> bool {
        !self.is_orphan && !self.up.is_empty()
    }

    pub(super) fn has_ping(&self) -> bool {
        !self.is_orphan && !self.pings.is_empty()
    }

    pub(super) fn is_behind(&self, server: &Server) -> bool {
        !self.is_orphan && self.sent != Some(server.published)
    }

    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn has_down(&self) -> bool {
        !self.is_cut && !self.down.is_empty()
    }
}

impl World {
    /// Everybody is connected and current; nobody has a lease.
    pub(super) fn new(setup: &Setup, server_rate: u64, rates: &[u64], is_ahead: bool) -> Self {
        let mut roster = Roster::new(SERVER_BOOT_MS, setup.lease_ms);
        roster.begin_first_run();
        let gate = |rate: &u64| Gate {
            boot: 0,
            rate: *rate,
            lease: Lease::default(),
            view: None,
            signed_head: None,
            received: None,
            link: None,
        };
        let server = Server {
            roster,
            published: at(1),
            set: None,
            base: Seq(1),
            waits_since_ms: None,
            answers: BTreeMap::new(),
            is_rolled_back: false,
        };
        let mut world = Self {
            now_us: 0,
            server_rate,
            journal: vec![OTHER],
            branch: 0,
            revoked: None,
            enforced: None,
            server: Some(server),
            gates: rates.iter().map(gate).collect(),
            consumers: vec![Consumer::new(is_ahead); setup.consumers],
            left: setup.budget,
        };
        let view = world.claim(at(1));
        for n in 0..world.gates.len() {
            world.gates[n].view = Some(view);
            world.connect(setup, n);
        }
        for n in 0..setup.consumers {
            world.connect_consumer(setup, n);
        }
        world
    }

    pub(super) fn server_ms(&self) -> u64 {
        SERVER_BOOT_MS + self.now_us * self.server_rate / 1_000_000
    }

    fn head(&self) -> Position {
        at(self.journal.len())
    }

    /// What the record says up to a position, as digest or tree hash.
    pub(super) fn claim(&self, position: Position) -> Claim {
        let mut digest = [0; 32];
        let len = usize::try_from(position.seq.0).unwrap();
        digest[..len].copy_from_slice(&self.journal[..len]);
        (position, Digest(digest))
    }

    fn push(&mut self, kind: u8) -> u8 {
        let byte = 4 * self.branch + kind;
        self.journal.push(byte);
        byte
    }

    /// The lease that the record says up to a position.
    pub(super) fn lease_ms(&self, setup: &Setup, position: Position) -> u32 {
        let len = usize::try_from(position.seq.0).unwrap();
        let is_lowered = self.journal[..len].iter().any(|byte| byte % 4 == LOWERING);
        if is_lowered { setup.lowered_ms } else { setup.lease_ms }
    }

    /// Does a gateway permit without the revocation?
    fn permits_without(&self, gate: &Gate, revocation: (Position, u8)) -> bool {
        let (position, byte) = revocation;
        let place = usize::try_from(position.seq.0).unwrap() - 1;
        let is_held = gate.view.is_some_and(|(_, digest)| digest.0[place] == byte);
        gate.lease.holds(gate.boot_ms(self.now_us)) && !is_held
    }

    /// The invariant: after ENFORCED nobody permits without the event, and no answer without it is still to be sent.
    pub(super) fn is_safe(&self) -> bool {
        let (Some(revoked), Some(_)) = (self.revoked, self.enforced) else { return true };
        let answers = self.server.iter().flat_map(|server| server.answers.keys());
        !self.gates.iter().any(|gate| self.permits_without(gate, revoked))
            && !self.consumers.iter().any(|consumer| self.lets_in_without(consumer, revoked))
            && answers.into_iter().all(|seq| *seq >= revoked.0.seq)
    }

    /// After each step: the wait ends as soon as it can.
    pub(super) fn look(&mut self, setup: &Setup) {
        if let (Some(outlook), None) = (self.outlook(setup), self.enforced)
            && outlook.report.is_enforced()
        {
            self.enforced = outlook.report.enforced_by;
        }
    }

    fn outlook(&self, setup: &Setup) -> Option<Outlook> {
        let server = self.server.as_ref()?;
        let (position, _) = self.revoked?;
        let unsent = server.answers.keys().next().copied();
        let unsent = unsent.filter(|_| setup.broken != Some(Broken::OwnPathIgnored));
        let own = OwnPath { published: server.published, unsent };
        Some(server.roster.report(position, server.waits_since_ms?, own, self.server_ms()))
    }

    pub(super) const fn wait(&mut self, setup: &Setup) {
        self.now_us += setup.lease_ms as u64 * 500;
    }

    /// Waits until the server's clock shows that something ends; false when nothing does.
    pub(super) fn wait_until_due(&mut self, setup: &Setup) -> bool {
        let Some(outlook) = self.outlook(setup) else { return false };
        let is_later = outlook.look_again_ms > self.server_ms();
        if is_later {
            self.now_us = ((outlook.look_again_ms - SERVER_BOOT_MS) * 1_000_000).div_ceil(self.server_rate);
        }
        is_later
    }

    /// A gateway connects; what it sent before may have been lost. A refusal leaves it without a stream.
    pub(super) fn connect(&mut self, setup: &Setup, n: usize) {
        self.server_notices(setup, n);
        let head = self.head();
        let (gate, broken) = (&self.gates[n], setup.broken);
        let signed_lost = |(position, digest): Claim| {
            lost_history((position, digest), head, |seq| Some(self.claim(Position { seq, ..position }).1))
        };
        let is_lost =
            gate.signed_head.and_then(signed_lost).is_some() && broken != Some(Broken::ClaimBelieved);
        let (held, digest) = gate.view.unwrap_or_default();
        let signed_head = self.claim(head);
        let Some(server) = &self.server else { return };
        let known = |seq: Seq| (seq >= server.base).then(|| self.claim(Position { seq, ..held }).1);
        let digest_at = |seq| if broken == Some(Broken::ClaimBelieved) { Some(digest) } else { known(seq) };
        let start = judge((held, digest), server.published, digest_at);
        let Some(server) = &mut self.server else { return };
        server.is_rolled_back |= is_lost;
        let (false, Ok(start)) = (is_lost, start) else { return };
        let gate = &mut self.gates[n];
        let key = (setup.principals[n].parse().unwrap(), boot(n, gate.boot));
        let open = Open {
            boot: key.1,
            position: held,
            digest,
            signed_head: Bytes::new(),
            versions: Vec::new(),
            strength: STRENGTH,
            cards: Vec::new(),
            agent: None,
            adapter: None,
        };
        let is_resumed = start == Start::Resume;
        let holds = if is_resumed { held.seq } else { Seq(0) };
        server.roster.forget(SERVER_BOOT_MS + self.now_us * self.server_rate / 1_000_000, true);
        let connection = server.roster.enter(&key.0, &open, false, holds).unwrap();
        gate.signed_head = Some(signed_head);
        // What it holds of this epoch it acknowledges at once.
        let up = gate.view.map(|_| Up::Ack(held.seq)).into_iter().collect();
        let sent = is_resumed.then_some(held);
        let (pings, down) = (Pings::default(), VecDeque::new());
        gate.link = Some(Link { key, connection, is_cut: false, is_orphan: false, sent, pings, up, down });
    }

    pub(super) fn cut(&mut self, n: usize) {
        let link = &mut self.gates[n].link;
        link.take_if(|link| link.is_orphan);
        if let Some(link) = link {
            link.is_cut = true;
            link.down.clear();
        }
    }

    /// The server notices that a stream broke.
    pub(super) fn server_notices(&mut self, setup: &Setup, n: usize) {
        let now_ms = self.server_ms();
        let (Some(link), Some(server)) = (self.gates[n].link.take(), &mut self.server) else { return };
        if !link.is_orphan {
            server.roster.leave(&link.key, link.connection);
        }
        if setup.broken == Some(Broken::ForgetsWhoLeft) {
            server.roster.forget(u64::MAX, true);
        }
        server.roster.forget(now_ms, true);
    }

    pub(super) fn ping(&mut self, n: usize) {
        let now_us = self.now_us;
        let gate = &mut self.gates[n];
        let ping_id = gate.lease.ping(gate.boot_ms(now_us));
        if let Some(link) = gate.stream() {
            link.up.push_back(Up::Ping(ping_id));
        }
    }

    pub(super) fn server_takes(&mut self, setup: &Setup, n: usize) {
        let head = self.head();
        let (Some(link), Some(server)) = (self.gates[n].session(), &mut self.server) else { return };
        match link.up.pop_front() {
            Some(Up::Ping(ping_id)) => {
                let is_early = setup.broken == Some(Broken::HeadReadEarly);
                link.pings.arrive(ping_id, link.sent.filter(|_| is_early).unwrap_or(head));
            }
            // What it held before a snapshot counts for nothing.
            Some(Up::Ack(applied)) if link.sent.is_some() => {
                assert!(server.roster.ack(&link.key, link.connection, applied), "there is one stream each");
            }
            Some(Up::Ack(_)) | None => {}
        }
    }

    /// Everything up to the head.
    pub(super) fn server_sends_records(&mut self, n: usize) {
        let Some(server) = &self.server else { return };
        let published = server.published;
        let records = Down::Records(self.claim(published));
        let Some(link) = self.gates[n].session() else { return };
        link.sent = Some(published);
        if !link.is_cut {
            link.down.push_back(records);
        }
    }

    /// The Pong of the last Ping that can have one; false when none can.
    pub(super) fn server_sends_pong(&mut self, setup: &Setup, n: usize) -> bool {
        let Some(published) = self.server.as_ref().map(|server| server.published) else { return false };
        let (now_ms, lease_ms) = (self.server_ms(), self.lease_ms(setup, published));
        let (Some(link), Some(server)) = (self.gates[n].session(), &mut self.server) else { return false };
        let overtakes = matches!(setup.broken, Some(Broken::PongOvertakes | Broken::HeadReadEarly));
        let is_current = |sent: &Position| overtakes || *sent == server.published;
        let Some(sent) = link.sent.filter(is_current) else { return false };
        if server.is_rolled_back {
            return false;
        }
        let Some((ping_id, head)) = link.pings.answer(sent) else { return false };
        assert!(server.roster.pong(&link.key, link.connection, now_ms), "there is one stream each");
        let head = self.claim(head);
        if let Some(link) = self.gates[n].stream() {
            link.down.push_back(Down::Pong { ping_id, head, lease_ms });
        }
        true
    }

    pub(super) fn gate_takes(&mut self, setup: &Setup, n: usize) {
        let now_us = self.now_us;
        let gate = &mut self.gates[n];
        match gate.stream().and_then(|link| link.down.pop_front()) {
            Some(Down::Records(records)) if setup.broken == Some(Broken::AckOnReceipt) => {
                gate.received = Some(records);
                self.acknowledge(n, records);
            }
            Some(Down::Records(records)) => {
                gate.view = Some(records);
                self.acknowledge(n, records);
            }
            Some(Down::Pong { ping_id, head, lease_ms }) => {
                gate.signed_head = Some(head);
                let from_receipt = setup.broken == Some(Broken::LeaseFromReceipt);
                let ping_id = if from_receipt { gate.lease.ping(gate.boot_ms(now_us)) } else { ping_id };
                if gate.lease.pong(ping_id, head.0, gate.position(), lease_ms, 0).is_err() {
                    gate.lease.drop_lease();
                    self.cut(n);
                }
            }
            None => {}
        }
    }

    fn acknowledge(&mut self, n: usize, (position, _): Claim) {
        if let Some(link) = self.gates[n].stream().filter(|link| !link.is_orphan) {
            link.up.push_back(Up::Ack(position.seq));
        }
    }

    /// Only when acknowledging on receipt is what is broken.
    pub(super) fn gate_applies(&mut self, n: usize) {
        let gate = &mut self.gates[n];
        gate.view = gate.received.take().or(gate.view);
    }

    /// The revocation is durable and nobody has been told.
    pub(super) fn append_revocation(&mut self) {
        let byte = self.push(REVOCATION);
        self.revoked = Some((self.head(), byte));
    }

    /// What is durable is visible, and the caller of the revocation begins to wait.
    pub(super) fn publish(&mut self, setup: &Setup) {
        let (head, now_ms) = (self.head(), self.server_ms());
        let lease_ms = self.lease_ms(setup, head);
        let is_revoked = self.revoked.is_some();
        if let Some(server) = &mut self.server {
            server.published = head;
            server.roster.set_lease_ms(lease_ms);
            server.roster.forget(now_ms, true);
            if is_revoked {
                server.waits_since_ms.get_or_insert(now_ms);
            }
        }
        (0..self.consumers.len()).for_each(|n| self.confirm(n));
    }

    pub(super) fn has_unpublished(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.published < self.head())
    }

    /// Another record, which lowers the lease when it is to be lowered.
    pub(super) fn record(&mut self, setup: &Setup) {
        self.push(if setup.lowered_ms == setup.lease_ms { OTHER } else { LOWERING });
        self.publish(setup);
    }

    pub(super) fn begin_answer(&mut self) {
        if let Some(server) = &mut self.server {
            *server.answers.entry(server.published.seq).or_default() += 1;
        }
    }

    pub(super) fn send_answer(&mut self, seq: Seq) {
        if let Some(server) = &mut self.server {
            let left = server.answers.remove(&seq).unwrap_or(1) - 1;
            if left > 0 {
                server.answers.insert(seq, left);
            }
        }
    }

    pub(super) fn crash_gate(&mut self, setup: &Setup, n: usize) {
        self.cut(n);
        let gate = &mut self.gates[n];
        gate.boot += 1;
        gate.lease = Lease::default();
        gate.received = None;
        if !setup.keeps_views {
            gate.view = None;
            gate.signed_head = None;
        }
    }

    pub(super) fn crash_server(&mut self) {
        self.server = None;
        for link in self.gates.iter_mut().map(|gate| &mut gate.link) {
            link.take_if(|link| link.is_cut);
            if let Some(link) = link {
                link.is_orphan = true;
                link.up.clear();
            }
        }
        self.consumers.iter_mut().for_each(Consumer::orphan);
    }

    /// A new run, which knows the record and nobody. The caller of the revocation asks again.
    pub(super) fn start_server(&mut self, setup: &Setup) {
        let now_ms = self.server_ms();
        let forgets = setup.broken == Some(Broken::LoweredAtOnce);
        let lease_ms = if forgets { self.lease_ms(setup, self.head()) } else { setup.lease_ms };
        let mut roster = Roster::new(now_ms, lease_ms);
        if setup.broken == Some(Broken::CompleteAtOnce) {
            roster.begin_first_run();
        }
        self.server = Some(Server {
            roster,
            published: self.head(),
            set: None,
            base: self.head().seq,
            waits_since_ms: self.revoked.map(|_| now_ms),
            answers: BTreeMap::new(),
            is_rolled_back: false,
        });
    }

    /// An older copy takes the place of the record, without a new epoch. What was revoked since is to be revoked again;
    /// what was called enforced on the lost branch is no promise of this one.
    pub(super) fn restore(&mut self) {
        self.branch += 1;
        self.journal.truncate(1);
        self.revoked = None;
        self.enforced = None;
        self.left.revocations = 1;
        self.left.records = 1;
    }

    pub(super) fn can_restore(&self) -> bool {
        self.server.is_none() && self.journal.len() > 1
    }
}

/// A run of a gateway.
pub(super) fn boot(n: usize, run: u8) -> BootId {
    let mut bytes = [run; 16];
    bytes[0] = u8::try_from(n).unwrap();
    BootId::from_bytes(bytes)
}
