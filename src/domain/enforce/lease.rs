//! The gateway's lease: until when it may permit without hearing from the server again (design section 4).
//!
//! A lease counts from when the gateway *sent* the Ping, so that a slow network only shortens it. A Pong carries the
//! head that was committed when the Ping arrived, and extends the lease only when the gateway has applied that much.

use super::view::Position;
use crate::domain::time::Timestamp;

/// Length of a lease unless the record says otherwise: 10 s.
pub const LEASE_DEFAULT_MS: u32 = 10_000;
/// The longest lease that any setting can give: 60 s.
pub const LEASE_MAX_MS: u32 = 60_000;
/// How often a gateway pings: four times a lease, so that three lost Pongs do not close it.
pub const PING_MS: u32 = 2_500;
/// How far a gateway's wall clock may be from the server's: 1 s.
pub const CLOCK_OFFSET_MAX_MS: i64 = 1_000;

/// Until when a list that is signed now may be used (`nextUpdate`), so that whoever checks it by a wall clock that is
/// near enough to the server's is closed when a lease that is granted now has run out: whole seconds, rounded down, less
/// what the two clocks may be apart. None: the lease is too short for that.
pub fn list_until(signed: Timestamp, lease_ms: u32) -> Option<Timestamp> {
    let lease_ms = i64::from(lease_ms.min(LEASE_MAX_MS));
    let until = Timestamp::from_millis(signed.plus_ms(lease_ms - CLOCK_OFFSET_MAX_MS).seconds() * 1_000);
    (until > signed).then_some(until)
}

/// Why a Pong did not extend the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PongFault {
    /// It answers no Ping that is outstanding.
    Unasked,
    /// The gateway has not applied up to the head that it names.
    Behind,
}

/// A gateway's lease. All times are milliseconds of a clock that runs through suspend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    outstanding: Vec<(u64, u64)>,
    until_ms: Option<u64>,
    ping_id: u64,
    clock_offset_ms: i64,
}

impl Lease {
    /// Pings that may be outstanding; older ones are forgotten, and their Pongs extend nothing.
    const OUTSTANDING_MAX: usize = 8;

    /// Notes that a Ping is sent now and gives its number.
    pub fn ping(&mut self, boot_ms: u64) -> u64 {
        self.ping_id += 1;
        if self.outstanding.len() >= Self::OUTSTANDING_MAX {
            self.outstanding.remove(0);
        }
        self.outstanding.push((self.ping_id, boot_ms));
        self.ping_id
    }

    /// Takes a Pong. `clock_offset_ms` is how far the gateway's wall clock is from the server's, as this Pong shows.
    ///
    /// # Errors
    /// Why the lease was not extended; an earlier lease stands.
    pub fn pong(
        &mut self,
        ping_id: u64,
        head: Position,
        applied: Position,
        lease_ms: u32,
        clock_offset_ms: i64,
    ) -> Result<(), PongFault> {
        let sent = self.outstanding.iter().find(|(id, _)| *id == ping_id).ok_or(PongFault::Unasked)?.1;
        self.outstanding.retain(|(id, _)| *id > ping_id);
        self.clock_offset_ms = clock_offset_ms;
        if applied.epoch != head.epoch || applied.seq < head.seq {
            return Err(PongFault::Behind);
        }
        let until_ms = sent.saturating_add(u64::from(lease_ms.min(LEASE_MAX_MS)));
        self.until_ms = Some(self.until_ms.map_or(until_ms, |until| until.max(until_ms)));
        Ok(())
    }

    /// Gives up the lease: the gateway knows that its view is not good, or does not know for how long it slept.
    pub fn drop_lease(&mut self) {
        self.until_ms = None;
        self.outstanding.clear();
    }

    /// When the lease ends, if there is one.
    pub const fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }

    /// May the gateway permit at this instant?
    pub fn holds(&self, boot_ms: u64) -> bool {
        self.until_ms.is_some_and(|until| boot_ms < until)
    }

    /// Is its wall clock near enough to the server's?
    pub const fn clock_is_trusted(&self) -> bool {
        self.clock_offset_ms.unsigned_abs() <= CLOCK_OFFSET_MAX_MS.unsigned_abs()
    }
}
