//! Is the machine's clock to be believed? It is not when it lies before the last record, when it moved more than five
//! seconds against the clock that never goes back, or when the service starts more than seven days after its last
//! record. Then nothing but restrictions is recorded and nothing is permitted, until officers accept the clock.

use std::sync::Mutex;

use crate::domain::time::{CLOCK_MARGIN_MS, Timestamp};
use crate::env::Clock;

/// How far wall time may move against boot time between two looks: five seconds.
const STEP_MAX_MS: i64 = 5_000;
/// How long a service may have been down without anybody looking at its clock: seven days.
const DOWN_MAX_MS: i64 = 7 * 86_400_000;

/// The watch over the clock.
#[derive(Debug)]
pub struct TrustedTime {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    wall: Timestamp,
    boot_ms: u64,
    floor: Timestamp,
    fault: Option<String>,
}

impl TrustedTime {
    /// Begins to watch at start-up, given when the last record was written, or what officers accepted since.
    pub fn start(now: Timestamp, boot_ms: u64, last_record: Timestamp) -> Self {
        let down_ms = now.millis().saturating_sub(last_record.millis());
        let fault = (down_ms > DOWN_MAX_MS)
            .then(|| format!("the service starts more than 7 days after its last record ({last_record})"));
        // At a start that is not believed, time stands where the last record left it.
        let wall = if fault.is_some() { last_record } else { now };
        Self { inner: Mutex::new(Inner { wall, boot_ms, floor: last_record, fault }) }
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// Why it is not believed. It stays so until [`accept`](Self::accept).
    pub fn check(&self, clock: &dyn Clock) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Read under the lock: a look that was overtaken by another one must not seem to go back.
        let (now, boot_ms) = (clock.now(), clock.boot_ms());
        if let Some(fault) = &inner.fault {
            return Err(fault.clone());
        }
        let walked = now.millis().saturating_sub(inner.wall.millis());
        let elapsed = i64::try_from(boot_ms.saturating_sub(inner.boot_ms)).unwrap_or(i64::MAX);
        let step = walked.saturating_sub(elapsed);
        let fault = if now < inner.floor {
            Some(format!("the clock shows {now}, before the last record ({})", inner.floor))
        } else if step.abs() > STEP_MAX_MS {
            Some(format!("the clock moved by {step} ms against the machine's steady clock"))
        } else {
            None
        };
        match fault {
            Some(why) => {
                tracing::error!(why, "the clock is not trusted; two officers must accept it");
                inner.fault = Some(why.clone());
                Err(why)
            }
            None => {
                (inner.wall, inner.boot_ms) = (now, boot_ms);
                Ok(())
            }
        }
    }

    /// Notes when a record was written: time must not go back behind it.
    pub fn recorded(&self, at: Timestamp) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.fault.is_none() {
            // Within the margin that every decision has anyway, a clock may be set back.
            inner.floor = inner.floor.max(at.plus_ms(-CLOCK_MARGIN_MS));
        }
    }

    /// The time by the last look that was believed, walked on by the clock that never goes back. A restriction that is
    /// recorded while the clock is not trusted carries this, so that a wrong clock cannot push the record ahead.
    pub fn believed(&self, boot_ms: u64) -> Timestamp {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.wall.plus_ms(i64::try_from(boot_ms.saturating_sub(inner.boot_ms)).unwrap_or(i64::MAX))
    }

    /// Officers say that the clock is right as it is.
    pub fn accept(&self, now: Timestamp, boot_ms: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *inner = Inner { wall: now, boot_ms, floor: now, fault: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ManualClock;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn watched(now: i64, last_record: i64) -> (ManualClock, TrustedTime) {
        (ManualClock::at(at(now)), TrustedTime::start(at(now), 0, at(last_record)))
    }

    #[test]
    fn a_clock_that_walks_with_the_machine_is_believed() {
        let (clock, time) = watched(1_000_000, 999_000);
        clock.advance_ms(60_000);
        time.check(&clock).unwrap();
        clock.set_wall(at(1_064_900));
        time.check(&clock).unwrap();
    }

    #[test]
    fn a_step_is_not_believed_until_it_is_accepted() {
        let (clock, time) = watched(1_000_000, 0);
        clock.set_wall(at(994_000));
        time.check(&clock).unwrap_err();
        clock.set_wall(at(1_000_020));
        time.check(&clock).unwrap_err();
        time.accept(at(1_000_020), 0);
        time.check(&clock).unwrap();
    }

    #[test]
    fn time_before_the_last_record_is_not_believed() {
        let (clock, time) = watched(1_000_000, 1_000_500);
        time.check(&clock).unwrap_err();
        let (clock, time) = watched(1_000_000, 0);
        time.recorded(at(1_002_000));
        clock.set_wall(at(1_000_900));
        time.check(&clock).unwrap_err();
    }

    #[test]
    fn eight_days_of_silence_need_officers() {
        let (clock, time) = watched(8 * 86_400_000, 0);
        time.check(&clock).unwrap_err();
        assert_eq!(time.believed(5), at(5));
    }

    #[test]
    fn a_clock_that_jumps_ahead_does_not_take_the_record_with_it() {
        let (clock, time) = watched(1_000_000, 0);
        clock.advance_ms(10);
        clock.set_wall(at(900_000_000));
        time.check(&clock).unwrap_err();
        assert_eq!(time.believed(clock.boot_ms()), at(1_000_010));
    }
}
