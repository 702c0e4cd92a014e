//! `countersign dev` as a process: the tour of a new service, and that of a service that is there already.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::cli::{Desk, ended, send};

/// How long a tour may be silent: many times what its longest step takes.
const SILENCE: Duration = Duration::from_secs(60);
/// The folder that it makes, on a free port.
const KEPT: &[&str] = &["dev", "--data", "dev-data", "--listen", "127.0.0.1:0"];

/// `countersign dev`, ended with the test.
struct Tour {
    child: Child,
    lines: Receiver<String>,
}

impl Tour {
    fn start(desk: &Desk, arguments: &[&str]) -> Self {
        let mut child = desk.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // The test has failed already when nobody listens.
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// What it prints up to a line that begins so, or up to its end.
    fn said_until(&self, begin: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => return said,
                Err(RecvTimeoutError::Timeout) => panic!("it is silent after {said:#?}"),
            }
            if said.last().is_some_and(|line| line.starts_with(begin)) {
                return said;
            }
        }
    }

    /// Runs the tour of a service that stays, and ends it with a signal: INT is what Ctrl-C sends, TERM a service manager.
    fn walk(desk: &Desk, signal: &str) -> Vec<String> {
        let mut tour = Self::start(desk, KEPT);
        let said = tour.said_until("serving on https://127.0.0.1:");
        assert!(said.last().unwrap().contains("until you press Ctrl-C"), "{said:#?}");
        send(signal, &tour.child);
        assert_eq!(ended(&mut tour.child).code(), Some(0));
        said
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The steps by name. Each one is as it should be, and the last line says so of all.
#[track_caller]
fn steps(said: &[String]) -> Vec<&str> {
    let marked = |mark: &str| said.iter().filter(|line| line.starts_with(mark)).count();
    assert_eq!(marked("FAIL"), 0, "{said:#?}");
    let summary = format!("{} steps, all as they should be", marked("ok  "));
    assert!(said.contains(&summary), "no {summary:?}: {said:#?}");
    let named = said.iter().filter_map(|line| line.strip_prefix("ok   "));
    named.map(|rest| rest.split("  ").next().unwrap()).collect()
}

#[test]
fn the_tour_walks_the_whole_path_and_leaves_nothing() {
    let desk = Desk::new();
    let mut tour = Tour::start(&desk, &["dev", "--once"]);
    let said = tour.said_until("nothing begins so");
    assert_eq!(ended(&mut tour.child).code(), Some(0), "{said:#?}");
    let steps = steps(&said);
    for step in ["found", "serve", "onboard", "vet", "issue", "gateway", "permit", "other model"] {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    assert!(said.last().unwrap().ends_with("all as they should be"), "{said:#?}");
    assert_eq!(std::fs::read_dir(desk.path(".")).unwrap().count(), 0, "it works in a temporary folder");
}

#[test]
fn a_second_tour_keeps_the_service_of_the_first() {
    const KEEPING: &str = "keeping what is in dev-data";
    let desk = Desk::new();
    let first = Tour::walk(&desk, "INT");
    steps(&first);
    assert!(!first.iter().any(|line| line.starts_with(KEEPING)), "there was nothing to keep: {first:#?}");
    let genesis = std::fs::read(desk.path("dev-data/data/genesis.cbor")).unwrap();
    let records = || {
        let verified = desk.run(&["journal", "verify", "--data", "dev-data/data", "--json"]).done().json();
        assert_eq!(verified["good"], true, "{verified}");
        verified["records"].as_u64().unwrap()
    };
    let before = records();
    let second = Tour::walk(&desk, "TERM");
    steps(&second);
    assert!(second[0].starts_with(KEEPING), "{second:#?}");
    let found = second.iter().find(|line| line.starts_with("ok   found")).unwrap();
    assert!(found.ends_with("the service that is there"), "{found}");
    assert_eq!(std::fs::read(desk.path("dev-data/data/genesis.cbor")).unwrap(), genesis);
    assert!(records() > before, "the second tour is recorded after the first");
}

#[test]
fn the_tour_walks_the_whole_path_under_cnsa() {
    let desk = Desk::new();
    let mut tour = Tour::start(&desk, &["dev", "--once", "--profile", "cnsa"]);
    let said = tour.said_until("nothing begins so");
    assert_eq!(ended(&mut tour.child).code(), Some(0), "{said:#?}");
    let steps = steps(&said);
    for step in ["found", "issue", "gateway", "permit", "revoke", "deny"] {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
}
