//! docs/requirements.md says what answers each demand. Every RPC, command and test that it names is there, no demand and no
//! scenario is left out, and what has no test is said not to be built.

use std::collections::{BTreeMap, BTreeSet};

use countersign::rpc::methods::METHODS;

use crate::cli::root;
use crate::samples::tests_of_the_tree;

/// The demands of each letter.
const DEMANDS: [(char, usize); 5] = [('A', 16), ('B', 9), ('C', 19), ('D', 22), ('E', 15)];
/// The scenarios.
const SCENARIOS: usize = 50;

/// What is between single backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The cells of the rows below a heading, without those of the table's head.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = text.split_once(&format!("## {heading}\n")).map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Does a test exist for every number of its name: `scenario_06_and_07_...` is of both.
fn numbers(name: &str) -> Vec<usize> {
    let rest = name.strip_prefix("scenario").unwrap_or_default();
    let rest = rest.strip_prefix("s_").or_else(|| rest.strip_prefix('_')).unwrap_or_default();
    let parts = rest.split('_').take_while(|part| *part == "and" || part.parse::<usize>().is_ok());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// What is wrong with a row of demands.
fn demand_problems(row: &[&str], tests: &BTreeSet<String>) -> Vec<String> {
    let [id, asked, rpcs, commands, shown] = row else { return vec![format!("{row:?}: not five cells")] };
    let mut problems = Vec::new();
    let served: BTreeSet<_> =
        METHODS.iter().filter_map(|method| method.path.split_once(".v1.").map(|(_, name)| name)).collect();
    for rpc in quoted(rpcs) {
        if !served.contains(rpc.replacen('.', "/", 1).as_str()) {
            problems.push(format!("{id}: no RPC {rpc}"));
        }
    }
    // That they parse is looked at where the command line is (`src/cli/documented.rs`).
    let is_command = |command: &&str| command.starts_with("countersign ");
    problems.extend(
        quoted(commands).iter().filter(|c| !is_command(c)).map(|c| format!("{id}: {c} is no command")),
    );
    let names: Vec<_> = quoted(shown).into_iter().filter(|name| !is_command(name)).collect();
    match (shown.strip_prefix("not built: "), names.is_empty()) {
        (Some(why), true) if why.len() > 20 => {}
        (Some(_), _) => problems.push(format!("{id}: not built, and has tests or no reason")),
        (None, true) => problems.push(format!("{id}: no test, and not said to be missing")),
        (None, false) if quoted(rpcs).is_empty() || quoted(commands).is_empty() => {
            problems.push(format!("{id}: no RPC or no command"));
        }
        (None, false) => {}
    }
    // A word of the reason may be quoted as well; names of tests are long.
    let is_test = |name: &&str| name.len() > 20 && name.bytes().all(|c| c == b'_' || !c.is_ascii_uppercase());
    let named = names.into_iter().filter(is_test);
    problems.extend(named.filter(|name| !tests.contains(*name)).map(|name| format!("{id}: no test {name}")));
    if asked.is_empty() {
        problems.push(format!("{id}: asks for nothing"));
    }
    problems
}

/// What is wrong with a row of scenarios.
fn scenario_problems(row: &[&str], tests: &BTreeSet<String>) -> Vec<String> {
    let [number, _, shown] = row else { return vec![format!("{row:?}: not three cells")] };
    let names = quoted(shown);
    if names.is_empty() && shown.strip_prefix("not built: ").is_none_or(|why| why.len() <= 20) {
        return vec![format!("{number}: no test, and not said to be missing")];
    }
    let is_of = |name: &str| numbers(name).contains(&number.parse().unwrap_or(0));
    let wrong = names.iter().filter(|name| !tests.contains(**name) || !is_of(name));
    wrong.map(|name| format!("{number}: {name} is no test of it")).collect()
}

#[test]
fn every_rpc_command_and_test_that_the_requirements_name_exists() {
    let (tests, text) = (tests_of_the_tree(), std::fs::read_to_string(root("docs/requirements.md")).unwrap());
    let demands = rows(&text, "Demands");
    let problems: Vec<_> = demands.iter().flat_map(|row| demand_problems(row, &tests)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let ids: Vec<_> = demands.iter().map(|row| row[0].to_owned()).collect();
    let all = DEMANDS.iter().flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}{n:02}")));
    assert_eq!(ids, all.collect::<Vec<_>>());
}

#[test]
fn every_scenario_has_its_tests_or_is_said_not_to_be_built() {
    let (tests, text) = (tests_of_the_tree(), std::fs::read_to_string(root("docs/requirements.md")).unwrap());
    let scenarios = rows(&text, "Scenarios");
    let problems: Vec<_> = scenarios.iter().flat_map(|row| scenario_problems(row, &tests)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let listed: BTreeMap<_, _> =
        scenarios.iter().map(|row| (row[0].parse::<usize>().unwrap(), row[2])).collect();
    assert!(listed.keys().copied().eq(1..=SCENARIOS), "{:?}", listed.keys());
    // And the other way round: a test of a scenario is in its row.
    for name in tests.iter().filter(|name| name.starts_with("scenario")) {
        for number in numbers(name) {
            let row = listed.get(&number).copied().unwrap_or_default();
            assert!(quoted(row).contains(&name.as_str()), "{name} is not in row {number}");
        }
    }
}

#[test]
fn a_name_that_is_none_and_a_row_without_a_test_are_found() {
    let tests = BTreeSet::from(["what_is_shown_is_shown_here".to_owned(), "scenario_06_and_07_x".to_owned()]);
    let row = |rpc, command, shown| demand_problems(&["A01", "something", rpc, command, shown], &tests);
    let (rpc, command) = ("`AuditService.GetHead`", "`countersign audit head`");
    assert_eq!(row(rpc, command, "`what_is_shown_is_shown_here`; partly: `some` of it"), [""; 0]);
    assert_eq!(row("", "", "not built: for the reason of its sample"), [""; 0]);
    for (rpc, command, shown) in [
        ("`AuditService.GetTail`", command, "`what_is_shown_is_shown_here`"),
        (rpc, "`audit head`", "`what_is_shown_is_shown_here`"),
        (rpc, command, "`what_nobody_wrote_is_not_here`"),
        (rpc, command, "not built: no"),
        (rpc, command, ""),
        (rpc, "", "`what_is_shown_is_shown_here`"),
    ] {
        assert_eq!(row(rpc, command, shown).len(), 1, "{rpc} {command} {shown}");
    }
    assert_eq!(scenario_problems(&["07", "", "`scenario_06_and_07_x`"], &tests), [""; 0]);
    for row in [["08", "", "`scenario_06_and_07_x`"], ["07", "", ""], ["07", "", "`scenario_07_y`"]] {
        assert_eq!(scenario_problems(&row, &tests).len(), 1, "{row:?}");
    }
    assert_eq!(numbers("scenarios_23_and_35_x"), [23, 35]);
}
