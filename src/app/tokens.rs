//! Many enrollment tokens at once. Whoever asks makes the secrets and keeps them: only their digests come here, so nothing
//! that is written or sent can give one away, and whoever asks again changes nothing.

use super::error::Error;
use super::people::{PEOPLE_MAX, Step};
use super::{App, Caller, Mode};
use crate::domain::enforce::Position;
use crate::domain::event::Event;
use crate::domain::flow::own_subject;
use crate::domain::id::{Digest, SubjectId, TokenId};
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// A token that somebody has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// For whom.
    pub subject: SubjectId,
    /// Its public half.
    pub id: TokenId,
    /// SHA-256 of its secret half.
    pub secret: Digest,
    /// Until when it may be redeemed.
    pub expires_at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTaken {
    /// Recorded now, or would be.
    Created,
    /// On record like this already.
    Unchanged,
}

impl App {
    /// Records a batch of tokens: each has an outcome of its own.
    ///
    /// # Errors
    /// Why none was tried.
    pub async fn create_tokens(
        &self,
        caller: &Caller,
        rows: Vec<Result<TokenRow, Error>>,
        mode: Mode,
    ) -> Result<(Vec<Result<TokenTaken, Error>>, Position), Error> {
        if rows.len() > PEOPLE_MAX {
            return Err(Error::Invalid { field: "tokens", why: format!("at most {PEOPLE_MAX} are allowed") });
        }
        let state = self.state();
        let (mut outcomes, mut steps) = (Vec::with_capacity(rows.len()), Vec::new());
        for (at, row) in rows.into_iter().enumerate() {
            let planned = row.and_then(|row| planned(&state, caller, &row));
            outcomes.push(planned.map(|(taken, event)| {
                steps.extend(event.map(|event| Step { at, event, taken }));
                taken
            }));
        }
        let position = self.take_steps(caller, (steps, mode), &mut outcomes).await?;
        Ok((outcomes, position.unwrap_or(state.position)))
    }
}

fn planned(state: &State, caller: &Caller, row: &TokenRow) -> Result<(TokenTaken, Option<Event>), Error> {
    // First of all: nobody learns of another's people.
    own_subject(state, caller.principal.as_ref(), row.subject)?;
    match state.tokens.get(&row.id) {
        Some(held) if held.subject == row.subject && held.secret == row.secret => {
            Ok((TokenTaken::Unchanged, None))
        }
        Some(_) => Err(Error::Exists("token")),
        None => {
            let TokenRow { subject, id, secret, expires_at } = *row;
            Ok((TokenTaken::Created, Some(Event::TokenCreated { id, secret, subject, expires_at })))
        }
    }
}
