//! The record of a service and what belongs to it: journal, keys, authorities, clock, backup.

use std::path::Path;

use super::super::backup::HEAD;
use super::super::files;
use super::DAY_MS;
use super::finding::{Findings, Remedy, remedy};
use crate::app::inspect::{Depth, Inspected, inspect};
use crate::ca::{FileSigner, KeyFileFault, Signer as _, read_key_file};
use crate::config::Config;
use crate::domain::authority::{Authority, AuthorityState};
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::from_bytes;
use crate::domain::head::SignedHead;
use crate::domain::state::State;
use crate::domain::time::{OFFICER_AHEAD_MAX_MS, Timestamp};
use crate::env::{Clock as _, SystemClock};
use crate::x509::explain::explain;
use crate::x509::{Arc, Authority as Certified, Passphrase, Profile};

/// A certificate of a listener is renewed by then.
const LISTENER_LEFT_MS: i64 = 14 * DAY_MS;
/// An authority is rotated by then: a month is enough for partners that pin it.
const AUTHORITY_LEFT_MS: i64 = 30 * DAY_MS;
/// The service renews its own certificate at half of its life; so near to its end, it could not.
const SERVER_LEFT_MS: i64 = 3 * DAY_MS;
/// A backup is made every day.
const BACKUP_AGE_MS: i64 = 36 * 3_600_000;
/// A backup so old loses a week of revocations.
const BACKUP_AGE_MAX_MS: i64 = 7 * DAY_MS;

/// Everything that is read from the folder.
pub(super) fn check(config: &Config, depth: Depth, backup: Option<&Path>, findings: &mut Findings) {
    let now = SystemClock.now();
    for (gateway, files) in &config.listeners {
        listener((gateway.as_str(), crate::server::read_listener(files, now)), now, findings);
    }
    server_certificate(config, now, findings);
    let inspected = match inspect(&config.data, depth) {
        Ok(inspected) => inspected,
        Err(error) => {
            let how = remedy(
                "the service does not start from a record that does not hold",
                "keep the folder as it is for whoever finds out why, and restore the newest backup: docs/operations.md, Restore",
            );
            findings.fail("journal", error.to_string(), how);
            keys_only(config, findings);
            return;
        }
    };
    journal(&inspected, findings);
    let state = &inspected.state;
    clock(state, now, findings);
    keys(config, state, findings);
    authorities(state, now, findings);
    arc(state, findings);
    if let Some(folder) = backup {
        self::backup(folder, state, now, findings);
    }
}

fn journal(inspected: &Inspected, findings: &mut Findings) {
    let Inspected { journal, since, .. } = inspected;
    let read = match since {
        Some(since) => format!("records {} to {}", since.0 + 1, journal.head.seq),
        None => format!("all {} records", journal.records),
    };
    match &journal.torn {
        None => findings.ok("journal", format!("{read} hold, epoch {}", journal.head.epoch)),
        Some(torn) => findings.warn(
            "journal",
            format!(
                "{read} hold; a torn frame follows ({}, byte {}, record {}): {}",
                torn.segment, torn.offset, torn.seq, torn.why
            ),
            remedy(
                "a crash leaves one, which was never acknowledged, and the next start drops it; if the service runs, it may \
                 be writing it",
                "compare with a remembered head: countersign audit head --identity alice",
            ),
        ),
    }
}

pub(super) fn clock(state: &State, now: Timestamp, findings: &mut Findings) {
    if now < state.clock_floor().plus_ms(-OFFICER_AHEAD_MAX_MS) {
        let how = remedy(
            "a service whose clock went back permits nothing",
            "set the clock (timedatectl, chronyc tracking); if it is right, two officers say so: countersign clock accept --commit",
        );
        return findings.fail(
            "clock",
            format!("it shows {now}, and the last record is of {}", state.time),
            how,
        );
    }
    findings.ok("clock", format!("it shows {now}, after the last record of {}", state.time));
}

/// The key of a file, if it can be used.
fn key((name, path): (&str, &Path), secret: Option<&Passphrase>, findings: &mut Findings) -> Option<Vec<u8>> {
    match FileSigner::load_with(path, secret) {
        Ok(signer) => Some(signer.public_key().to_vec()),
        Err(fault) => {
            let how = repair(path, &fault, "put the key back from your offline copy");
            findings.fail("key", format!("{name}: {}: {fault}", path.display()), how);
            None
        }
    }
}

/// What to do about a key file that cannot be used.
fn repair(path: &Path, fault: &KeyFileFault, otherwise: &str) -> Remedy {
    let kubernetes = "fsGroup of a pod opens them like this: docs/operations.md, In Kubernetes";
    let path = path.display();
    let how = match fault {
        KeyFileFault::Mode { .. } => format!("chmod 0600 {path} ({kubernetes})"),
        KeyFileFault::Folder { folder, .. } => format!("chmod 0700 {} ({kubernetes})", folder.display()),
        KeyFileFault::Io(_)
        | KeyFileFault::NotFile
        | KeyFileFault::TooLarge
        | KeyFileFault::Sealed(_)
        | KeyFileFault::UnsupportedKey
        | KeyFileFault::Token(_)
        | KeyFileFault::Generate => format!("{otherwise} and make it the service's alone: chmod 0600 {path}"),
    };
    remedy("the service does not start without it", how)
}

/// Without a record, whether they can be read at all.
fn keys_only(config: &Config, findings: &mut Findings) {
    if is_on_token(config, findings) {
        return;
    }
    let Some(secret) = secret(config, findings) else { return };
    let secret = secret.as_deref();
    let files = [("access", &config.keys.access), ("system", &config.keys.system), ("log", &config.keys.log)];
    for (name, path) in files {
        if key((name, path), secret, findings).is_some() {
            findings.ok("key", format!("{name}: {} can be read", path.display()));
        }
    }
}

/// Keys on a token are not looked at: that needs a login, and a PIN that is wrong would count against the token.
fn is_on_token(config: &Config, findings: &mut Findings) -> bool {
    let Some(token) = &config.keys.pkcs11 else { return false };
    let how = remedy(
        "nothing is said of them: a login with a wrong PIN would count against the token",
        "the start of the service has each key sign and compares it with its authority: look at its log",
    );
    findings.warn("key", format!("keys are on {} and are not looked at", token.token), how);
    true
}

/// The passphrase of the keys, if they have one; none: it cannot be read here.
#[expect(clippy::option_option, reason = "no passphrase is not the same as one that cannot be read")]
fn secret(config: &Config, findings: &mut Findings) -> Option<Option<std::sync::Arc<Passphrase>>> {
    match crate::server::passphrase(&config.keys) {
        Ok(secret) => Some(secret),
        Err(error) => {
            let how = remedy(
                "without it the service does not start, and the keys cannot be looked at",
                "run this where the passphrase is: in the unit's sandbox, or with the variable or descriptor of [keys] passphrase",
            );
            findings.warn("key", error.to_string(), how);
            None
        }
    }
}

fn keys(config: &Config, state: &State, findings: &mut Findings) {
    if is_on_token(config, findings) {
        return;
    }
    let Some(secret) = secret(config, findings) else { return };
    let secret = secret.as_deref();
    let first = [
        ("access", &config.keys.access, AuthorityKind::Access),
        ("system", &config.keys.system, AuthorityKind::System),
    ];
    let mut here = Vec::new();
    for (name, path, kind) in first {
        let Some(public) = key((name, path), secret, findings) else { continue };
        let of_kind = state.authorities.values().filter(|authority| authority.kind == kind);
        let is_known = of_kind.into_iter().any(|authority| is_key_of(&public, authority));
        here.push(public);
        fits((name, path), is_known, "it is the key of no authority of this kind on record", findings);
    }
    if let Some(public) = key(("log", &config.keys.log), secret, findings) {
        let is_known = public.ends_with(&state.settings.log_key);
        fits(("log", &config.keys.log), is_known, "it is not the log key that genesis names", findings);
    }
    if let Err(fault) = read_key_file(&config.keys.server) {
        let how = repair(
            &config.keys.server,
            &fault,
            "put it back, or make a new one (docs/operations.md, Private keys)",
        );
        findings.fail("key", format!("server: {}: {fault}", config.keys.server.display()), how);
    }
    let active = state.authorities.values().filter(|authority| authority.state == AuthorityState::Active);
    for authority in active {
        let path = config.keys.authorities().join(format!("{}.pem", authority.id));
        let is_first = here.iter().any(|public| is_key_of(public, authority));
        if !is_first {
            let Some(public) = key(("authority", &path), secret, findings) else { continue };
            fits(
                ("authority", &path),
                is_key_of(&public, authority),
                "it is not the key of its authority",
                findings,
            );
        }
    }
}

fn fits((name, path): (&str, &Path), is_right: bool, what: &str, findings: &mut Findings) {
    if is_right {
        return findings.ok("key", format!("{name}: {} is the right one", path.display()));
    }
    let how = remedy(
        "the service does not start with a key that the record does not know",
        "put the right keys folder in its place: each service has its own",
    );
    findings.fail("key", format!("{name}: {}: {what}", path.display()), how);
}

fn is_key_of(public: &[u8], authority: &Authority) -> bool {
    Certified::from_der(&authority.certificate).is_ok_and(|certified| certified.key().spki() == public)
}

pub(super) fn authorities(state: &State, now: Timestamp, findings: &mut Findings) {
    for authority in state.authorities.values() {
        let left_days = (authority.not_after.millis() - now.millis()).div_euclid(DAY_MS);
        let what =
            format!("{} {} {} ends in {left_days} days", authority.kind, authority.id, authority.state);
        let rotate = format!(
            "countersign authority prepare --kind {} --commit; docs/operations.md, Rotate",
            authority.kind
        );
        match authority.state {
            AuthorityState::Active if now >= authority.not_after => {
                findings.fail("authority", what, remedy("nothing that it issued is valid", rotate));
            }
            AuthorityState::Active if left_days * DAY_MS < AUTHORITY_LEFT_MS => {
                findings.warn("authority", what, remedy("no certificate outlives its authority", rotate));
            }
            AuthorityState::Tainted => {
                let how = remedy(
                    "what it issued is still trusted",
                    format!("countersign authority revoke {} --reason CA_COMPROMISE --commit", authority.id),
                );
                findings.warn("authority", what, how);
            }
            AuthorityState::Active | AuthorityState::Prepared | AuthorityState::Retiring => {
                findings.ok("authority", what)
            }
            AuthorityState::Retired | AuthorityState::Revoked => {}
        }
    }
}

pub(super) fn arc(state: &State, findings: &mut Findings) {
    let arc: Option<Arc> = state.settings.arc.parse().ok();
    match arc.is_some_and(|arc| arc.is_documentation()) {
        false => findings.ok("arc", format!("attributes are under {}", state.settings.arc)),
        true => findings.warn(
            "arc",
            format!("attributes are under the documentation arc {}, which nobody owns", state.settings.arc),
            remedy(
                "another service's certificates may mean something else by them",
                "not for production: countersign init --arc takes your own",
            ),
        ),
    }
}

fn listener(
    (gateway, read): (&str, Result<crate::x509::TlsPair, String>),
    now: Timestamp,
    findings: &mut Findings,
) {
    let how = |why| {
        remedy(
            why,
            "have the listener's certificate issued anew, and put chain and key into the files of [listeners]",
        )
    };
    match read {
        Err(why) => findings.fail(
            "listener",
            format!("{gateway}: {why}"),
            how("the Envoy of this gateway is pushed no certificate"),
        ),
        Ok(pair) if pair.not_after().millis() - now.millis() < LISTENER_LEFT_MS => {
            let what = format!("{gateway}: its certificate ends at {}", pair.not_after());
            findings.warn("listener", what, how("nobody reaches the gateway when it has ended"));
        }
        Ok(pair) => {
            findings.ok("listener", format!("{gateway}: its certificate ends at {}", pair.not_after()))
        }
    }
}

fn server_certificate(config: &Config, now: Timestamp, findings: &mut Findings) {
    let path = config.data.join(crate::server::CERTIFICATE_FILE);
    let Ok(bytes) = files::read(&path) else {
        return findings.ok("certificate", "the service issues its own at its first start");
    };
    let profile = "unknown".parse().map(|domain| Profile::new(domain, Arc::default(), None));
    let until =
        profile.ok().and_then(|profile| explain(&bytes, &profile).ok()).map(|explained| explained.not_after);
    let restart =
        "restart the service: it issues itself another at each start, unless its disk or clock is not right";
    match until {
        None => findings.warn(
            "certificate",
            format!("{} is no certificate", path.display()),
            remedy("the next start replaces it", restart),
        ),
        Some(until) if now > until => {
            findings.fail(
                "certificate",
                format!("the server's own ended at {until}"),
                remedy("nobody believes the server", restart),
            );
        }
        Some(until) if until.millis() - now.millis() < SERVER_LEFT_MS => {
            findings.warn(
                "certificate",
                format!("the server's own ends at {until}"),
                remedy("it should have been renewed by itself", restart),
            );
        }
        Some(until) => findings.ok("certificate", format!("the server's own ends at {until}")),
    }
}

pub(super) fn backup(folder: &Path, state: &State, now: Timestamp, findings: &mut Findings) {
    let again = format!("countersign backup --to {} --identity alice", folder.display());
    let head = files::read(&folder.join(HEAD)).map_err(|failure| failure.0);
    let head = head.and_then(|bytes| from_bytes::<SignedHead>(&bytes).map_err(|e| format!("{HEAD}: {e}")));
    let log_key =
        state.settings.log_key.as_slice().try_into().map_err(|_| "the record has no log key".to_owned());
    let head =
        head.and_then(|head| head.verify(&log_key?).map(|()| head).map_err(|e| format!("{HEAD}: {e}")));
    let head = match head {
        Ok(head) => head,
        Err(why) => {
            let how = remedy("what is lost with this machine is lost for good", again);
            return findings.fail("backup", format!("{}: {why}", folder.display()), how);
        }
    };
    let age_ms = now.millis() - head.time.millis();
    let behind = state.position.seq.0.saturating_sub(head.seq.0);
    let what = format!("{} is of {}, {behind} records behind", folder.display(), head.time);
    if head.epoch > state.position.epoch
        || (head.epoch == state.position.epoch && head.seq > state.position.seq)
    {
        let how = remedy(
            "this folder is an old copy: gateways and officers who saw more refuse it",
            "bring back the newest copy, or restore this backup: docs/operations.md, Restore",
        );
        findings.fail(
            "backup",
            format!("{} is ahead of the record: record {}", folder.display(), head.seq),
            how,
        );
    } else if age_ms > BACKUP_AGE_MAX_MS {
        findings.fail("backup", what, remedy("a restore would lose more than a week", again));
    } else if age_ms > BACKUP_AGE_MS {
        findings.warn("backup", what, remedy("a restore would lose everything since", again));
    } else {
        findings.ok("backup", what);
    }
}
