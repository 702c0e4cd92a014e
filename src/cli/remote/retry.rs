//! Calls that are made anew when the connection breaks: of long commands whose steps may be repeated without effect. The
//! command says what it waits for, and gives up after a while.

use std::time::Duration;

use indicatif::ProgressBar;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{Connection, NETWORK_MARGIN, Remote, in_words};
use crate::cli::Failure;

/// How often a step is tried anew before the command gives up: with the waits below, some five minutes.
const TRIES_MAX: u32 = 14;
/// The first wait; each is twice the one before...
const WAIT_MIN: Duration = Duration::from_millis(250);
/// ...up to this one, so that a service that is back is found soon.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection that is made anew when it breaks.
pub(in crate::cli) struct Persistent<'a> {
    connection: &'a Connection,
    remote: Option<Remote>,
}

impl<'a> Persistent<'a> {
    /// Connects. That this works is not waited for: a wrong address would be found out late.
    pub(in crate::cli) async fn connect(connection: &'a Connection) -> Result<Self, Failure> {
        Ok(Self { connection, remote: Some(connection.remote().await?) })
    }

    /// Makes a call that may be repeated, until it is answered or refused.
    pub(in crate::cli) async fn call<T>(
        &mut self,
        limit: Duration,
        bar: &ProgressBar,
        call: impl AsyncFn(&Remote) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let Failure(why) = match self.attempt(limit, &call).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused(why) => return Err(why),
                Attempt::Broken(why) => why,
            };
            // A new one each time: the one before may never notice that it is dead.
            self.remote = None;
            if tries == TRIES_MAX {
                return Err(Failure(format!("{why}\ngave up after trying {TRIES_MAX} times again")));
            }
            let wait = WAIT_MAX.min(WAIT_MIN * 2_u32.pow(tries));
            tries += 1;
            say(bar, &why, wait, tries);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt<T>(
        &mut self,
        limit: Duration,
        call: &impl AsyncFn(&Remote) -> Result<Response<T>, Status>,
    ) -> Attempt<T> {
        let remote = match self.remote.take() {
            Some(remote) => remote,
            None => match self.connection.remote().await {
                Ok(remote) => remote,
                Err(why) => return Attempt::Broken(why),
            },
        };
        let answered = tokio::time::timeout(limit + NETWORK_MARGIN, call(&remote)).await;
        self.remote = Some(remote);
        match answered {
            Ok(Ok(response)) => Attempt::Answered(response.into_inner()),
            Ok(Err(status)) if may_pass(&status) => Attempt::Broken(in_words(&status)),
            Ok(Err(status)) => Attempt::Refused(in_words(&status)),
            Err(_) => Attempt::Broken(Failure(format!("no answer after {} s", limit.as_secs()))),
        }
    }
}

enum Attempt<T> {
    Answered(T),
    Refused(Failure),
    Broken(Failure),
}

/// Could the same call be answered a little later? What the transport says of a broken connection has no reason of ours.
fn may_pass(status: &Status) -> bool {
    let is_ours = status.get_error_details().error_info().is_some();
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => !is_ours,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn say(bar: &ProgressBar, why: &str, wait: Duration, tries: u32) {
    let first = why.lines().next().unwrap_or_default();
    let text = format!("{first}; trying again in {:.1} s ({tries} of {TRIES_MAX})", wait.as_secs_f32());
    if bar.is_hidden() { eprintln!("{text}") } else { bar.println(text) }
}
