//! What would be so after a command, without a record of it: for a simulation.

use std::sync::Arc;

use super::State;
use crate::domain::command::Command;
use crate::domain::time::Timestamp;

impl State {
    /// This state after a command that was carried out at an instant. Nothing of it is recorded, signed or sent.
    ///
    /// # Errors
    /// What the command contradicts.
    pub fn supposing(&self, command: &Command, at: Timestamp) -> Result<Self, String> {
        let mut after = self.clone();
        let applied = after.enact(self.position.seq.next(), at, command)?;
        let set = Arc::make_mut(&mut after.enforcement);
        applied.events.iter().for_each(|event| set.apply(event));
        after.time = at;
        Ok(after)
    }
}
