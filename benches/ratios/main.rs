//! `cargo bench --bench ratios`: what a user would feel, as a ratio to a floor measured in the same run.
//!
//! `-- NAME` runs one row, `--json FILE` writes the rows: a list of objects with the keys of the table.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod bare;
mod gate;
mod issue;
mod measure;
mod revoke;
#[path = "../../tests/it/world.rs"]
#[expect(dead_code, reason = "the harness of the tests; each row uses a part of it")]
mod world;

use std::process::ExitCode;

use measure::Row;

/// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures one figure.
type Measure = fn() -> Row;

/// The rows, by name.
const ROWS: &[(&str, Measure)] = &[
    ("issue_cpu", issue::issue_cpu),
    ("revoke_ack", revoke::revoke_ack),
    ("gate_known", gate::gate_known),
    ("gate_known_2", gate::gate_known_2),
    ("gate_new", gate::gate_new),
    ("entity_revoke", revoke::entity_revoke),
];

fn main() -> ExitCode {
    let mut wanted = Vec::new();
    let mut json = None;
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            name => wanted.push(name.to_owned()),
        }
    }
    if let Some(unknown) = wanted.iter().find(|name| !ROWS.iter().any(|(row, _)| row == name)) {
        let names: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
        eprintln!("no row is named {unknown}; there are {}", names.join(", "));
        return ExitCode::from(64);
    }
    println!("{:<14} {:>14} {:>14} {:>7}  {:<28} met", "name", "measured", "floor", "ratio", "goal");
    let mut rows = Vec::new();
    for (name, run) in ROWS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let row = run();
            println!("{row}");
            rows.push(row);
        }
    }
    if let Some(path) = json {
        let list: Vec<_> = rows.iter().map(Row::to_json).collect();
        if let Err(error) = std::fs::write(&path, format!("{:#}\n", serde_json::Value::from(list))) {
            eprintln!("cannot write {path}: {error}");
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}
