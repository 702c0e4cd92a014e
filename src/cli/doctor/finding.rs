//! What a check found, and how all of them are told.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::words::printable;
use super::super::{Outcome, Output};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// What is to be done about something, and why.
#[derive(Debug, Clone)]
pub(super) struct Remedy {
    why: &'static str,
    command: String,
}

/// Why it matters, and the command that mends it.
pub(super) fn remedy(why: &'static str, command: impl Into<String>) -> Remedy {
    Remedy { why, command: command.into() }
}

#[derive(Debug)]
struct Finding {
    level: Level,
    check: &'static str,
    what: String,
    remedy: Option<Remedy>,
}

/// Everything that was found, in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, check, what: what.into(), remedy: None });
    }

    pub(super) fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: Remedy) {
        self.0.push(Finding { level: Level::Warn, check, what: what.into(), remedy: Some(remedy) });
    }

    pub(super) fn fail(&mut self, check: &'static str, what: impl Into<String>, remedy: Remedy) {
        self.0.push(Finding { level: Level::Fail, check, what: what.into(), remedy: Some(remedy) });
    }

    /// Each check with what came of it.
    #[cfg(test)]
    pub(super) fn levels(&self) -> Vec<(&'static str, Level)> {
        self.0.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    pub(super) fn print(&self, output: &Output) -> Outcome {
        let worst = self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let mut text = String::new();
        for finding in &self.0 {
            // Writing into a String cannot fail.
            let what = printable(&finding.what);
            let _ = writeln!(text, "{:<5} {:<18} {what}", finding.level.as_str(), finding.check);
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "      why: {}\n      do:  {}", remedy.why, remedy.command);
            }
        }
        let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
        let counted = [(self.0.len(), "check"), (warnings, "warning"), (failures, "failure")];
        let [checks, warned, failed] =
            counted.map(|(count, what)| format!("{count} {what}{}", plural(count)));
        let _ = writeln!(text, "{checks}: {warned}, {failed}");
        let value = json!({
            "worst": worst.as_str(), "warnings": warnings, "failures": failures,
            "findings": self.0.iter().map(Finding::value).collect::<Vec<_>>(),
        });
        output.print(&value, &text);
        match worst {
            Level::Ok => Outcome::Done,
            Level::Warn => Outcome::Warned,
            Level::Fail => Outcome::Failed,
        }
    }
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Finding {
    fn value(&self) -> Value {
        json!({
            "level": self.level.as_str(), "check": self.check, "what": self.what,
            "why": self.remedy.as_ref().map(|remedy| remedy.why),
            "do": self.remedy.as_ref().map(|remedy| remedy.command.as_str()),
        })
    }
}
