//! `countersign clock`: what officers say of the server's clock.

use clap::Subcommand;

use super::mandate::{Commit, Wait, carry_out};
use super::{Context, Failure, Outcome};
use crate::domain::command::Command;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};

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

pub(super) async fn clock(verb: ClockVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let ClockVerb::Accept { at, commit } = verb;
    let at = at.unwrap_or_else(|| SystemClock.now());
    carry_out(context, Command::AcceptClock(at), commit, Wait::default()).await
}
