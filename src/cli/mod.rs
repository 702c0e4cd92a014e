//! The command line. Verbs mirror RPC verbs; tables are for people, `--json` for programs.
//!
//! Exit codes: 0 done, 1 failed, 2 denied, 64 wrong usage. Only `init`, `restore` and offline verification touch files
//! of a server; everything else is a client of its API.

mod files;
mod identity;
mod init;
mod officer;
mod output;
mod policy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use output::{Failure, Outcome, Output};

/// Exit code for wrong usage (sysexits.h EX_USAGE); clap's own would be 2, which means denied here.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "countersign",
    version,
    about = "Decides, proves and enforces who may use an export-controlled AI model"
)]
struct Arguments {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(init::Arguments),
    /// Make an officer's key and sign genesis, on the officer's own machine.
    #[command(subcommand)]
    Officer(officer::Verb),
    /// Check and test policy bundles.
    #[command(subcommand)]
    Policy(policy::Verb),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A closed standard output leaves nobody to tell.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let output = Output::new(arguments.json);
    let outcome = match arguments.verb {
        Verb::Init(arguments) => init::run(&arguments, &output),
        Verb::Officer(verb) => officer::run(&verb, &output),
        Verb::Policy(verb) => policy::run(&verb, &output),
    };
    output.finish(outcome)
}
