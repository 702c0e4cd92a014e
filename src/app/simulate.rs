//! Simulations of a change of law or policy: on a thread of their own and one state, so that no call waits for them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::App;
use super::error::Error;
use crate::domain::command::Command;
use crate::domain::flow::check_command;
use crate::domain::simulate::{Report, is_simulated, simulate};

/// Simulations at once: each keeps one core busy for as long as it runs, and the other cores answer calls.
pub(super) const SIMULATIONS_MAX: usize = 1;
/// How long who asks for one more should wait: about what one of a hundred thousand people takes.
const RETRY_AFTER_MS: u32 = 2_000;

/// A simulation that runs or is over. Dropping it breaks it off.
pub struct Simulation(Arc<Shared>);

/// How far one is.
#[derive(Debug)]
pub enum Stage {
    /// So many subjects of so many are decided.
    Running {
        /// Decided.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// What it found.
    Finished(Box<Report>),
}

#[derive(Default)]
struct Shared {
    done: AtomicU64,
    total: AtomicU64,
    is_left: AtomicBool,
    found: Mutex<Option<Box<Report>>>,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.0.is_left.store(true, Ordering::Relaxed);
    }
}

impl Simulation {
    /// How far it is. The report is given once.
    pub fn stage(&self) -> Stage {
        match self.0.found.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(report) => Stage::Finished(report),
            None => Stage::Running {
                done: self.0.done.load(Ordering::Relaxed),
                total: self.0.total.load(Ordering::Relaxed),
            },
        }
    }
}

impl App {
    /// Begins the simulation of a command on the state as it is now.
    ///
    /// # Errors
    /// The command cannot be simulated or would be refused, or another simulation runs.
    pub fn simulate(&self, command: &Command) -> Result<Simulation, Error> {
        if !is_simulated(command) {
            return Err(Error::Invalid {
                field: "command",
                why: format!(
                    "{} changes neither law nor policy: there is nothing to simulate",
                    command.name()
                ),
            });
        }
        let permit = Arc::clone(&self.simulations).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Limit { retry_after_ms: RETRY_AFTER_MS })?;
        let (before, now) = (self.state(), self.clock.now());
        check_command(&before, command, now)?;
        let after = before.supposing(command, now).map_err(Error::Internal)?;
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let progress = |done, total| {
                own.done.store(done, Ordering::Relaxed);
                own.total.store(total, Ordering::Relaxed);
                if own.is_left.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let found = simulate(&before, &after, now, progress);
            *own.found.lock().unwrap_or_else(PoisonError::into_inner) = found.map(Box::new);
        });
        Ok(Simulation(shared))
    }
}
