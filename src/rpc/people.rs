//! Lists of people as they come in: batches that are recorded one after the other; and their tokens.

use std::sync::Arc;

use tonic::{Status, Streaming};

use super::parse::{invalid, mode, optional, required};
use super::show;
use super::status::status;
use crate::app::{App, Caller, Differing, Error, Known, PersonRow, Taken, TokenRow, TokenTaken};
use crate::domain::id::Digest;
use crate::pb;

/// Batches of one call: what is recorded well within the time that a call has, and an answer of less than 2 MiB.
const BATCHES_MAX: usize = 16;

/// Takes what comes.
pub(super) async fn import(
    app: &Arc<App>,
    caller: &Caller,
    mut batches: Streaming<pb::ImportPeopleRequest>,
) -> Result<pb::ImportPeopleResponse, Status> {
    let (mut answer, mut how, mut count) = (pb::ImportPeopleResponse::default(), None, 0);
    while let Some(batch) = batches.message().await? {
        count += 1;
        if count > BATCHES_MAX {
            return Err(invalid(
                "people",
                "at most 16 batches are taken by one call; send the rest by another",
            ));
        }
        let how = *how.get_or_insert((
            if batch.attest { Differing::Attest } else { Differing::Refuse },
            mode(batch.validate_only),
        ));
        let rows = batch.people.into_iter().map(row).collect();
        let (outcomes, position) = app.take_people(caller, rows, how).await.map_err(status)?;
        answer.outcomes.extend(outcomes.into_iter().map(outcome));
        answer.position = Some(show::position(position));
    }
    Ok(answer)
}

/// A row that cannot be read is refused, and the others are not.
fn row(person: pb::ImportedPerson) -> Result<PersonRow, Error> {
    let known = match (person.reference.is_empty(), person.subject_id.is_empty()) {
        (false, true) => Ok(Known::Reference(person.reference)),
        (true, false) => required("subject_id", &person.subject_id).map(Known::Subject),
        (true, true) | (false, false) => Err(invalid("reference", "either it or subject_id is needed")),
    };
    let read = known.and_then(|known| {
        Ok(PersonRow {
            entity: required("entity_id", &person.entity_id)?,
            known,
            relation: required("relation", &person.relation)?,
            until: optional("relation_until", &person.relation_until)?,
        })
    });
    read.map_err(|status| Error::Invalid { field: "person", why: status.message().to_owned() })
}

/// Takes tokens that the caller has made.
pub(super) async fn tokens(
    app: &Arc<App>,
    caller: &Caller,
    request: pb::CreateTokensRequest,
) -> Result<pb::CreateTokensResponse, Status> {
    let rows = request.tokens.into_iter().map(|token| {
        token_row(&token)
            .map_err(|status| Error::Invalid { field: "token", why: status.message().to_owned() })
    });
    let taken = app.create_tokens(caller, rows.collect(), mode(request.validate_only)).await;
    let (outcomes, position) = taken.map_err(status)?;
    Ok(pb::CreateTokensResponse {
        outcomes: outcomes.into_iter().map(token_outcome).collect(),
        position: Some(show::position(position)),
    })
}

fn token_row(token: &pb::MadeToken) -> Result<TokenRow, Status> {
    let secret: [u8; 32] = token
        .secret_sha256
        .as_ref()
        .try_into()
        .map_err(|_| invalid("secret_sha256", "32 bytes are needed"))?;
    Ok(TokenRow {
        subject: required("subject_id", &token.subject_id)?,
        id: required("token_id", &token.token_id)?,
        secret: Digest(secret),
        expires_at: required("expires_at", &token.expires_at)?,
    })
}

fn token_outcome(taken: Result<TokenTaken, Error>) -> pb::TokenOutcome {
    let shown = |outcome: &str| pb::TokenOutcome { outcome: outcome.to_owned(), ..Default::default() };
    match taken {
        Ok(TokenTaken::Created) => shown("CREATED"),
        Ok(TokenTaken::Unchanged) => shown("UNCHANGED"),
        Err(error) => {
            let reason = error.code().to_owned();
            pb::TokenOutcome { reason, message: status(error).message().to_owned(), ..shown("REFUSED") }
        }
    }
}

fn outcome(taken: Result<Taken, Error>) -> pb::PersonOutcome {
    let shown = |outcome: &str, subject: Option<String>| pb::PersonOutcome {
        outcome: outcome.to_owned(),
        subject_id: subject.unwrap_or_default(),
        ..Default::default()
    };
    match taken {
        Ok(Taken::Nominated(subject)) => shown("NOMINATED", subject.map(|id| id.to_string())),
        Ok(Taken::Attested(subject)) => shown("ATTESTED", Some(subject.to_string())),
        Ok(Taken::Unchanged(subject)) => shown("UNCHANGED", Some(subject.to_string())),
        Err(error) => {
            let reason = error.code().to_owned();
            // By the same table as every other refusal, so that a fault of ours is logged and not told.
            let message = status(error).message().to_owned();
            pb::PersonOutcome { reason, message, ..shown("REFUSED", None) }
        }
    }
}
