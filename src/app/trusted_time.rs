//! Is the machine's clock to be believed? It is not when it lies before the last record, when it moved more than five
//! seconds against the clock that never goes back, or when the service starts more than seven days after its last
//! record. Then nothing but restrictions is recorded and nothing is permitted, until officers accept the clock.

use std::sync::Mutex;

use crate::domain::time::Timestamp;

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
    /// Begins to watch at start-up, given when the last record was written.
    pub fn start(now: Timestamp, boot_ms: u64, last_record: Timestamp) -> Self {
        let down_ms = now.millis().saturating_sub(last_record.millis());
        let fault = (down_ms > DOWN_MAX_MS)
            .then(|| format!("the service starts more than 7 days after its last record ({last_record})"));
        Self { inner: Mutex::new(Inner { wall: now, boot_ms, floor: last_record, fault }) }
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// Why it is not believed. It stays so until [`accept`](Self::accept).
    pub fn check(&self, now: Timestamp, boot_ms: u64) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
            inner.floor = inner.floor.max(at);
        }
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

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_clock_that_walks_with_the_machine_is_believed() {
        let time = TrustedTime::start(at(1_000_000), 0, at(999_000));
        time.check(at(1_060_000), 60_000).unwrap();
        time.check(at(1_064_900), 60_000).unwrap();
    }

    #[test]
    fn a_step_is_not_believed_until_it_is_accepted() {
        let time = TrustedTime::start(at(1_000_000), 0, at(0));
        time.check(at(1_000_000 - 6_000), 10).unwrap_err();
        time.check(at(1_000_020), 20).unwrap_err();
        time.accept(at(1_000_030), 30);
        time.check(at(1_000_040), 40).unwrap();
    }

    #[test]
    fn time_before_the_last_record_is_not_believed() {
        let time = TrustedTime::start(at(1_000_000), 0, at(1_000_500));
        time.check(at(1_000_001), 1).unwrap_err();
        let time = TrustedTime::start(at(1_000_000), 0, at(0));
        time.recorded(at(1_002_000));
        time.check(at(1_001_000), 1_000).unwrap_err();
    }

    #[test]
    fn eight_days_of_silence_need_officers() {
        let time = TrustedTime::start(at(8 * 86_400_000), 0, at(0));
        time.check(at(8 * 86_400_000), 0).unwrap_err();
    }
}
