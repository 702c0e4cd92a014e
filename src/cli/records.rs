//! `countersign safeguards` and `clock`: what officers enter by hand.

use clap::Subcommand;

use super::mandate::{Commit, Wait, carry_out};
use super::{Context, Failure, Outcome};
use crate::domain::command::Command;
use crate::domain::id::EntityId;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};

#[derive(Subcommand)]
pub(super) enum SafeguardsVerb {
    /// Record until when an entity's safeguards are attested.
    #[command(
        after_help = "Example:\n  countersign safeguards record ent_01J... --until 2027-01-01T00:00:00Z --commit"
    )]
    Record {
        /// Of whom.
        entity: EntityId,
        /// Attested until.
        #[arg(long, value_name = "RFC3339")]
        until: Timestamp,
        /// When the entity must be verified anew.
        #[arg(long, value_name = "RFC3339")]
        reverify_due: Option<Timestamp>,
        #[command(flatten)]
        commit: Commit,
    },
}

#[derive(Subcommand)]
pub(super) enum ClockVerb {
    /// Say that the server's clock is right again, after it was set. Two officers sign.
    #[command(after_help = "Example:\n  countersign clock accept --commit")]
    Accept {
        /// The time on a clock that you trust, RFC 3339 [default: this machine's]
        #[arg(long, value_name = "RFC3339")]
        at: Option<Timestamp>,
        #[command(flatten)]
        commit: Commit,
    },
}

pub(super) async fn safeguards(verb: SafeguardsVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let SafeguardsVerb::Record { entity, until, reverify_due, commit } = verb;
    let command = Command::RecordSafeguards { entity, until, reverify_due };
    carry_out(context, command, commit, Wait::default()).await
}

pub(super) async fn clock(verb: ClockVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let ClockVerb::Accept { at, commit } = verb;
    let at = at.unwrap_or_else(|| SystemClock.now());
    carry_out(context, Command::AcceptClock(at), commit, Wait::default()).await
}
