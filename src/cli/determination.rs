//! `countersign determination`: one is imposed, how one ends, and the document that proves it. One officer imposes at once. All
//! else is the bundle in force with one determination changed, proposed like every other bundle: with its vectors, and two
//! signatures.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::mandate::{Check, Commit, Wait, carry_out};
use super::policy::{InForce, in_force, propose};
use super::{Context, Failure, Outcome, simulate};
use crate::domain::bundle::Bundle;
use crate::domain::command::Command;
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Instants};
use crate::domain::id::{DeterminationId, ModelId, Sha384};
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};

/// The largest document: a scan of a letter with its annexes.
const DOCUMENT_LEN_MAX: u64 = 64 << 20;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Impose a requirement on models. One officer signs, and it is in force at once: it only takes away.
    #[command(
        after_help = "Examples:\n  countersign determination impose 2026-06-12-imposition --model mythos-5 --model fable-5 \\\n      \
                            --basis '15 CFR 744.23' --received-at 2026-06-12T21:21:00Z --simulate\n  \
                            countersign determination impose 2026-06-12-imposition --model mythos-5 --model fable-5 \\\n      \
                            --basis '15 CFR 744.23' --document letter.pdf --wait"
    )]
    Impose {
        #[command(flatten)]
        imposition: Imposition,
        /// Say who would lose access. Nothing is signed and nothing changes.
        #[arg(long, conflicts_with_all = ["dry_run", "wait"])]
        simulate: bool,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
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

/// What is imposed.
#[derive(Args)]
pub(super) struct Imposition {
    /// Its name: new in the bundle in force.
    determination: DeterminationId,
    /// A model that it reaches, with everything that descends from it; may be given several times.
    #[arg(long = "model", value_name = "MODEL", required = true)]
    models: Vec<ModelId>,
    /// A citation of its legal basis; may be given several times.
    #[arg(long = "basis", value_name = "CITATION", required = true)]
    legal_basis: Vec<String>,
    /// IMPOSE, or IS_INFORMED_NOTICE for an individual notice under 15 CFR 744.
    #[arg(long, default_value = "IMPOSE")]
    kind: DeterminationKind,
    /// From when, as its document says, RFC 3339. It takes effect then or when it was received, whichever is earlier.
    #[arg(long)]
    stated_at: Option<Timestamp>,
    /// When it was received, orally or in writing, RFC 3339 [default: now]
    #[arg(long)]
    received_at: Option<Timestamp>,
    /// The document, of which the SHA-384 goes on record. It can be attached later.
    #[arg(long)]
    document: Option<PathBuf>,
}

impl Imposition {
    fn read(self) -> Result<Determination, Failure> {
        let received_at = Some(self.received_at.unwrap_or_else(|| SystemClock.now()));
        Ok(Determination {
            id: self.determination,
            kind: self.kind,
            state: DeterminationState::Countersigned,
            instants: Instants { stated_at: self.stated_at, received_at, approved_at: None },
            models: self.models,
            beneficiaries: Vec::new(),
            amends: Vec::new(),
            legal_basis: self.legal_basis,
            document: None,
            ended_at: None,
            superseded_by: None,
            document_sha384: self.document.as_deref().map(digest_of).transpose()?,
        })
    }
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
        Verb::Impose { imposition, simulate, check, wait } => {
            let command = Command::Impose(Box::new(imposition.read()?));
            match simulate {
                true => simulate::run(context, &command).await,
                false => carry_out(context, command, check, wait).await,
            }
        }
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
