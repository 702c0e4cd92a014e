//! How a command tells its outcome: text or JSON on standard output, errors on standard error, one exit code.

use std::fmt::Write as _;
use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Why a command failed: one line of what is wrong and what to do.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // An error that already quotes its cause does not repeat it.
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was asked to.
    Done,
    /// It found what it looks for: a mismatch, a damaged record.
    Failed,
    /// The answer is a denial.
    Denied,
    /// Nothing is wrong, and something will be.
    Warned,
}

/// Where a command prints.
pub(crate) struct Output {
    json: bool,
    /// For the tour: what a command would print as JSON is kept instead of printed.
    kept: Option<Mutex<Value>>,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, kept: None }
    }

    /// Prints nothing and keeps the last result.
    pub(crate) const fn keeping() -> Self {
        Self { json: true, kept: Some(Mutex::new(Value::Null)) }
    }

    /// The last result that was kept.
    pub(crate) fn kept(&self) -> Value {
        let kept = self.kept.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).clone());
        kept.unwrap_or_default()
    }

    /// Is the result for programs?
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Says something beside the result, on standard error.
    pub(crate) fn note(&self, text: &str) {
        if self.kept.is_none() {
            eprint!("{text}");
        }
    }

    /// Prints a result in the form that was asked for.
    pub(crate) fn print(&self, value: &Value, text: &str) {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).clone_from(value);
        } else if self.json {
            say(&format!("{value:#}"));
        } else {
            say(text.trim_end_matches('\n'));
        }
    }

    /// Prints how the command ended and gives its exit code.
    pub(crate) fn finish(&self, outcome: Result<Outcome, Failure>) -> ExitCode {
        match outcome {
            Ok(Outcome::Done) => ExitCode::SUCCESS,
            Ok(Outcome::Failed) => ExitCode::from(1),
            Ok(Outcome::Denied) => ExitCode::from(2),
            Ok(Outcome::Warned) => ExitCode::from(3),
            Err(Failure(text)) => {
                if self.json {
                    say(&format!("{:#}", serde_json::json!({ "error": text })));
                }
                eprintln!("countersign: {text}");
                ExitCode::from(1)
            }
        }
    }
}

/// Prints a line. Whoever read may have seen enough and gone (`| head`): that is no fault of the command.
pub(super) fn say(line: &str) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("countersign: what was done cannot be printed: {error}");
    }
}

/// Asks on the terminal; without one, only `--yes` answers.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure("nobody is there to ask; add --yes when you have read the above".to_owned()));
    }
    eprint!("{question} [yes/no] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure("not done: the answer was not yes".to_owned())) }
}

/// Columns for people: a header and rows, each as wide as its longest cell.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut out = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{cell:<width$}  ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    };
    line(header);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

/// The most pages that are asked for: a million rows; a list that never ends is a fault of the server.
const PAGES_MAX: usize = 10_000;

/// Every row of a paged list.
pub(super) async fn every_page<T>(
    fetch: impl AsyncFn(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut rows, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let (page, next) = fetch(token).await?;
        rows.extend(page);
        if next.is_empty() {
            return Ok(rows);
        }
        token = next;
    }
    Err(Failure("the server's list does not end".to_owned()))
}
