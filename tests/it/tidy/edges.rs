//! Which room of src may use which, and which crate may be used where. The tables are the house; a new room needs a row.

use super::source::{Token, shipped_tokens};

/// A room, and the rooms that it may use beside itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("domain", &[]),
    ("pb", &[]),
    ("telemetry", &[]),
    ("env", &["domain"]),
    // Counts what others tell it; knows none of them.
    ("metrics", &["env"]),
    ("config", &["domain"]),
    ("policy", &["domain"]),
    // Files of a foreign format and names; knows neither State nor time.
    ("screening", &["domain"]),
    // What gateways reported: a file beside the journal that knows nothing of it.
    ("decisions", &["domain", "segments"]),
    // Every call: likewise.
    ("calls", &["domain", "segments"]),
    // What such files have in common.
    ("segments", &["domain"]),
    ("journal", &["domain", "env"]),
    ("views", &["domain", "env", "pb"]),
    ("wire", &["domain", "pb"]),
    ("x509", &["domain", "env"]),
    ("ca", &["x509", "env", "domain"]),
    ("feed", &["wire", "env", "domain"]),
    // Not policy: a bundle enters as a proposal, so the engine never reads TOML.
    (
        "app",
        &[
            "domain",
            "pb",
            "env",
            "wire",
            "journal",
            "decisions",
            "screening",
            "calls",
            "views",
            "x509",
            "ca",
            "feed",
            "metrics",
            "faults",
        ],
    ),
    ("faults", &[]),
    // Beside app: values of the rooms below it that app would only forward.
    ("rpc", &["app", "wire", "pb", "domain", "env", "x509", "journal", "feed", "views", "metrics"]),
    // x509: the pair of a listener, which it pushes and did not read.
    ("envoy", &["app", "wire", "pb", "domain", "env", "feed", "x509"]),
    ("client", &["wire", "x509", "env", "pb", "domain"]),
    // Beside a proxy: a gate, and the proxy's question as Envoy's is answered.
    ("agent", &["client", "config", "envoy", "pb", "x509", "domain", "env"]),
    (
        "server",
        &[
            "config", "rpc", "envoy", "app", "feed", "ca", "views", "journal", "x509", "wire", "pb",
            "domain", "env", "metrics",
        ],
    ),
    // Not rpc and envoy: the command line meets them only through server, or as a client.
    (
        "cli",
        &[
            "server",
            "config",
            "telemetry",
            "agent",
            "client",
            "app",
            "feed",
            "ca",
            "views",
            "journal",
            "policy",
            "screening",
            "x509",
            "wire",
            "pb",
            "domain",
            "env",
        ],
    ),
    ("main", &["cli", "telemetry"]),
];

/// Crates, and the modules (with those inside them) that may use them.
const CRATES: &[(&[&str], &[&str])] = &[
    (
        &["tonic", "tonic_prost", "tonic_types", "tonic_health", "tonic_reflection"],
        &["pb", "rpc", "envoy", "client", "agent", "server", "cli::remote"],
    ),
    (&["prometheus_client"], &["metrics"]),
    (&["hyper", "http_body_util", "httpdate"], &["server", "agent"]),
    (&["sled"], &["views::disk"]),
    (&["rcgen", "x509_parser"], &["x509", "ca"]),
    (&["pkcs8"], &["x509::sealed"]),
    (&["cryptoki"], &["ca::pkcs11"]),
    (&["serde"], &["policy", "config", "cli", "screening"]),
    (&["toml"], &["policy", "config", "cli"]),
    (&["serde_json"], &["policy", "config", "cli", "envoy", "screening"]),
    (&["deunicode", "strsim", "unicode_normalization"], &["screening"]),
    (&["unicode_security"], &["screening", "cli::import"]),
];

/// What makes a function impure, so that its outcome could not be computed again from the record.
const IMPURE_CRATES: &[&str] = &["tokio", "tokio_stream", "tonic", "serde", "serde_json", "rustix"];
/// Of these crates, these modules only.
const IMPURE_PARTS: &[(&str, &[&str])] =
    &[("std", &["fs", "net", "env", "process", "thread", "io"]), ("aws_lc_rs", &["rand"])];
const IMPURE_WORDS: &[&str] = &["SystemTime", "Instant", "async", "await"];

/// Uses of a room that the table does not allow, and rooms that it does not know.
pub(super) fn room_problems(path: &str, text: &str) -> Vec<String> {
    let module = module_of(path);
    let room = module.first().map_or("", String::as_str);
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: the room {room} is not in the table of tests/it/tidy/edges.rs")];
    };
    if is_test(path) {
        return Vec::new();
    }
    let uses = room_uses(&module, &shipped_tokens(text));
    let wrong = uses.into_iter().filter(|used| !used.is(room) && !allowed.contains(&used.text.as_str()));
    wrong.map(|used| format!("{path}:{}: {room} may not use {}", used.line, used.text)).collect()
}

/// Uses of a crate outside its rooms.
pub(super) fn crate_problems(path: &str, text: &str) -> Vec<String> {
    if is_test(path) {
        return Vec::new();
    }
    let module = module_of(path).join("::");
    let inside = |room: &&str| module == **room || module.starts_with(&format!("{room}::"));
    let mut problems = Vec::new();
    for used in crate_uses(&shipped_tokens(text)) {
        let row = CRATES.iter().find(|(names, _)| names.contains(&used.text.as_str()));
        if row.is_some_and(|(_, rooms)| !rooms.iter().any(&inside)) {
            problems.push(format!("{path}:{}: {module} may not use the crate {}", used.line, used.text));
        }
    }
    problems
}

/// Input, output, clocks, threads and futures in the domain.
pub(super) fn purity_problems(path: &str, text: &str) -> Vec<String> {
    if is_test(path) || module_of(path).first().is_none_or(|room| room != "domain") {
        return Vec::new();
    }
    let tokens = shipped_tokens(text);
    let crates = crate_uses(&tokens).into_iter().filter(|used| IMPURE_CRATES.contains(&used.text.as_str()));
    let mut parts = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        for (_, impure) in IMPURE_PARTS.iter().filter(|(root, _)| token.is(root)) {
            parts.extend(
                heads(&tokens, at + 1).into_iter().filter(|used| impure.contains(&used.text.as_str())),
            );
        }
    }
    let words = tokens.iter().filter(|token| IMPURE_WORDS.contains(&token.text.as_str())).cloned();
    let problems = crates.chain(parts).chain(words);
    problems.map(|used| format!("{path}:{}: the domain may not use {}", used.line, used.text)).collect()
}

/// The module of a source file: src/domain/flow/mod.rs is domain, flow.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut module: Vec<_> = path.split('/').map(str::to_owned).collect();
    if module.len() > 1 && module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// Files that exist for tests only. Their modules are declared under `#[cfg(test)]`.
pub(super) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.ends_with("/contract.rs")
        || path.ends_with("/fault.rs")
        || path.contains("/tests/")
}

/// The rooms that a file names: after `crate::`, after the crate's own name, or after enough `super::`.
fn room_uses(module: &[String], tokens: &[Token]) -> Vec<Token> {
    let mut uses = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins = at == 0 || !tokens[at - 1].is("::");
        if (token.is("crate") || token.is("countersign")) && begins {
            uses.extend(heads(tokens, at + 1));
        }
        if token.is("super") && !tokens.get(at + 2).is_some_and(|next| next.is("super")) {
            let climbed = tokens[..=at].iter().rev().take_while(|part| part.is("super") || part.is("::"));
            let climbed = climbed.filter(|part| part.is("super")).count();
            if climbed >= module.len() {
                uses.extend(heads(tokens, at + 1));
            }
        }
    }
    uses
}

/// The crates that a file names: the first word of a path, and what `use` takes whole.
fn crate_uses(tokens: &[Token]) -> Vec<Token> {
    let mut uses = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.is_word()) {
        let before = at.checked_sub(1).map(|at| tokens[at].text.as_str());
        // `::serde` is the crate as well; `x::serde` is not.
        let inside = |at: usize| tokens[at].is_word() && !tokens[at].is("use");
        let absolute = before == Some("::") && !at.checked_sub(2).is_some_and(inside);
        let begins = before != Some("::") || absolute;
        let leads = tokens.get(at + 1).is_some_and(|next| next.is("::"));
        if begins && (leads || before == Some("use")) {
            uses.push(token.clone());
        }
    }
    uses
}

/// What follows the `::` at this position: a word, or the first word of each entry of a group.
fn heads(tokens: &[Token], at: usize) -> Vec<Token> {
    let Some([separator, first, rest @ ..]) = tokens.get(at..) else { return Vec::new() };
    if !separator.is("::") {
        return Vec::new();
    }
    if !first.is("{") {
        return vec![first.clone()];
    }
    let mut heads = Vec::new();
    let (mut depth, mut begins) = (1, true);
    for token in rest {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => {}
            _ if depth == 1 && begins && !token.is("self") => heads.push(token.clone()),
            _ => {}
        }
        begins = token.is(",") && depth == 1;
        if depth == 0 {
            break;
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::{ROOMS, crate_problems, purity_problems, room_problems};

    #[test]
    fn an_edge_outside_the_table_is_found_in_every_spelling() {
        for (path, text) in [
            ("src/domain/time.rs", "use crate::env::Clock;"),
            ("src/domain/time.rs", "use crate::{domain::id, env::Clock};"),
            ("src/domain/time.rs", "use super::super::env::Clock;"),
            ("src/domain/mod.rs", "use super::{domain::x, env};"),
            ("src/domain/time.rs", "fn f() -> u8 { crate::env::one() }"),
            ("src/domain/time.rs", "use crate::*;"),
            ("src/domain/time.rs", "use crate as all;\nuse countersign::env;"),
            ("src/app/issue.rs", "use crate::policy::load;"),
            ("src/client/gate.rs", "use crate::app::engine;"),
            ("src/cli/mod.rs", "use crate::rpc::methods;"),
            ("src/main.rs", "use countersign::server;"),
            ("src/rpc/tests_of_more.rs", "use crate::ca;"),
        ] {
            assert_eq!(room_problems(path, text).len(), 1, "{path}: {text}");
        }
    }

    #[test]
    fn an_unknown_room_is_a_problem_by_itself() {
        assert_eq!(room_problems("src/helpers/mod.rs", "").len(), 1);
        assert_eq!(room_problems("src/app/issue.rs", "use crate::helpers;").len(), 1);
    }

    #[test]
    fn allowed_edges_tests_and_comments_pass() {
        for (path, text) in [
            ("src/env/clock.rs", "use crate::domain::time::Timestamp;"),
            ("src/domain/flow/stop.rs", "use super::super::id::EntityId; use crate::domain::word;"),
            (
                "src/domain/time.rs",
                "/// See [crate::env::Clock].\nfn f() {}\n#[cfg(test)]\nmod t { use crate::env; }",
            ),
            ("src/journal/tests.rs", "use crate::env::SeededEntropy;"),
            ("src/journal/contract.rs", "use crate::env::SeededEntropy;"),
            ("src/main.rs", "use countersign::{cli, telemetry};"),
        ] {
            assert_eq!(room_problems(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_crate_outside_its_rooms_is_found() {
        for (path, text) in [
            ("src/app/engine.rs", "use tonic::Status;"),
            ("src/app/engine.rs", "fn f() -> Result<(), tonic::Status> {}"),
            ("src/cli/tables.rs", "use tonic::Status;"),
            ("src/views/memory.rs", "use ::sled::Db;"),
            ("src/rpc/status.rs", "#[derive(serde::Serialize)] struct A;"),
            ("src/client/identity.rs", "use rcgen as maker;"),
        ] {
            assert_eq!(crate_problems(path, text).len(), 1, "{path}: {text}");
        }
        for (path, text) in [
            ("src/cli/remote.rs", "use tonic::Status;"),
            ("src/cli/remote/channel.rs", "use tonic::Status;"),
            ("src/views/disk.rs", "use sled::Db;"),
            ("src/app/engine.rs", "fn f(toml: u8) { inner::serde::x(toml) }"),
        ] {
            assert_eq!(crate_problems(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn an_impure_domain_is_found() {
        for text in [
            "use std::fs;",
            "use aws_lc_rs::{digest, rand};",
            "use std::{collections::BTreeMap, net::IpAddr};",
            "use std::time::{Duration, SystemTime};",
            "fn f() { tokio::spawn(g()) }",
            "async fn f() {}",
        ] {
            assert_eq!(purity_problems("src/domain/stop.rs", text).len(), 1, "{text}");
            assert_eq!(purity_problems("src/server/mod.rs", text), [""; 0]);
        }
        assert_eq!(
            purity_problems("src/domain/stop.rs", "use std::time::Duration; use aws_lc_rs::digest;"),
            [""; 0]
        );
    }

    #[test]
    fn the_table_has_no_circle() {
        let mut left: Vec<_> = ROOMS.to_vec();
        while !left.is_empty() {
            let names: Vec<_> = left.iter().map(|(name, _)| *name).collect();
            let before = left.len();
            left.retain(|(_, uses)| uses.iter().any(|used| names.contains(used)));
            assert!(left.len() < before, "a circle among {names:?}");
        }
    }
}
