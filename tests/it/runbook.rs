//! docs/operations.md, followed to the letter: the commands of its blocks are typed into a shell against a served process, with
//! the names of this service in place of `prp_...` and its like, and each section ends with the record that it names.

use std::process::Command;

use countersign::env::{Clock as _, SystemClock};
use serde_json::Value;

use crate::cli::{Desk, Ended, root};
use crate::cli_served::Served;

fn document() -> String {
    std::fs::read_to_string(root("docs/operations.md")).unwrap()
}

/// The section under this heading.
fn section(heading: &str) -> String {
    let text = document();
    let (_, rest) =
        text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The commands of a section's blocks, in order.
pub(crate) fn commands(heading: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut is_block = false;
    for line in section(heading).lines() {
        // A step of a list begins with its number.
        let line = line.trim_start_matches(|first: char| first.is_ascii_digit() || ". ".contains(first));
        match line.starts_with("```") {
            true => is_block = !is_block,
            false if is_block => {
                let line = line.split(" # ").next().unwrap_or_default().trim();
                match found.last_mut() {
                    // Broken over two lines.
                    Some(last) if last.ends_with('\\') => {
                        *last = format!("{} {line}", last.trim_end_matches('\\'))
                    }
                    _ => found.push(line.to_owned()),
                }
            }
            false => {}
        }
    }
    assert!(!is_block && !found.is_empty(), "{heading}");
    // What other programs are asked for is theirs to check.
    let is_known = |command: &String| {
        ["countersign ", "softhsm2-util ", "chmod "].iter().any(|program| command.starts_with(program))
    };
    assert!(found.iter().all(is_known), "{found:#?}");
    found.retain(|command| command.starts_with("countersign "));
    found
}

/// An instant so far ahead, in whole seconds: the document's own is in the past sooner or later.
fn ahead(hours: i64) -> String {
    let second = SystemClock.now().plus_ms(hours * 3_600_000).seconds();
    countersign::domain::time::Timestamp::from_millis(second * 1_000).to_string()
}

/// A line in a shell in a desk's folder.
pub(crate) fn shell(desk: &Desk, line: &str) -> Command {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(desk.path(""));
    shell.env("PATH", format!("{}:/usr/bin:/bin", binary.display()));
    shell.env_remove("COUNTERSIGN_IDENTITY").env_remove("COUNTERSIGN_SERVER");
    desk.set_day(&mut shell);
    shell
}

/// A served process and who types.
pub(crate) struct Book {
    pub(crate) served: Served,
    /// The authority that issued at the beginning.
    pub(crate) old: String,
}

impl Book {
    pub(crate) fn open() -> Self {
        Self::of(Served::start())
    }

    pub(crate) fn of(served: Served) -> Self {
        let old = authority(&served, "ACTIVE");
        Self { served, old }
    }

    /// Types a command as it stands in the document.
    pub(crate) fn types(&self, line: &str) -> Ended {
        let mut line = line.to_owned();
        if line.contains("prp_...") {
            let waiting = self.served.by("alice", &["approvals", "list"]).done().json();
            let [proposal] = waiting["proposals"].as_array().unwrap().as_slice() else {
                panic!("{waiting:#}")
            };
            // Nobody is there to be asked.
            line = line.replace("prp_...", proposal["proposal_id"].as_str().unwrap()) + " --yes";
        }
        if line.contains("aut_NEW") {
            line = line.replace("aut_NEW", &authority(&self.served, "PREPARED"));
        }
        line = line.replace("aut_OLD", &self.old).replace("aut_BAD", &self.old);
        line = line
            .replace("2027-12-01T00:00:00Z", &ahead(24 * 365))
            .replace("2026-12-01T06:00:00Z", &ahead(6))
            .replace("/backup/countersign", "backup")
            .replace("/var/lib/countersign", "data")
            .replace("/etc/countersign/countersign.toml", "data/countersign.toml");
        let mut shell = shell(&self.served.desk, &format!("{line} --json"));
        shell.env("COUNTERSIGN_SERVER", &self.served.url).output().unwrap().into()
    }

    /// Types them all; each has to be carried out.
    #[track_caller]
    pub(crate) fn follows(&self, lines: &[String]) {
        for line in lines {
            let ended = self.types(line);
            assert_eq!(ended.code, 0, "{line}\n{}{}", ended.out, ended.err);
        }
    }

    /// What the record says, as an auditor sees it: each event, with its command and how many signed it.
    fn record(&self) -> Vec<(String, String, usize)> {
        let records = self.served.by("alice", &["audit", "list", "--limit", "1000"]).done().json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |record: &Value| {
            (text(&record["event"]), text(&record["command"]), record["signed_by"].as_array().unwrap().len())
        };
        records.as_array().unwrap().iter().map(row).collect()
    }

    /// Was this carried out, with so many signatures?
    #[track_caller]
    pub(crate) fn has(&self, command: &str, signatures: usize) {
        let record = self.record();
        let found = record
            .iter()
            .any(|(event, name, by)| event == "command.enacted" && name == command && *by == signatures);
        assert!(found, "no {command} with {signatures} signatures: {record:#?}");
    }

    /// Is there such an event? What nobody waits for is written within a second.
    #[track_caller]
    pub(crate) fn has_event(&self, event: &str) {
        for _ in 0..200 {
            if self.record().iter().any(|(name, _, _)| name == event) {
                return;
            }
        }
        panic!("no {event}: {:#?}", self.record());
    }

    /// The record is good from its first byte to the last signature.
    pub(crate) fn verifies(mut self) {
        self.served.restart_after(|desk| {
            assert_eq!(
                desk.run(&["journal", "verify", "--data", "data", "--json"]).done().json()["good"],
                true
            );
        });
    }
}

/// The access authority that is in this state.
fn authority(served: &Served, state: &str) -> String {
    authority_of(served, "ACCESS", state)
}

/// The authority of this kind that is in this state.
pub(crate) fn authority_of(served: &Served, kind: &str, state: &str) -> String {
    let list = served.by("alice", &["authority", "list"]).done().json();
    let found = list.as_array().unwrap().iter().find(|row| row["kind"] == kind && row["state"] == state);
    found.unwrap_or_else(|| panic!("none is {state}: {list:#}"))["authority_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_contents_name_every_section_in_order() {
    let text = document();
    let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let contents: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("* [")?.split_once("](#"))
        .map(|(name, link)| (name, link.trim_end_matches(')')))
        .collect();
    let link = |heading: &&str| {
        let kept = |c: &char| c.is_ascii_alphanumeric() || " -".contains(*c);
        heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    let links: Vec<_> = headings.iter().map(link).collect();
    let expected: Vec<_> = headings.iter().copied().zip(links.iter().map(String::as_str)).collect();
    assert_eq!(contents, expected);
    for heading in headings {
        let is_told = [
            "What is left:",
            "Private keys",
            "The FIPS build",
            "Approve and reject",
            "Who called what",
            "In Kubernetes",
        ];
        let text = section(heading);
        let ends = is_told.iter().any(|words| text.contains(words) || heading == *words);
        assert!(ends, "{heading} does not say what is left");
    }
}

#[test]
fn every_command_of_every_block_is_one() {
    let desk = Desk::new();
    let text = document();
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let with_blocks: Vec<_> = headings.filter(|heading| section(heading).contains("```")).collect();
    assert!(with_blocks.len() > 8, "{with_blocks:?}");
    for line in with_blocks.iter().flat_map(|heading| commands(heading)) {
        // Parsed to the end: the help of the verb comes instead of what it does.
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        let verbs: Vec<_> = words
            .iter()
            .copied()
            .take_while(|word| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with("--")
            })
            .collect();
        let help = desk.run(&[&verbs[..], &["--help"]].concat());
        assert_eq!(help.code, 0, "{line}: {}", help.err);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.out.contains(flag), "{flag} of {line}");
        }
    }
}

#[test]
fn an_authority_is_rotated_as_it_is_written() {
    let book = Book::open();
    book.follows(&commands("Rotate an authority"));
    for command in ["PREPARE_AUTHORITY", "ACTIVATE_AUTHORITY", "RETIRE_AUTHORITY"] {
        book.has(command, 2);
    }
    assert_ne!(authority(&book.served, "ACTIVE"), book.old);
    book.verifies();
}

#[test]
fn a_compromised_issuing_key_is_recovered_from_as_it_is_written() {
    let book = Book::open();
    let lines = commands("A compromised issuing key");
    book.follows(&lines);
    assert_eq!(lines.len(), 6, "stop, final, prepare and activate another: {lines:#?}");
    book.has("STOP", 1);
    book.has("REVOKE_AUTHORITY", 2);
    book.has("ACTIVATE_AUTHORITY", 2);
    book.has_event("barrier.finished");
    assert_eq!(authority(&book.served, "REVOKED"), book.old);
    // Issued again, by the other one.
    assert_ne!(authority(&book.served, "ACTIVE"), book.old);
    book.verifies();
}

#[test]
fn a_backup_is_restored_as_it_is_written() {
    let mut book = Book::open();
    book.follows(&commands("Back up"));
    // What was recorded after it is lost with the machine.
    let lost = ["stop engage --model fable-5 --reason DRILL", "stop list"];
    book.follows(&lost.map(|verb| format!("countersign {verb} --identity alice")));
    // Both officers remember a head that the backup does not have.
    book.follows(&["countersign stop list --identity bob".to_owned()]);
    let lines = commands("Restore");
    let (begin, online) = lines.split_first().unwrap();
    assert!(begin.contains("restore begin"), "{lines:#?}");
    let begin = begin
        .replace("/backup/countersign", "backup")
        .replace("/var/lib/countersign", "data")
        .replace("/etc/countersign/countersign.toml", "data/countersign.toml");
    book.served.restart_after(|desk| {
        for folder in ["journal", "snapshots", "views", "decisions", "calls"] {
            std::fs::remove_dir_all(desk.path(&format!("data/{folder}"))).ok();
        }
        let words: Vec<_> = begin.split_whitespace().skip(1).collect();
        desk.run(&words).done();
    });
    book.follows(online);
    book.has("ACKNOWLEDGE_RESTORE", 2);
    book.has_event("record.restored");
    assert_eq!(
        book.served.desk.run(&["journal", "verify", "--data", "backup", "--json"]).done().json()["good"],
        true
    );
    book.verifies();
}

#[test]
fn a_stop_and_its_drill_are_carried_out_as_they_are_written() {
    let book = Book::open();
    let lines = commands("Drill of an emergency stop");
    let drilled = book.types(&lines[0]).done().json();
    assert_eq!((drilled["status"].as_str(), drilled["reported"].as_bool()), (Some("ENFORCED"), Some(true)));
    book.has("DRILL", 1);
    book.has_event("barrier.finished");
    let listed = book.types(&lines[1]).done().json();
    assert_eq!((&listed[0]["record"], &listed[0]["took_ms"]), (&drilled["record"], &drilled["took_ms"]));
    assert_eq!(lines.len(), 2);
    book.follows(&commands("Emergency stop"));
    book.has("STOP", 1);
    book.has("RELEASE_STOP", 2);
    book.verifies();
}

#[test]
fn the_daily_look_is_carried_out_as_it_is_written() {
    let book = Book::open();
    book.follows(&commands("Back up"));
    for line in commands("Every day") {
        // The examples' arc, and no drill yet: warnings.
        let ended = book.types(&line);
        let report = ended.json();
        assert_eq!((ended.code, &report["failures"]), (3, &Value::from(0)), "{line}: {report:#}");
    }
    book.follows(&["countersign clock accept --commit --identity alice".to_owned()]);
    let clock = commands("The clock is wrong");
    assert_eq!(clock[0], "countersign clock accept --commit --identity alice");
    book.follows(&clock[1..]);
    book.has("ACCEPT_CLOCK", 2);
    book.verifies();
}

/// A command of a section's sentences, by how it begins.
pub(crate) fn mentioned(heading: &str, begins: &str) -> String {
    let text: Vec<_> = section(heading).lines().map(|line| line.trim().to_owned()).collect();
    let text = text.join(" ");
    let found = text.split('`').find(|code| code.starts_with(begins)).map(str::to_owned);
    found.unwrap_or_else(|| panic!("no {begins} in {heading}"))
}

#[test]
fn a_rotation_is_rolled_back_and_an_authority_is_tainted_as_it_is_written() {
    let book = Book::open();
    book.follows(&commands("Rotate an authority")[..2]);
    let next = authority(&book.served, "PREPARED");
    let rollback = mentioned("Rotate an authority", "countersign authority rollback");
    book.follows(&[
        format!("{rollback} --identity alice"),
        "countersign approvals approve prp_... --identity bob".to_owned(),
    ]);
    book.has("ROLLBACK_AUTHORITY", 2);
    assert_eq!(authority(&book.served, "RETIRED"), next);
    let taint = mentioned("A compromised issuing key", "countersign authority taint");
    book.follows(&[format!("{taint} --identity alice")]);
    book.has("TAINT_AUTHORITY", 1);
    assert_eq!(authority(&book.served, "TAINTED"), book.old);
    book.verifies();
}

#[test]
fn the_first_day_and_an_upgrade_are_carried_out_as_they_are_written() {
    let desk = Desk::new();
    let lines = commands("First day");
    let (keys, online) = lines.split_at(2);
    let run = |line: &str| {
        Ended::from(shell(&desk, line).output().unwrap()).done();
    };
    keys.iter().for_each(|line| run(line));
    std::fs::write(desk.path("secret"), "what the service's keys are encrypted with\n").unwrap();
    std::fs::set_permissions(desk.path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let init = mentioned("First day", "countersign init --data");
    let init = init.replace("/var/lib/countersign", "data").replace("YOUR_ARC", "1.3.6.1.4.1.32473");
    let init = init.replace("--policy policy", &format!("--policy {}", root("deploy/policy")));
    let init = init.replace("SOURCE", "file:secret").replace("=alice.csr", "=alice/alice.csr");
    run(&format!("{} --listen 127.0.0.1:0", init.replace("=bob.csr", "=bob/bob.csr")));
    desk.finish();
    let mut book = Book::of(Served::of(desk));
    let (doctor, before) = online.split_last().unwrap();
    assert!(doctor.contains("doctor") && before.len() == 2, "{online:#?}");
    book.follows(before);
    let looks = |book: &Book, line: &str| {
        let ended = book.types(line);
        assert!(ended.code == 0 || ended.code == 3, "{line}: {}{}", ended.out, ended.err);
        assert_eq!(ended.json()["failures"], 0, "{line}: {}", ended.out);
    };
    looks(&book, doctor);
    book.has("DRILL", 1);
    let upgrade = commands("Upgrade");
    let [backup, doctor] = upgrade.as_slice() else { panic!("{upgrade:#?}") };
    book.follows(std::slice::from_ref(backup));
    // Another binary would be started here.
    book.served.restart_after(|_| ());
    looks(&book, doctor);
    book.follows(&[format!("{} --identity alice", mentioned("Upgrade", "countersign gateway list"))]);
    book.verifies();
}
