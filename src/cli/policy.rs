//! `countersign policy`: check and test bundles, on files; adopt one, with two officers' signatures.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::mandate::{Commit, Wait, carry_out_on};
use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, Output, simulate, words};
use crate::domain::bundle::{Bundle, BundleParts, diff, in_words};
use crate::domain::codec::from_bytes;
use crate::domain::command::Command;
use crate::domain::id::{DeterminationId, Seq};
use crate::pb;
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
    /// Say who would lose or gain access by a bundle. Nothing is signed and nothing changes.
    #[command(after_help = "Example:\n  countersign policy simulate ./next --activate 2026-06-30-rescission")]
    Simulate {
        /// Folder of the bundle.
        folder: PathBuf,
        /// Take this draft determination as signed; may be given several times.
        #[arg(long, value_name = "DRAFT-ID")]
        activate: Vec<DeterminationId>,
    },
    /// What a bundle changes: in words, or as JSON.
    #[command(after_help = "Examples:\n  countersign policy diff --in-force ./next\n  \
                            countersign policy diff deploy/policy ./next --json")]
    Diff {
        /// Folder of the bundle that it is compared with; needs no server.
        #[arg(required_unless_present = "in_force", value_name = "BEFORE")]
        first: Option<PathBuf>,
        /// Folder of the bundle.
        #[arg(value_name = "AFTER", required_unless_present = "in_force")]
        second: Option<PathBuf>,
        /// Compare this folder with the bundle that is in force at the server.
        #[arg(long, value_name = "AFTER", conflicts_with_all = ["first", "second"])]
        in_force: Option<PathBuf>,
    },
    /// Every determination in force, drafts included, and what contradicts what.
    #[command(after_help = "Example:\n  countersign policy list")]
    List,
    /// Put a bundle in force. Nothing is proposed while a vector disagrees; two officers sign its content.
    #[command(after_help = "Example:\n  countersign policy adopt ./next --vectors decisions.csv --commit")]
    Adopt {
        /// Folder of the bundle.
        folder: PathBuf,
        /// CSV file of cases and expected outcomes that the bundle must decide so; may be given several times.
        #[arg(long, required = true)]
        vectors: Vec<PathBuf>,
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
    match verb {
        RemoteVerb::Adopt { folder, vectors, commit } => {
            let bundle = policy::load(folder, &[])?;
            propose(context, (&in_force(context).await?, &bundle), vectors, *commit).await
        }
        RemoteVerb::Simulate { folder, activate } => {
            let parts = policy::load(folder, activate)?.parts().clone();
            simulate::run(context, &Command::AdoptPolicy(Box::new(parts))).await
        }
        RemoteVerb::Diff { first: Some(first), second: Some(second), .. } => {
            print_diff(&policy::load(first, &[])?, &policy::load(second, &[])?, context.output);
            Ok(Outcome::Done)
        }
        RemoteVerb::Diff { in_force: Some(folder), .. } => {
            let after = policy::load(folder, &[])?;
            print_diff(&in_force(context).await?.bundle, &after, context.output);
            Ok(Outcome::Done)
        }
        RemoteVerb::Diff { .. } => Err(Failure("two folders are needed, or --in-force and one".to_owned())),
        RemoteVerb::List => list(context).await,
    }
}

/// Proposes a bundle that has passed its vectors, and shows first what it changes.
pub(super) async fn propose(
    context: &Context<'_>,
    (before, bundle): (&InForce, &Bundle),
    vectors: &[PathBuf],
    commit: Commit,
) -> Result<Outcome, Failure> {
    for path in vectors {
        let report = run_vectors(bundle, path)?;
        let mut told =
            format!("{}: {} vectors, {} mismatches", path.display(), report.vectors, report.mismatches.len());
        if report.vectors == 0 || !report.mismatches.is_empty() {
            for mismatch in report.mismatches.iter().take(MISMATCHES_SHOWN) {
                told.push_str(&in_lines(mismatch));
            }
            return Err(Failure(format!(
                "{told}\n  nothing was proposed: correct the bundle or what is expected of it"
            )));
        }
        context.output.note(&format!("{told}\n"));
    }
    let command = Command::AdoptPolicy(Box::new(bundle.parts().clone()));
    for line in before.changes(bundle) {
        context.output.note(&format!("{line}\n"));
    }
    carry_out_on(context, command, (Some(before.revision), commit.into()), Wait::default()).await
}

fn in_lines(mismatch: &policy::Mismatch) -> String {
    format!(
        "\nline {}: {}\n  expected {}\n  decided  {}",
        mismatch.line, mismatch.inputs, mismatch.expected, mismatch.decided
    )
}

/// What a command changes of the bundle in force, in words; nothing for commands that are no bundle.
pub(super) async fn changes(context: &Context<'_>, command: &Command) -> Result<Vec<String>, Failure> {
    let Command::AdoptPolicy(parts) = command else { return Ok(Vec::new()) };
    let after = Bundle::new(parts.as_ref().clone())?;
    Ok(in_force(context).await?.changes(&after))
}

/// The bundle that is in force at the server.
pub(super) struct InForce {
    pub(super) bundle: Bundle,
    /// The record that put it there.
    revision: Seq,
}

impl InForce {
    fn changes(&self, after: &Bundle) -> Vec<String> {
        let mut lines = vec![format!("{} -> {}", self.bundle.hash(), after.hash())];
        lines.extend(in_words(&diff(&self.bundle, after)));
        lines
    }
}

pub(super) async fn in_force(context: &Context<'_>) -> Result<InForce, Failure> {
    let remote = context.connection.remote().await?;
    let answered = answer(remote.determinations().get_policy(pb::GetPolicyRequest {})).await?;
    let parts: BundleParts = from_bytes(&answered.bundle)
        .map_err(|e| Failure(format!("the server sent something else than a bundle: {e}")))?;
    let bundle = Bundle::new(parts)?;
    if bundle.hash().to_string() != answered.hash {
        return Err(Failure("the server sent a bundle with another hash than it says".to_owned()));
    }
    Ok(InForce { bundle, revision: Seq(answered.revision) })
}

fn print_diff(before: &Bundle, after: &Bundle, output: &Output) {
    let changes = diff(before, after);
    let mut text = format!("{} -> {}\n", before.hash(), after.hash());
    let words = in_words(&changes);
    text.push_str(&if words.is_empty() { "nothing differs".to_owned() } else { words.join("\n") });
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            json!({
                "part": change.part.as_str(), "name": change.name, "field": change.field,
                "before": change.before, "after": change.after,
            })
        })
        .collect();
    let value = json!({
        "before": before.hash().to_string(), "after": after.hash().to_string(), "changes": rows,
    });
    output.print(&value, &text);
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let found = answer(remote.determinations().list_determinations(pb::ListDeterminationsRequest {})).await?;
    let rows: Vec<_> = found
        .determinations
        .iter()
        .map(|d| {
            let effective = if d.effective_at.is_empty() { "never" } else { &d.effective_at };
            [
                d.determination_id.clone(),
                d.kind.clone(),
                d.state.clone(),
                effective.to_owned(),
                d.models.join(", "),
                d.annex_revision.to_string(),
                d.members.to_string(),
            ]
        })
        .collect();
    let value: Vec<_> = found
        .determinations
        .iter()
        .map(|d| {
            json!({
                "id": d.determination_id, "kind": d.kind, "state": d.state, "effective_at": d.effective_at,
                "models": d.models, "amends": d.amends, "annex_revision": d.annex_revision, "members": d.members,
            })
        })
        .collect();
    let header = ["DETERMINATION", "KIND", "STATE", "EFFECTIVE", "MODELS", "ANNEX", "MEMBERS"];
    let mut text = table(header, &rows);
    found.contradictions.iter().for_each(|line| text.push_str(&format!("\n! {}", words::printable(line))));
    let value = json!({ "determinations": value, "contradictions": found.contradictions });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

pub(super) fn run(verb: &LocalVerb, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        LocalVerb::Check { folder } => check(folder, output),
        LocalVerb::Test { folder, vectors, activate } => test(folder, vectors, activate, output),
    }
}

fn check(folder: &Path, output: &Output) -> Result<Outcome, Failure> {
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
    let contradictions: Vec<_> = bundle.contradictions().iter().map(ToString::to_string).collect();
    contradictions.iter().try_for_each(|line| writeln!(text, "! {line}"))?;
    let value = json!({
        "hash": bundle.hash().to_string(), "determinations": rows, "contradictions": contradictions,
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

/// What these vectors say of the bundle in a command, and whether all of them agree. Nothing for commands that are none.
pub(super) fn tested(command: &Command, vectors: &[PathBuf]) -> Result<Vec<(String, bool)>, Failure> {
    let Command::AdoptPolicy(parts) = command else { return Ok(Vec::new()) };
    let bundle = Bundle::new(parts.as_ref().clone())?;
    let told = |path: &PathBuf| -> Result<_, Failure> {
        let report = run_vectors(&bundle, path)?;
        let told =
            format!("{}: {} vectors, {} mismatches", path.display(), report.vectors, report.mismatches.len());
        Ok((told, report.vectors > 0 && report.mismatches.is_empty()))
    };
    vectors.iter().map(told).collect()
}

fn run_vectors(bundle: &Bundle, vectors: &Path) -> Result<policy::VectorReport, Failure> {
    let file = File::open(vectors).map_err(|e| Failure(format!("cannot read {}: {e}", vectors.display())))?;
    policy::run(bundle, file).map_err(|e| Failure(format!("{}: {e}", vectors.display())))
}

fn test(
    folder: &Path,
    vectors: &Path,
    activate: &[DeterminationId],
    output: &Output,
) -> Result<Outcome, Failure> {
    let bundle = policy::load(folder, activate)?;
    let report = run_vectors(&bundle, vectors)?;
    let mut text = format!("{} vectors, {} mismatches\n", report.vectors, report.mismatches.len());
    for mismatch in report.mismatches.iter().take(MISMATCHES_SHOWN) {
        text.push_str(in_lines(mismatch).trim_start());
        text.push('\n');
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
