//! The clock port: wall time for facts with a date, boot time for leases.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall time.
    fn now(&self) -> Timestamp;

    /// Milliseconds on a clock that never goes back and runs through suspend (Linux `CLOCK_BOOTTIME`).
    fn boot_ms(&self) -> u64;
}

/// The clocks of this machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl SystemClock {
    /// Microseconds on a clock that never goes back, for measuring.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn steady_us(&self) -> u64 {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        at.tv_sec.unsigned_abs().saturating_mul(1_000_000).saturating_add(at.tv_nsec.unsigned_abs() / 1_000)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // By way of the C library, as rustix does not ask: a process can be made to live on another day
        // (tests/data/clock_ahead.c).
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::from_millis(ms(after)),
            Err(before) => Timestamp::from_millis(-ms(before.duration())),
        }
    }

    fn boot_ms(&self) -> u64 {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        at.tv_sec.unsigned_abs().saturating_mul(1000).saturating_add(at.tv_nsec.unsigned_abs() / 1_000_000)
    }
}

/// A clock that a test moves. Both of its times move together, unless the wall time is set alone.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    boot_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { wall_ms: AtomicI64::new(now.millis()), boot_ms: AtomicI64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance_ms(&self, ms: u32) {
        self.wall_ms.fetch_add(i64::from(ms), Ordering::SeqCst);
        self.boot_ms.fetch_add(i64::from(ms), Ordering::SeqCst);
    }

    /// Moves boot time alone: as if the wall time stood still.
    pub fn tick_boot_ms(&self, ms: u32) {
        self.boot_ms.fetch_add(i64::from(ms), Ordering::SeqCst);
    }

    /// Sets the wall time alone: a stepped clock.
    pub fn set_wall(&self, now: Timestamp) {
        self.wall_ms.store(now.millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn boot_ms(&self) -> u64 {
        self.boot_ms.load(Ordering::SeqCst).unsigned_abs()
    }
}
