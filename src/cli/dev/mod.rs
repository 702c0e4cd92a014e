//! `countersign dev`: the whole path once, on this machine, with throw-away officers.
//!
//! The tour runs the very commands that a user would type, in this process, and prints each step with its outcome and
//! time. Its gateway is the client library on a live subscription.

mod found;
mod tour;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;

use super::serve::told_to_stop;
use super::{Failure, Outcome, Output, dispatch};
use crate::config::Config;
use crate::domain::algorithm::AlgorithmProfile;
use crate::env::{Clock, SystemClock, SystemEntropy};
use crate::server::{self, Running, Settings};
use crate::telemetry::{self, Format};

/// Run the whole path once with throw-away officers and sample partners, then keep serving.
///
/// Everything is under ./dev-data, which is kept if it exists. With --once it works in a temporary folder on a free port
/// and exits after the tour; the exit code is 1 when any step differs from what it should be.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  countersign dev\n  countersign dev --once\n  countersign dev --once --profile cnsa"
)]
pub(super) struct Arguments {
    /// Work in a temporary folder and exit after the tour.
    #[arg(long)]
    once: bool,
    /// Folder of the throw-away service.
    #[arg(long, value_name = "DIR", default_value = "dev-data", conflicts_with = "once")]
    data: PathBuf,
    /// Address and port of the API.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443", conflicts_with = "once")]
    listen: SocketAddr,
    /// The profile of algorithms of a service that is made: standard or cnsa.
    #[arg(long, value_name = "PROFILE", default_value = "standard")]
    profile: AlgorithmProfile,
}

/// Where the tour takes place.
struct Place {
    root: PathBuf,
    server: String,
}

impl Place {
    fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Outcome, Failure> {
    telemetry::start(Format::Text, LevelFilter::ERROR);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.once {
        let folder = tempfile::tempdir()?;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (running, place, steps) = begin(&runtime, folder.path().to_owned(), (listen, arguments.profile))?;
        let toured = tour::run(&runtime, running.app(), &place, steps);
        runtime.block_on(running.stop());
        return report(&toured?, output);
    }
    let known = arguments.data.join("data").exists();
    if known {
        println!("keeping what is in {}; remove it to begin anew\n", arguments.data.display());
    }
    let (running, place, steps) =
        begin(&runtime, arguments.data.clone(), (arguments.listen, arguments.profile))?;
    let toured = tour::run(&runtime, running.app(), &place, steps);
    let outcome = toured.and_then(|steps| report(&steps, output));
    if !matches!(outcome, Ok(Outcome::Done)) {
        runtime.block_on(running.stop());
        return outcome;
    }
    // Listened for before it is announced: who presses it at once ends the service gracefully too.
    let told_to_stop = {
        let _entered = runtime.enter();
        told_to_stop()?
    };
    println!("\nserving on {} until you press Ctrl-C; try, in another terminal:", place.server);
    for line in next_commands(&place) {
        println!("  {line}");
    }
    runtime.block_on(told_to_stop);
    runtime.block_on(running.stop());
    outcome
}

/// Founds the service, if it is not there yet, and starts it.
fn begin(
    runtime: &Runtime,
    root: PathBuf,
    (listen, profile): (SocketAddr, AlgorithmProfile),
) -> Result<(Running, Place, tour::Steps), Failure> {
    let mut steps = tour::Steps::new();
    let mut place = Place { root, server: String::new() };
    if place.root.join("data").join("officers").join("bob.pem").exists() {
        steps.note("found", "the service that is there");
    } else {
        steps.step("found", || found::found(&place, listen, profile))?;
    }
    let config = Config::load(&place.root.join("data").join("countersign.toml"))?;
    let mut settings = Settings::try_from(config)?;
    settings.listen = listen;
    // Nobody is there to accept the clock of a laptop that slept for a week.
    settings.accept_clock = true;
    let running = steps.step("serve", || {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let running = runtime.block_on(server::start(settings, clock, Arc::new(SystemEntropy)))?;
        let said = format!("mTLS on {}", running.address());
        Ok((running, said))
    })?;
    place.server = format!("https://127.0.0.1:{}", running.address().port());
    steps.step("identities", || found::identities(runtime, running.app(), &place))?;
    Ok((running, place, steps))
}

fn report(steps: &tour::Steps, output: &Output) -> Result<Outcome, Failure> {
    let failed = steps.failed();
    let value = json!({ "steps": steps.to_json(), "failed": failed });
    let text = match failed {
        0 => format!("\n{} steps, all as they should be", steps.count()),
        failed => format!("\n{} steps, {failed} NOT as they should be", steps.count()),
    };
    output.print(&value, &text);
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed })
}

fn next_commands(place: &Place) -> [String; 3] {
    let as_alice = format!("--server {} --identity {}", place.server, place.path("alice"));
    let as_gateway = format!("--server {} --identity {}", place.server, place.path("gateway"));
    [
        format!("countersign entity list {as_alice}"),
        format!("countersign cert show {}", place.path("partner/certificate.pem")),
        format!(
            "countersign evaluate {as_gateway} --certificate {} --model mythos-5 --place US --serving-region US",
            place.path("partner/certificate.pem")
        ),
    ]
}

/// Runs a command as it would be typed and gives its result.
fn command(words: &[&str]) -> Result<(Outcome, Value), Failure> {
    let typed = std::iter::once("countersign").chain(words.iter().copied());
    let arguments = super::Arguments::try_parse_from(typed).map_err(|e| Failure(e.to_string()))?;
    let output = Output::keeping();
    let outcome = dispatch(arguments, &output)?;
    Ok((outcome, output.kept()))
}

/// A text of a result, by its key.
fn text(value: &Value, key: &str) -> Result<String, Failure> {
    value
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure(format!("no {key} in {value}")))
}
