//! `countersign determination`: how one ends, and the document that proves it. Each is the bundle in force with that one
//! determination changed, proposed like every other bundle: with its vectors, and two signatures.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::mandate::Commit;
use super::policy::{InForce, in_force, propose};
use super::{Context, Failure, Outcome};
use crate::domain::bundle::Bundle;
use crate::domain::determination::{Determination, DeterminationState};
use crate::domain::id::{DeterminationId, Sha384};
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};

/// The largest document: a scan of a letter with its annexes.
const DOCUMENT_LEN_MAX: u64 = 64 << 20;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Say that a determination was taken back. Provider policy that waits for its rescission ends too.
    #[command(
        after_help = "Example:\n  countersign determination rescind 2026-06-12-imposition --vectors decisions.csv --commit"
    )]
    Rescind {
        #[command(flatten)]
        end: End,
    },
    /// Say that a court stayed a determination, as counsel reads it. Provider policy goes on.
    #[command(
        after_help = "Example:\n  countersign determination enjoin 2026-06-12-imposition --vectors decisions.csv --commit"
    )]
    Enjoin {
        #[command(flatten)]
        end: End,
    },
    /// Say that another determination took the place of one.
    #[command(
        after_help = "Example:\n  countersign determination supersede 2026-06-26-lift --by 2026-09-01-lift \\\n      \
                            --vectors decisions.csv --commit"
    )]
    Supersede {
        #[command(flatten)]
        end: End,
        /// What took its place; in the bundle already.
        #[arg(long)]
        by: DeterminationId,
    },
    /// Put the SHA-384 of its signed document on record. The document itself stays here.
    #[command(
        after_help = "Example:\n  countersign determination attach 2026-06-26-lift letter.pdf --commit"
    )]
    Attach {
        /// Which determination.
        determination: DeterminationId,
        /// The document.
        document: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
}

/// How a determination ends.
#[derive(Args)]
pub(super) struct End {
    /// Which determination.
    determination: DeterminationId,
    /// From when, as its document says, RFC 3339. The end of a requirement waits for the second signature, the end of a lift
    /// does not [default: now]
    #[arg(long)]
    stated_at: Option<Timestamp>,
    /// CSV file of cases and expected outcomes; may be given several times.
    #[arg(long, required = true)]
    vectors: Vec<PathBuf>,
    #[command(flatten)]
    commit: Commit,
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Rescind { end } => finish(context, end, DeterminationState::Rescinded, None).await,
        Verb::Enjoin { end } => finish(context, end, DeterminationState::Enjoined, None).await,
        Verb::Supersede { end, by } => finish(context, end, DeterminationState::Superseded, Some(by)).await,
        Verb::Attach { determination, document, commit } => {
            let digest = digest_of(&document)?;
            let before = in_force(context).await?;
            let bundle = changed(&before, &determination, |d| {
                if d.document_sha384 == Some(digest) {
                    return Err(Failure(format!("{} has this document on record already", d.id)));
                }
                d.document_sha384 = Some(digest);
                Ok(())
            })?;
            propose(context, (&before, &bundle), &[], commit).await
        }
    }
}

async fn finish(
    context: &Context<'_>,
    end: End,
    state: DeterminationState,
    by: Option<DeterminationId>,
) -> Result<Outcome, Failure> {
    let at = end.stated_at.unwrap_or_else(|| SystemClock.now());
    let before = in_force(context).await?;
    let bundle = changed(&before, &end.determination, |d| {
        if d.state != DeterminationState::Countersigned {
            return Err(Failure(format!("{} is {}: only what is COUNTERSIGNED can end", d.id, d.state)));
        }
        (d.state, d.ended_at, d.superseded_by) = (state, Some(at), by);
        Ok(())
    })?;
    propose(context, (&before, &bundle), &end.vectors, end.commit).await
}

/// The bundle in force with one determination changed.
fn changed(
    before: &InForce,
    id: &DeterminationId,
    change: impl FnOnce(&mut Determination) -> Result<(), Failure>,
) -> Result<Bundle, Failure> {
    let mut parts = before.bundle.parts().clone();
    let found = parts.determinations.iter_mut().find(|d| d.id == *id);
    change(
        found
            .ok_or_else(|| Failure(format!("{id} is not in the bundle in force: countersign policy list")))?,
    )?;
    let bundle = Bundle::new(parts)?;
    match bundle.inconsistencies().into_iter().next() {
        Some(inconsistency) => Err(inconsistency.into()),
        None => Ok(bundle),
    }
}

fn digest_of(path: &Path) -> Result<Sha384, Failure> {
    let failed = |e: std::io::Error| Failure(format!("cannot read {}: {e}", path.display()));
    if std::fs::metadata(path).map_err(failed)?.len() > DOCUMENT_LEN_MAX {
        return Err(Failure(format!("{} is larger than 64 MiB", path.display())));
    }
    Ok(Sha384::of(&std::fs::read(path).map_err(failed)?))
}
