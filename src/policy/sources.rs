//! Where in the files of a bundle something stands: what does not fit is told with file, line and key.
//!
//! The parsed values carry no positions, so the texts are looked through again, only when something is wrong.

use std::path::{Path, PathBuf};

use super::load::PolicyError;
use crate::domain::bundle::{BundleFault, Named};
use crate::domain::model::RegistryFault;

/// The files as they were read.
#[derive(Default)]
pub(super) struct Sources(Vec<(PathBuf, String)>);

/// A key in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    path: PathBuf,
    /// From 1.
    line: usize,
    key: String,
}

impl Spot {
    pub(super) fn fault(self, why: String) -> PolicyError {
        PolicyError::Part { path: self.path, line: self.line, key: self.key, why }
    }
}

impl Sources {
    pub(super) fn keep(&mut self, path: &Path, text: String) {
        self.0.push((path.to_owned(), text));
    }

    /// Where a key of a part stands; where its part begins, if it has no such key.
    pub(super) fn of_part(&self, part: &Named, key: &str) -> Option<Spot> {
        match part {
            Named::Determination(id) => {
                let is_its = |text: &str| text.lines().any(|line| value_of(line, "id") == Some(id.as_str()));
                let (path, text) = self.0.iter().find(|(_, text)| is_its(text))?;
                let line = line_of(text, 0, key).or_else(|| line_of(text, 0, "id"))?;
                Some(Spot { path: path.clone(), line, key: key.to_owned() })
            }
            Named::Rule(index, _) => {
                let is_header = |line: &str| line.trim() == "[[rule]]";
                let (path, text) = self.0.iter().find(|(_, text)| text.lines().any(is_header))?;
                let headers = text.lines().enumerate().filter(|(_, line)| is_header(line));
                let (header, _) = headers.clone().nth(*index)?;
                let end = headers.map(|(at, _)| at).find(|at| *at > header).unwrap_or(usize::MAX);
                let line = line_of(text, header, key).filter(|line| *line <= end).unwrap_or(header + 1);
                Some(Spot { path: path.clone(), line, key: key.to_owned() })
            }
        }
    }

    /// Where a name stands that does not fit.
    pub(super) fn of_fault(&self, fault: &BundleFault) -> Option<Spot> {
        match fault {
            BundleFault::Twice(id) => self.quoted(id.as_str(), "id", Nth::Last),
            BundleFault::UnknownDetermination { missing, .. } => {
                self.quoted(missing.as_str(), "", Nth::First)
            }
            BundleFault::UnknownModel { missing, .. } => self.quoted(missing.as_str(), "", Nth::First),
            BundleFault::AmendsNothing(id) => self.of_part(&Named::Determination(id.clone()), "amends"),
            BundleFault::Models(fault) => match fault {
                RegistryFault::NameTaken(name) => self.quoted(name, "", Nth::Last),
                RegistryFault::BadAlias(name) => self.quoted(name, "", Nth::First),
                RegistryFault::UnknownParent(_, parent) => {
                    self.quoted(parent.as_str(), "descends_from", Nth::First)
                }
                RegistryFault::Descent(id) => self.quoted(id.as_str(), "descends_from", Nth::First),
            },
            BundleFault::TooMany(_) => None,
        }
    }

    /// The first or last line with this name in quotes, under this key or any.
    fn quoted(&self, name: &str, key: &str, nth: Nth) -> Option<Spot> {
        let quoted = format!("\"{name}\"");
        let is_there = |line: &str| line.split('#').next().unwrap_or_default().contains(&quoted);
        let mut found = Vec::new();
        for (path, text) in &self.0 {
            for (at, _) in text.lines().enumerate().filter(|(_, line)| is_there(line)) {
                let Some(under) = key_above(text, at).filter(|under| key.is_empty() || *under == key) else {
                    continue;
                };
                found.push(Spot { path: path.clone(), line: at + 1, key: under.to_owned() });
            }
        }
        match nth {
            Nth::First => found.into_iter().next(),
            Nth::Last => found.pop(),
        }
    }
}

/// Which of several places is told.
#[derive(Clone, Copy)]
enum Nth {
    First,
    Last,
}

/// The key that a line sets.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .then_some(key)
}

/// The key of this line, or of the one above that a list over several lines belongs to.
fn key_above(text: &str, line: usize) -> Option<&str> {
    let lines: Vec<_> = text.lines().take(line + 1).collect();
    lines.into_iter().rev().find_map(key_of)
}

/// The text that a line sets a key to.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, value) = line.split_once('=').filter(|_| key_of(line) == Some(key))?;
    value.trim().strip_prefix('"')?.split('"').next()
}

/// The line, from 1, of the first such key at or below a line, from 0.
fn line_of(text: &str, from: usize, key: &str) -> Option<usize> {
    text.lines().enumerate().skip(from).find(|(_, line)| key_of(line) == Some(key)).map(|(at, _)| at + 1)
}
