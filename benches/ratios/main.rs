//! `cargo bench --bench ratios`: what a user would feel, as a ratio to a floor measured in the same run.
//!
//! `-- NAME` runs one row, `--json FILE` writes the rows: a list of objects with the keys of the table. Each row is measured
//! in a process of its own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod bare;
mod entity;
#[path = "../../tests/it/envoy.rs"]
#[expect(dead_code, reason = "the harness of the tests; a row uses a part of it")]
mod envoy;
mod evaluate;
mod ext_authz;
mod fanout;
mod fleet;
#[path = "../../tests/it/found.rs"]
mod found;
mod gate;
mod import;
mod issue;
mod measure;
mod noisy;
mod pkcs11;
mod revoke;
mod simulate;
mod snapshot;
mod stalled;
mod start;
#[path = "../../tests/it/tools.rs"]
mod tools;
#[path = "../../tests/it/world.rs"]
#[expect(dead_code, reason = "the harness of the tests; each row uses a part of it")]
mod world;

use std::process::ExitCode;
use std::sync::OnceLock;

use measure::Row;

/// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `--seconds N`: how long `stalled_reader` stalls, for who cannot wait for a minute.
static SECONDS: OnceLock<usize> = OnceLock::new();
/// `--certificates N`: how many certificates `entity_revoke_1m` and `start_1m` have issued, for who cannot wait for some minutes.
static CERTIFICATES: OnceLock<usize> = OnceLock::new();

/// Measures some figures.
type Measure = fn() -> Vec<Row>;

/// The rows, by name.
const ROWS: &[(&str, Measure)] = &[
    ("issue_cpu", || vec![issue::issue_cpu()]),
    ("issue_pkcs11", || vec![pkcs11::issue_pkcs11()]),
    ("revoke_ack", || vec![revoke::revoke_ack()]),
    ("gate_known", || vec![gate::gate_known()]),
    ("gate_known_2", || vec![gate::gate_known_2()]),
    ("gate_new", || vec![gate::gate_new()]),
    ("entity_revoke", || vec![revoke::entity_revoke()]),
    ("fanout_1000", || fanout::fanout(["fanout_1000", "fanout_1000_p99", "fanout_1000_kib"], 1_000, 200)),
    ("fanout_4000", || fanout::fanout(["fanout_4000", "fanout_4000_p99", "fanout_4000_kib"], 4_000, 100)),
    ("fanout_10000", || fanout::fanout(["fanout_10000", "fanout_10000_p99", "fanout_10000_kib"], 10_000, 50)),
    ("entity_revoke_1m", entity::entity_revoke_1m),
    ("stalled_reader", || vec![stalled::stalled_reader()]),
    ("snapshot_1m", snapshot::snapshot_1m),
    ("simulate_100k", || vec![simulate::simulate_100k()]),
    ("evaluate_rpc", || vec![evaluate::evaluate_rpc()]),
    ("import_100k", import::import_100k),
    ("start_1m", start::start_1m),
    ("ext_authz", ext_authz::ext_authz),
    ("noisy_neighbour", noisy::noisy_neighbour),
];

fn main() -> ExitCode {
    let (mut wanted, mut json) = (Vec::new(), None);
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            // The roles of the processes that this one starts.
            "--fleet" | "--echo" | "--held" | "--token" | "--serve" => {
                play(&argument, &arguments.collect::<Vec<_>>());
                return ExitCode::SUCCESS;
            }
            "--seconds" => SECONDS.set(arguments.next().unwrap().parse().unwrap()).unwrap(),
            "--certificates" => CERTIFICATES.set(arguments.next().unwrap().parse().unwrap()).unwrap(),
            "--row" => return measure_one(&arguments.next().unwrap()),
            name => wanted.push(name.to_owned()),
        }
    }
    if let Some(unknown) = wanted.iter().find(|name| !ROWS.iter().any(|(row, _)| row == name)) {
        let names: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
        eprintln!("no row is named {unknown}; there are {}", names.join(", "));
        return ExitCode::from(64);
    }
    println!("{:<18} {:>14} {:>14} {:>7}  {:<34} met", "name", "measured", "floor", "ratio", "goal");
    let mut rows = Vec::new();
    for (name, _) in ROWS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let Some(measured) = in_own_process(name) else { return ExitCode::from(1) };
            measured.iter().for_each(|row| println!("{}", measure::line(row)));
            rows.extend(measured);
        }
    }
    if let Some(path) = json
        && let Err(error) = std::fs::write(&path, format!("{:#}\n", serde_json::Value::from(rows)))
    {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

/// A role of a process that another one started.
fn play(role: &str, arguments: &[String]) {
    fleet::raise_descriptors();
    match (role, arguments) {
        ("--fleet", [path]) => fleet::run(path),
        ("--echo", [count, rounds]) => fanout::run_echo(count.parse().unwrap(), rounds.parse().unwrap()),
        ("--token", [folder]) => pkcs11::run_token(folder.as_ref()),
        ("--serve", [folder, port]) => start::run_served(folder.as_ref(), port.parse().unwrap()),
        ("--held", [conduct, seconds]) => stalled::run_held(conduct, seconds.parse().unwrap()),
        _ => panic!("{role} {arguments:?}"),
    }
}

/// What a process of such a role says.
fn in_role(arguments: &[&str]) -> serde_json::Value {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(arguments).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?} could not be measured");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Measures in a process of its own, so that neither the memory nor the threads of one row count for the next.
fn in_own_process(name: &str) -> Option<Vec<serde_json::Value>> {
    let mut command = std::process::Command::new(std::env::current_exe().ok()?);
    for (name, value) in [("--seconds", &SECONDS), ("--certificates", &CERTIFICATES)] {
        if let Some(value) = value.get() {
            command.args([name, &value.to_string()]);
        }
    }
    let output = command.args(["--row", name]).stderr(std::process::Stdio::inherit()).output().ok()?;
    if !output.status.success() {
        eprintln!("{name} could not be measured: {}", output.status);
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}

fn measure_one(name: &str) -> ExitCode {
    fleet::raise_descriptors();
    let Some((_, measure)) = ROWS.iter().find(|(row, _)| *row == name) else { return ExitCode::from(64) };
    let rows: Vec<_> = measure().iter().map(Row::to_json).collect();
    println!("{}", serde_json::Value::from(rows));
    ExitCode::SUCCESS
}
