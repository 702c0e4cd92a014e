//! Decisions on many people: what of a list can be decided now, as one mandate for its vetter to sign. What is signed is the
//! decisions themselves, so the record has each person's own.

use super::error::Error;
use super::{App, Caller};
use crate::domain::approval::Mandate;
use crate::domain::command::{Command, Ruling};
use crate::domain::flow::{check_ruling, mandate_for};
use crate::domain::subject::RULINGS_MAX;

/// Whether one of them can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruled {
    /// It is in the mandate.
    Ready,
    /// It is on record like this already.
    Unchanged,
}

/// What is to be said of each, in order, and the mandate of those that are ready; none: nobody is.
pub type PreparedRulings = (Vec<Result<Ruled, Error>>, Option<Mandate>);

impl App {
    /// Looks at each decision, and prepares a mandate of those that can be made.
    ///
    /// # Errors
    /// Why none was looked at.
    pub fn prepare_rulings(&self, caller: &Caller, rulings: &[Ruling]) -> Result<PreparedRulings, Error> {
        if rulings.len() > RULINGS_MAX {
            let why = format!("at most {RULINGS_MAX} are allowed");
            return Err(Error::Invalid { field: "command", why });
        }
        let state = self.state();
        let officer = caller.principal.as_ref().ok_or(Error::NotFound("principal"))?;
        let (mut outcomes, mut ready) = (Vec::with_capacity(rulings.len()), Vec::new());
        for ruling in rulings {
            let held = state.subjects.get(&ruling.subject);
            let outcome = match held.is_some_and(|subject| subject.is_decided(&ruling.decision)) {
                true => Ok(Ruled::Unchanged),
                false => check_ruling(&state, officer, ruling).map(|()| Ruled::Ready).map_err(Error::from),
            };
            if outcome.as_ref().is_ok_and(|ruled| *ruled == Ruled::Ready) {
                ready.push(ruling.clone());
            }
            outcomes.push(outcome);
        }
        let mandate = (!ready.is_empty())
            .then(|| mandate_for(&state, Command::DecideSubjects(ready), self.clock.now()));
        Ok((outcomes, mandate))
    }
}
