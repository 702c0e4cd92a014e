//! Every command line that a document, a sample or the help names is one: parsed as the program parses it, with values in the
//! place of `ent_...`, `NAME` and their like. A verb that is only mentioned may leave out what it needs, and nothing else.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Arguments;

/// The body of an id.
const ID: &str = "01KW4F6WG00G2081040G208104";

/// How much of a command is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// As it is typed.
    Whole,
    /// In a sentence: what is needed may be left out.
    Mentioned,
}

/// A command line and where it stands.
#[derive(Debug)]
struct Found {
    place: String,
    line: String,
    written: Written,
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs"), root.join("deploy"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// Lines that go on in the next one become one.
fn joined(text: &str) -> String {
    text.replace("\\\n", " ")
}

/// The rest of a line from the name of the program on, if the line is a command.
fn command(line: &str) -> Option<&str> {
    // A step of a list begins with its number, a comment with its mark, a unit's line with its key.
    let line = line.trim_start_matches(|first: char| first.is_ascii_digit() || " .#$".contains(first));
    let line = line.split_once('=').filter(|(key, _)| key.starts_with("Exec")).map_or(line, |(_, rest)| rest);
    let rest = line.strip_prefix("/usr/bin/").unwrap_or(line).strip_prefix("countersign ")?;
    rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '-').then_some(rest)
}

/// What stands between single backticks outside of blocks, over the ends of lines as well.
fn mentions(text: &str) -> Vec<String> {
    let mut is_block = false;
    let outside = text.lines().filter(|line| {
        let is_fence =
            line.trim_start_matches(|c: char| c.is_ascii_digit() || ". ".contains(c)).starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    // The mark of a comment is no word.
    let outside: Vec<_> = outside.map(|line| line.trim().trim_start_matches("# ")).collect();
    let found: Vec<_> = outside.join(" ").split('`').skip(1).step_by(2).map(str::to_owned).collect();
    found.into_iter().filter_map(|code| command(&code).map(str::to_owned)).collect()
}

/// What stands in blocks, in lines of units and in comments that are nothing else.
fn lines(path: &Path, text: &str) -> Vec<String> {
    let is_prose = path.extension().is_some_and(|end| end == "md");
    let mut is_block = !is_prose;
    let text = joined(text);
    let found = text.lines().filter_map(|line| {
        let bare = line.trim_start_matches(|c: char| c.is_ascii_digit() || ". ".contains(c));
        if is_prose && bare.starts_with("```") {
            is_block = !is_block;
            return None;
        }
        command(line).filter(|_| is_block && !line.contains('`')).map(str::to_owned)
    });
    found.collect()
}

/// Lists of words, as containers have them: `["/usr/bin/countersign", "serve"]`, or without the program.
fn lists(text: &str) -> Vec<String> {
    let lists = text.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let words = lists.filter_map(|(list, _)| serde_json::from_str::<Vec<String>>(&format!("[{list}]")).ok());
    let lines = words.filter_map(|words| match words.split_first() {
        Some((first, rest)) if first == "/usr/bin/countersign" && !rest.is_empty() => Some(rest.join(" ")),
        Some((first, _)) if first == "serve" => Some(words.join(" ")),
        _ => None,
    });
    lines.collect()
}

fn in_files() -> Vec<Found> {
    let mut found = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let place = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let mut add = |lines: Vec<String>, written| {
            found.extend(lines.into_iter().map(|line| Found { place: place.clone(), line, written }));
        };
        add(lines(&path, &text), Written::Whole);
        add(mentions(&text), Written::Mentioned);
        if place.starts_with("deploy") {
            add(lists(&text), Written::Whole);
        }
    }
    found
}

/// The examples of every help.
fn in_help(verb: &clap::Command, found: &mut Vec<Found>) {
    let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
    let place = format!("countersign {} --help", verb.get_name());
    let lines = joined(&help).lines().filter_map(command).map(str::to_owned).collect::<Vec<_>>();
    found.extend(lines.into_iter().map(|line| Found { place: place.clone(), line, written: Written::Whole }));
    verb.get_subcommands().for_each(|verb| in_help(verb, found));
}

/// The words of a line as a shell makes them, up to a comment, a redirection or another command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('|' | ';' | '&' | '>' | '<', None) => break,
            (' ' | '\n', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    // The number of a redirected descriptor is no word.
    words.extend(word.filter(|last| !line.contains(&format!("{last}<"))));
    words
}

/// A value in the place of a name for one.
fn value(word: &str, before: Option<&str>) -> Option<String> {
    if let Some((kind, _)) = word.split_once('_').filter(|(kind, rest)| is_kind(kind) && is_open(rest)) {
        return Some(format!("{kind}_{ID}"));
    }
    Some(match (word, before) {
        // What is left out.
        ("...", Some("--cut-at" | "--until" | "--since")) => "2026-12-01T06:00:00Z".to_owned(),
        ("...", _) => return None,
        ("NAME", _) => "gw-1".to_owned(),
        ("YOUR_ARC", _) => "1.3.6.1.4.1.99999".to_owned(),
        ("SOURCE", _) => "file:passphrase".to_owned(),
        _ => word.to_owned(),
    })
}

/// Ids begin with a short word.
fn is_kind(kind: &str) -> bool {
    (2..=4).contains(&kind.len()) && kind.bytes().all(|letter| letter.is_ascii_lowercase())
}

/// Is it no id, but stands for one?
fn is_open(rest: &str) -> bool {
    rest.ends_with("...") || (!rest.is_empty() && rest.bytes().all(|letter| letter.is_ascii_uppercase()))
}

/// Why it is no command.
fn fault(found: &Found) -> Option<String> {
    let words = words(&found.line);
    let before = std::iter::once(None).chain(words.iter().map(|word| Some(word.as_str())));
    let typed: Vec<_> = words.iter().zip(before).filter_map(|(word, before)| value(word, before)).collect();
    let is_short = words.iter().any(|word| word == "...") || found.written == Written::Mentioned;
    let error = Arguments::try_parse_from(std::iter::once("countersign".to_owned()).chain(typed)).err()?;
    let is_missing = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!(is_help || is_short && is_missing))
        .then(|| format!("{}: countersign {}\n{error}", found.place, found.line))
}

#[test]
fn every_command_line_in_documents_samples_and_help_is_one() {
    let mut found = in_files();
    let of_files = found.len();
    in_help(&<Arguments as clap::CommandFactory>::command(), &mut found);
    let faults: Vec<_> = found.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), found.len(), faults.join("\n"));
    // Nothing is passed because nothing is found.
    assert!(of_files > 150 && found.len() - of_files > 80, "{of_files} of {}", found.len());
    for place in [
        "README.md",
        "docs/operations.md",
        "docs/requirements.md",
        "deploy/Containerfile",
        "deploy/systemd/countersign.service",
    ] {
        assert!(found.iter().any(|found| found.place == place), "none in {place}");
    }
}

#[test]
fn a_command_line_that_is_none_is_found() {
    let fault = |line: &str, written| fault(&Found { place: String::new(), line: line.to_owned(), written });
    for line in
        ["entity shew ent_...", "stop engage --modell mythos-5", "revoke entity ent_... --reason BECAUSE"]
    {
        assert!(fault(line, Written::Whole).is_some() && fault(line, Written::Mentioned).is_some(), "{line}");
    }
    assert!(fault("stop engage --reason DRILL", Written::Whole).is_some());
    assert!(fault("stop engage --reason DRILL", Written::Mentioned).is_none());
    assert!(fault("init ... --passphrase SOURCE", Written::Whole).is_none());
    assert_eq!(words("a 'b c'  \"d\" e#f # g"), ["a", "b c", "d", "e#f"]);
    assert_eq!(words("sign --passphrase-fd 3 3< secret"), ["sign", "--passphrase-fd", "3"]);
}
