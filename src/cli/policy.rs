//! `countersign policy`: check and test bundles, on files; adopt one, with two officers' signatures.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::mandate::{Commit, Wait, carry_out};
use super::{Context, Failure, Outcome, Output};
use crate::domain::command::Command;
use crate::domain::id::DeterminationId;
use crate::policy;

/// How many mismatches are printed: enough to see a pattern, few enough to read.
const MISMATCHES_SHOWN: usize = 20;

#[derive(Subcommand)]
pub(super) enum Verb {
    #[command(flatten)]
    Local(LocalVerb),
    #[command(flatten)]
    Remote(RemoteVerb),
}

#[derive(Subcommand)]
pub(super) enum RemoteVerb {
    /// Put a bundle in force. Two officers sign its content.
    #[command(after_help = "Example:\n  countersign policy adopt deploy/policy --commit")]
    Adopt {
        /// Folder of the bundle.
        folder: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
}

#[derive(Subcommand)]
pub(super) enum LocalVerb {
    /// Read a bundle strictly and say what is in it.
    #[command(after_help = "Example:\n  countersign policy check deploy/policy")]
    Check {
        /// Folder with models.toml, posture.toml, provider-policy.toml and determinations/.
        folder: PathBuf,
    },
    /// Run decision vectors against a bundle; exit 1 on any mismatch.
    #[command(after_help = "Examples:\n  countersign policy test deploy/policy --vectors decisions.csv\n  \
                            countersign policy test deploy/policy --vectors decisions-after-rescission.csv \\\n      \
                            --activate 2026-06-30-rescission")]
    Test {
        /// Folder of the bundle.
        folder: PathBuf,
        /// CSV file of cases and expected outcomes.
        #[arg(long)]
        vectors: PathBuf,
        /// Take this draft determination as signed; may be given several times.
        #[arg(long, value_name = "DRAFT-ID")]
        activate: Vec<DeterminationId>,
    },
}

pub(super) async fn remote(verb: &RemoteVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let RemoteVerb::Adopt { folder, commit } = verb;
    let parts = policy::load(folder, &[])?.parts().clone();
    carry_out(context, Command::AdoptPolicy(Box::new(parts)), *commit, Wait::default()).await
}

pub(super) fn run(verb: &LocalVerb, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        LocalVerb::Check { folder } => check(folder, output),
        LocalVerb::Test { folder, vectors, activate } => test(folder, vectors, activate, output),
    }
}

fn check(folder: &std::path::Path, output: &Output) -> Result<Outcome, Failure> {
    let bundle = policy::load(folder, &[])?;
    let parts = bundle.parts();
    let mut text = format!(
        "{} models, {} determinations, {} rules; hash {}\n",
        parts.models.len(),
        parts.determinations.len(),
        parts.rules.len(),
        bundle.hash()
    );
    let mut rows = Vec::new();
    for determination in &parts.determinations {
        let effective = determination.effective_at().map(|at| at.to_string());
        let shown = effective.as_deref().unwrap_or("no effect");
        writeln!(
            text,
            "  {:<24} {:<22} {:<14} {shown}",
            determination.id, determination.kind, determination.state
        )?;
        rows.push(json!({
            "id": determination.id.as_str(), "kind": determination.kind.as_str(),
            "state": determination.state.as_str(), "effective_at": effective,
        }));
    }
    output.print(&json!({ "hash": bundle.hash().to_string(), "determinations": rows }), &text);
    Ok(Outcome::Done)
}

fn test(
    folder: &std::path::Path,
    vectors: &std::path::Path,
    activate: &[DeterminationId],
    output: &Output,
) -> Result<Outcome, Failure> {
    let bundle = policy::load(folder, activate)?;
    let file = File::open(vectors).map_err(|e| Failure(format!("cannot read {}: {e}", vectors.display())))?;
    let report = policy::run(&bundle, file).map_err(|e| Failure(format!("{}: {e}", vectors.display())))?;
    let mut text = format!("{} vectors, {} mismatches\n", report.vectors, report.mismatches.len());
    for mismatch in report.mismatches.iter().take(MISMATCHES_SHOWN) {
        writeln!(
            text,
            "line {}: {}\n  expected {}\n  decided  {}",
            mismatch.line, mismatch.inputs, mismatch.expected, mismatch.decided
        )?;
    }
    let shown =
        report.mismatches.iter().take(MISMATCHES_SHOWN).map(
            |m| json!({ "line": m.line, "inputs": m.inputs, "expected": m.expected, "decided": m.decided }),
        );
    let value = json!({
        "vectors": report.vectors, "mismatches": report.mismatches.len(), "first": shown.collect::<Vec<_>>(),
    });
    output.print(&value, &text);
    Ok(if report.mismatches.is_empty() { Outcome::Done } else { Outcome::Failed })
}
