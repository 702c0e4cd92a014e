//! The server's half of a lease: Pings that arrived, each with the head that was committed then.

use std::collections::VecDeque;

use super::view::Position;

/// Pings that may wait for their records; as many as a gateway remembers.
const PINGS_MAX: usize = 8;

/// Pings of one session that have no Pong yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pings {
    waiting: VecDeque<(u64, Position)>,
}

impl Pings {
    /// Notes a Ping. `head` is the committed head, read after the Ping arrived: whoever extends a lease by its Pong has
    /// then applied all that was committed before the lease began.
    pub fn arrive(&mut self, ping_id: u64, head: Position) {
        if self.waiting.len() < PINGS_MAX {
            self.waiting.push_back((ping_id, head));
        }
    }

    /// The heads that are waited for.
    pub fn heads(&self) -> impl Iterator<Item = Position> {
        self.waiting.iter().map(|(_, head)| *head)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// No lease for any of them. How many they were.
    pub fn refuse(&mut self) -> u64 {
        std::mem::take(&mut self.waiting).len() as u64
    }

    /// The last Ping whose head has been sent, `sent` being the last record that was. It answers those before it.
    pub fn answer(&mut self, sent: Position) -> Option<(u64, Position)> {
        let mut answered = None;
        while let Some((_, head)) = self.waiting.front()
            && head.epoch == sent.epoch
            && head.seq <= sent.seq
        {
            answered = self.waiting.pop_front();
        }
        answered
    }
}
