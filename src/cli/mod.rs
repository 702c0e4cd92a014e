//! The command line. Verbs mirror RPC verbs; tables are for people, `--json` for programs.
//!
//! Exit codes: 0 done, 1 failed, 2 denied, 3 only warnings, 64 wrong usage. Only `init`, `restore`, `doctor` and offline
//! verification touch files of a server; everything else is a client of its API.

mod agent;
mod announce;
mod approvals;
mod audit;
mod authority;
mod backup;
mod calls;
mod certificate;
mod decisions;
mod determination;
mod dev;
mod doctor;
#[cfg(test)]
mod documented;
mod drill;
mod due;
mod enroll;
mod entity;
mod evaluate;
mod explain;
mod files;
mod follow;
mod gateway;
mod head;
mod health;
mod hierarchy;
mod holds;
mod identity;
mod import;
mod init;
mod key;
mod lint;
mod mandate;
mod officer;
mod output;
mod partners;
mod policy;
mod principal;
mod records;
mod recovery;
mod remote;
mod renewal;
mod restore;
mod restrict;
mod root;
mod screening;
mod serve;
mod signals;
mod signed;
mod simulate;
mod subject;
mod unlock;
mod words;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

pub(crate) use output::{Failure, Outcome, Output};

use self::mandate::Check;
use self::remote::Connection;
use crate::pb;

/// Exit code for wrong usage (sysexits.h EX_USAGE); clap's own would be 2, which means denied here.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "countersign",
    version,
    about = "Decides, proves and enforces who may use an export-controlled AI model",
    after_help = "Exit codes: 0 done, 1 failed, 2 denied, 3 only warnings (doctor), 64 wrong usage.\n\
                  What widens or destroys is only checked until --commit is given.\n\
                  Examples:\n  countersign init --help\n  countersign entity list --identity alice"
)]
struct Arguments {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(Box<init::Arguments>),
    Serve(serve::Arguments),
    Agent(agent::Arguments),
    Dev(dev::Arguments),
    /// Make an officer's key and sign genesis, on the officer's own machine.
    #[command(subcommand)]
    Officer(officer::Verb),
    /// Partners: register, activate, suspend, remove.
    #[command(subcommand)]
    Entity(entity::Verb),
    /// The annex of a determination.
    #[command(subcommand)]
    Annex(entity::AnnexVerb),
    /// The operator's permission for an entity to use a model.
    #[command(subcommand)]
    Grant(entity::GrantVerb),
    /// Specific licences.
    #[command(subcommand)]
    License(entity::LicenseVerb),
    /// People who act for a partner.
    #[command(subcommand)]
    Person(subject::PersonVerb),
    /// Machine identities of a partner.
    #[command(subcommand)]
    Workload(subject::WorkloadVerb),
    /// Screening: lists, matches, and what officers make of them.
    #[command(subcommand)]
    Screening(screening::Verb),
    /// Safeguards: what is asked of entities, and what they attest.
    #[command(subcommand)]
    Safeguards(partners::SafeguardsVerb),
    /// What must be verified, attested or reported anew.
    #[command(subcommand)]
    Due(due::Verb),
    /// One-time enrollment tokens.
    #[command(subcommand)]
    Token(subject::TokenVerb),
    Enroll(enroll::EnrollArguments),
    Renew(enroll::RenewArguments),
    /// Certificates: read, verify, revoke, hold.
    #[command(subcommand)]
    Cert(certificate::Verb),
    Evaluate(evaluate::Arguments),
    Explain(Box<explain::Arguments>),
    Replay(explain::ReplayArguments),
    /// Revoke, for good: one record, however many certificates.
    #[command(subcommand)]
    Revoke(restrict::RevokeVerb),
    /// Keys: public ones that nothing may be certified for, and the passphrases of private ones.
    #[command(subcommand)]
    Key(key::Verb),
    /// Emergency stops.
    #[command(subcommand)]
    Stop(restrict::StopVerb),
    /// Official acts: how they end, and the documents that prove them.
    #[command(subcommand)]
    Determination(determination::Verb),
    /// Check, test and adopt policy bundles.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Offline keys that register officers when too few have theirs.
    #[command(subcommand)]
    Recovery(recovery::Verb),
    /// Commands that wait for another officer: show, approve, reject.
    #[command(subcommand)]
    Approvals(approvals::Verb),
    /// Officers and partners' administrators.
    #[command(subcommand)]
    Principal(principal::Verb),
    /// Gateways in front of models.
    #[command(subcommand)]
    Gateway(principal::GatewayVerb),
    /// Certification authorities: rotate, roll back, revoke.
    #[command(subcommand)]
    Authority(authority::Verb),
    /// Roots, on a machine that is on no network: certify authorities, sign their revocation lists.
    #[command(subcommand)]
    Root(root::Verb),
    /// The record, from the server.
    #[command(subcommand)]
    Audit(audit::Verb),
    Backup(backup::Arguments),
    Doctor(doctor::Arguments),
    Health(health::Arguments),
    /// Go on from a backup, and restore access after a lift.
    #[command(subcommand)]
    Restore(restore::Verb),
    /// The record, on disk.
    #[command(subcommand)]
    Journal(audit::JournalVerb),
    /// The server's clock.
    #[command(subcommand)]
    Clock(records::ClockVerb),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  countersign completions bash > /etc/bash_completion.d/countersign")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What a verb needs: where to print, and whom to ask as whom.
struct Context<'a> {
    output: &'a Output,
    connection: &'a Connection,
}

impl Context<'_> {
    /// Prints what was recorded, or that it could be.
    fn recorded(
        &self,
        check: Check,
        (kind, id): (&str, String),
        position: Option<pb::Position>,
    ) -> Result<Outcome, Failure> {
        let seq = position.unwrap_or_default().seq;
        if check.dry_run {
            let text = "It can be done. Nothing changed; leave out --dry-run to do it.";
            self.output.print(&json!({ "checked": true, "committed": false }), text);
        } else {
            let text = format!("{kind} {id}\ndone at record {seq}");
            self.output.print(&json!({ "id": id, "committed": true, "record": seq }), &text);
        }
        Ok(Outcome::Done)
    }
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
    let outcome = dispatch(arguments, &output);
    output.finish(outcome)
}

/// Carries out a parsed command.
fn dispatch(arguments: Arguments, output: &Output) -> Result<Outcome, Failure> {
    let context = Context { output, connection: &arguments.connection };
    let unlock = &arguments.connection.unlock;
    match arguments.verb {
        Verb::Init(arguments) => init::run(&arguments, unlock, output),
        Verb::Serve(arguments) => serve::run(&arguments, unlock),
        Verb::Agent(arguments) => agent::run(&arguments, unlock, output),
        Verb::Dev(arguments) => dev::run(&arguments, output),
        Verb::Officer(verb) => officer::run(&verb, unlock, output),
        Verb::Root(verb) => root::run(&verb, unlock, output),
        Verb::Policy(policy::Verb::Local(verb)) => policy::run(&verb, output),
        Verb::Cert(certificate::Verb::Local(verb)) => certificate::local(&verb, output),
        Verb::Key(key::Verb::Encrypt(arguments)) => key::encrypt(&arguments, unlock, output),
        Verb::Journal(verb) => audit::journal(&verb, output),
        Verb::Restore(restore::Verb::Begin(arguments)) => restore::begin(&arguments, output),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "countersign", &mut std::io::stdout());
            Ok(Outcome::Done)
        }
        Verb::Recovery(verb @ recovery::Verb::Submit { .. }) => {
            block_on(recovery::submit(verb, &arguments.connection, output))
        }
        Verb::Recovery(verb) => recovery::local(&verb, unlock, output),
        verb => block_on(ask(verb, &context)),
    }
}

/// The verbs that ask the server.
async fn ask(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Entity(verb) => entity::run(verb, context).await,
        Verb::Annex(verb) => entity::annex(verb, context).await,
        Verb::Grant(verb) => entity::grant(verb, context).await,
        Verb::License(verb) => entity::license(verb, context).await,
        Verb::Person(verb) => subject::person(verb, context).await,
        Verb::Workload(verb) => subject::workload(verb, context).await,
        Verb::Screening(verb) => screening::run(verb, context).await,
        Verb::Safeguards(verb) => partners::safeguards(verb, context).await,
        Verb::Due(verb) => due::run(verb, context).await,
        Verb::Token(verb) => subject::token(verb, context).await,
        Verb::Enroll(arguments) => enroll::enroll(&arguments, context).await,
        Verb::Renew(arguments) => enroll::renew(&arguments, context).await,
        Verb::Cert(certificate::Verb::Remote(verb)) => certificate::remote(verb, context).await,
        Verb::Evaluate(arguments) => evaluate::run(arguments, context).await,
        Verb::Explain(arguments) => explain::run(*arguments, context).await,
        Verb::Replay(arguments) => explain::replay(&arguments, context).await,
        Verb::Revoke(verb) => restrict::revoke(verb, context).await,
        Verb::Key(key::Verb::Remote(verb)) => key::run(verb, context).await,
        Verb::Stop(verb) => restrict::stop(verb, context).await,
        Verb::Determination(verb) => determination::run(verb, context).await,
        Verb::Policy(policy::Verb::Remote(verb)) => policy::remote(&verb, context).await,
        Verb::Approvals(verb) => approvals::run(verb, context).await,
        Verb::Principal(verb) => principal::run(verb, context).await,
        Verb::Gateway(verb) => principal::gateway(verb, context).await,
        Verb::Authority(verb) => authority::run(verb, context).await,
        Verb::Audit(verb) => audit::run(&verb, context).await,
        Verb::Restore(verb) => restore::run(verb, context).await,
        Verb::Backup(arguments) => backup::run(&arguments, context).await,
        Verb::Doctor(arguments) => doctor::run(&arguments, context).await,
        Verb::Health(arguments) => health::run(&arguments, context).await,
        Verb::Clock(verb) => records::clock(verb, context).await,
        Verb::Init(_)
        | Verb::Serve(_)
        | Verb::Agent(_)
        | Verb::Dev(_)
        | Verb::Officer(_)
        | Verb::Recovery(_)
        | Verb::Root(_)
        | Verb::Policy(policy::Verb::Local(_))
        | Verb::Cert(certificate::Verb::Local(_))
        | Verb::Key(key::Verb::Encrypt(_))
        | Verb::Journal(_)
        | Verb::Completions { .. } => Err(Failure("this verb needs no server".to_owned())),
    }
}

fn block_on(work: impl Future<Output = Result<Outcome, Failure>>) -> Result<Outcome, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves<'a>(command: &'a clap::Command, path: &str, found: &mut Vec<(String, &'a clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        match command.has_subcommands() {
            true => command.get_subcommands().for_each(|verb| leaves(verb, &path, found)),
            false => found.push((path, command)),
        }
    }

    #[test]
    fn every_verb_has_an_example_that_begins_like_it() {
        let command = Arguments::command();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        assert!(found.len() > 50, "{} verbs", found.len());
        for (path, verb) in found {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path}");
            // What people and workloads share has one example, of a person.
            let own = help.contains(path.trim()) || help.contains(&path.trim().replace("workload", "person"));
            assert!(own, "{path}: {help}");
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_widens_or_destroys_needs_commit_and_what_is_reversible_does_not() {
        let command = Arguments::command();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        let with = |flag: &str| -> Vec<String> {
            let has = |verb: &clap::Command| verb.get_arguments().any(|a| a.get_long() == Some(flag));
            found.iter().filter(|(_, verb)| has(verb)).map(|(path, _)| path.trim().to_owned()).collect()
        };
        let (commit, dry_run) = (with("commit"), with("dry-run"));
        for verb in [
            "entity activate",
            "entity remove",
            "grant add",
            "grant end",
            "policy adopt",
            "determination rescind",
            "determination attach",
            "revoke entity",
            "stop release",
            "key block",
            "key unblock",
            "cert revoke",
            "cert release",
            "principal remove",
            "approvals reject",
            "approvals close-review",
            "principal release",
            "clock accept",
            "authority prepare",
            "authority activate",
            "authority rollback",
            "authority retire",
            "authority revoke",
            "authority automate",
            "revoke announce",
            "revoke hasten",
            "revoke postpone",
            "revoke withdraw",
        ] {
            assert!(commit.contains(&format!("countersign {verb}")), "{verb}");
        }
        for verb in [
            "stop engage",
            "entity suspend",
            "person suspend",
            "principal suspend",
            "cert hold",
            "authority taint",
            "authority by-hand",
        ] {
            assert!(dry_run.contains(&format!("countersign {verb}")), "{verb}");
        }
        assert!(commit.iter().all(|verb| !dry_run.contains(verb)));
    }
}
