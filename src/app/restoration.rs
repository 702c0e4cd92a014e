//! How far access is restored after a lift, and what is due: on one state, beside the threads that answer.

use std::sync::Arc;

use super::App;
use super::crl::blocking;
use super::error::Error;
use crate::domain::due::{Due, due};
use crate::domain::enforce::Position;
use crate::domain::id::EntityId;
use crate::domain::restoration::{Restoration, restoration};
use crate::domain::time::Timestamp;

/// How long who asks for one more should wait: about what one of a hundred thousand people takes.
const RETRY_AFTER_MS: u32 = 1_000;

/// How far a restoration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorationView {
    /// What was counted.
    pub counts: Restoration,
    /// When the last of the eligible got their first certificate, if that is known.
    pub last_enrolled_at: Option<Timestamp>,
    /// When it was looked at.
    pub now: Timestamp,
    /// The state that was looked at.
    pub as_of: Position,
}

impl App {
    /// How far the access to a model is restored.
    ///
    /// # Errors
    /// There is no such model, or a simulation or another look runs.
    pub async fn restoration(self: &Arc<Self>, model: String) -> Result<RestorationView, Error> {
        let permit = Arc::clone(&self.simulations).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Limit { retry_after_ms: RETRY_AFTER_MS })?;
        let (app, state, now) = (Arc::clone(self), self.state(), self.clock.now());
        blocking(move || {
            let _permit = permit;
            let counts = restoration(&state, &model, now).ok_or(Error::NotFound("model"))?;
            let last = counts.last_enrolled.map(|seq| app.journal.read(seq, 1)).transpose()?;
            let record = last.as_deref().and_then(<[_]>::first);
            let last_enrolled_at = record.map(|record| record.header.time);
            Ok(RestorationView { counts, last_enrolled_at, now, as_of: state.position })
        })
        .await
    }

    /// What is overdue or due within so many milliseconds, of one entity or of all, and when it was looked at.
    ///
    /// # Errors
    /// The thread ended.
    pub async fn due(
        self: &Arc<Self>,
        of: Option<EntityId>,
        within_ms: i64,
    ) -> Result<(Vec<Due>, Timestamp), Error> {
        let (state, now) = (self.state(), self.clock.now());
        blocking(move || Ok((due(&state, of, now, now.plus_ms(within_ms)), now))).await
    }
}
