//! A restriction that could not be written and waits in memory: while there is one, nothing is permitted.

use crate::domain::event::Entry;
use crate::domain::time::Timestamp;

/// One of them.
pub(super) struct Held {
    pub(super) entry: Entry,
    /// When it was taken. It is judged by this instant until it is written: that time passes, or that a clock is set back, must
    /// not make what an officer was told is held into what can never be recorded.
    pub(super) at: Timestamp,
    /// Why it cannot be recorded, whatever room there is.
    pub(super) fault: Option<String>,
}

impl Held {
    /// Taken at this instant.
    pub(super) const fn new(entry: Entry, at: Timestamp) -> Self {
        Self { entry, at, fault: None }
    }
}

/// What is answered to whoever wants something else recorded meanwhile.
pub(super) fn refusal(held: &[Held]) -> String {
    match held.iter().find_map(|held| held.fault.as_ref()) {
        Some(fault) => format!(
            "a restriction that is held contradicts the record ({fault}); nothing else is recorded before it. \
             Restart the service: its last lines name as LOST what is then to be entered again"
        ),
        None => "a restriction cannot be written; nothing else is recorded before it. Make room on its disk, and it is \
                 written by itself"
            .to_owned(),
    }
}
