//! HAProxy: lists and maps through its runtime socket, so that nothing is reloaded and no connection lost.
//!
//! Three layers hold a revoked client: the list refuses its handshakes, the map of serials refuses its requests on open
//! and resumed connections, and the lease refuses every request once the agent has not said for a lease that it is well.
//! The files are written first, so that a process of HAProxy that starts begins with the same; the lease in its file is
//! over.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::files::{self, FOR_PROXY};
use super::remedy::{RELOAD, Refusal};
use super::set::TrustSet;
use crate::config::agent::HaproxyConfig;
use crate::domain::time::Timestamp;

/// How long an answer of the socket may take: 1 to 3 ms usually.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const ANSWER_LEN_MAX: u64 = 64 * 1024;
/// Entries of one command: a command must fit into tune.bufsize, 16 KiB by default.
const ENTRIES_MAX: usize = 200;
/// What the map says of a serial, and the proxy to its client.
const REVOKED: &str = "CREDENTIAL_REVOKED";
const SOCKET: &str = "is HAProxy running, and `stats socket ... level admin` the [haproxy] socket?";
const TOO_LONG: &str = "if the list is long, raise tune.bufsize above its length; else compare `bind ... ca-file ... \
                        crl-file ...` with [haproxy] letter by letter";
const MAPS: &str = "name both maps in HAProxy's configuration as [haproxy] does, letter by letter";

pub(super) struct Haproxy {
    config: HaproxyConfig,
    authorities: Option<String>,
}

impl Haproxy {
    pub(super) const fn new(config: HaproxyConfig) -> Self {
        Self { config, authorities: None }
    }

    /// Gives the proxy a set: files, map, authorities, lists.
    pub(super) async fn install(&mut self, set: &TrustSet) -> Result<(), Refusal> {
        let config = &self.config;
        let mut map = String::new();
        for serial in &set.listed {
            // Writing to a String cannot fail.
            let _ = writeln!(map, "{} {REVOKED}", hex::encode_upper(serial.as_bytes()));
        }
        if self.authorities.is_none() {
            files::write(&config.lease_map, "lease 0\n", FOR_PROXY).await?;
        }
        files::write(&config.revoked_map, &map, FOR_PROXY).await?;
        files::write(&config.ca_file, &set.authorities_pem, FOR_PROXY).await?;
        // The last: whoever waits for it to start HAProxy finds them all.
        files::write(&config.crl_file, &set.lists_pem, FOR_PROXY).await?;
        self.replace_map(&map).await?;
        if self.authorities.as_ref() != Some(&set.authorities_pem) {
            self.replace_pem("ca-file", &self.config.ca_file.display().to_string(), &set.authorities_pem)
                .await?;
            self.authorities = Some(set.authorities_pem.clone());
        }
        self.replace_pem("crl-file", &self.config.crl_file.display().to_string(), &set.lists_pem).await
    }

    /// Lets requests through until this second.
    pub(super) async fn hold_until(&self, until: Timestamp) -> Result<(), Refusal> {
        let map = self.config.lease_map.display();
        let command = format!("set map {map} lease {}", until.seconds().max(0));
        self.expect_silence(&command, MAPS).await
    }

    async fn replace_map(&self, entries: &str) -> Result<(), Refusal> {
        let map = self.config.revoked_map.display();
        let answer = self.ask(&format!("prepare map {map}")).await?;
        let version = answer.rsplit(':').next().and_then(|version| version.trim().parse::<u32>().ok());
        let version = version.ok_or_else(|| said("prepare map", &answer, MAPS))?;
        let lines: Vec<&str> = entries.lines().collect();
        for lines in lines.chunks(ENTRIES_MAX) {
            let command = format!("add map @{version} {map} <<\n{}\n", lines.join("\n"));
            self.expect_silence(&command, MAPS).await?;
        }
        self.expect_silence(&format!("commit map @{version} {map}"), MAPS).await
    }

    /// Sets a file of TLS and commits it, so that it holds for every handshake from now on.
    async fn replace_pem(&self, kind: &str, file: &str, text: &str) -> Result<(), Refusal> {
        // An empty line would end it.
        let text: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let set = self.ask(&format!("set ssl {kind} {file} <<\n{}\n", text.join("\n"))).await?;
        if !set.contains("transaction created") && !set.contains("transaction updated") {
            return Err(said(&format!("set ssl {kind}"), &set, TOO_LONG));
        }
        let committed = self.ask(&format!("commit ssl {kind} {file}")).await?;
        if committed.contains("Success!") {
            return Ok(());
        }
        // What cannot be committed would stand in the way of the next one.
        drop(self.ask(&format!("abort ssl {kind} {file}")).await);
        Err(said(&format!("commit ssl {kind}"), &committed, RELOAD))
    }

    async fn expect_silence(&self, command: &str, remedy: &'static str) -> Result<(), Refusal> {
        let answer = self.ask(command).await?;
        let verb: Vec<&str> = command.split(' ').take(2).collect();
        if answer.trim().is_empty() { Ok(()) } else { Err(said(&verb.join(" "), &answer, remedy)) }
    }

    async fn ask(&self, command: &str) -> Result<String, Refusal> {
        let asked = async {
            let mut socket = UnixStream::connect(&self.config.socket).await?;
            socket.write_all(command.as_bytes()).await?;
            socket.write_all(b"\n").await?;
            socket.shutdown().await?;
            let mut answer = String::new();
            socket.take(ANSWER_LEN_MAX).read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let socket = self.config.socket.display();
        match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Refusal::new(format!("{socket}: {error}"), SOCKET)),
            Err(_) => Err(Refusal::new(format!("{socket}: no answer in two seconds"), SOCKET)),
        }
    }
}

fn said(command: &str, answer: &str, remedy: &'static str) -> Refusal {
    let line: String = answer.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    Refusal::new(format!("HAProxy answered {command:?} with {line:?}"), remedy)
}
