//! The machine of a service: folder, lock, disk, ports, limits.

use std::fs::Metadata;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, geteuid, getrlimit};

use super::finding::{Findings, remedy};
use crate::config::Config;
use crate::env::FileLock;
use crate::journal::file::{LOCK, RESERVE};
use crate::server::DESCRIPTORS;

/// The longest page of metrics: a hundred times a real one.
const PAGE_LEN_MAX: u64 = 4 << 20;
/// How long the page may take, on this machine.
const PAGE_WAIT: Duration = Duration::from_secs(5);
/// Calls that the audit could not keep.
const DROPPED: &str = "countersign_audit_dropped_calls_total";

/// Who holds the lock of a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    Somebody,
}

/// The folder is the service's alone.
pub(super) fn folder(config: &Config, findings: &mut Findings) {
    let data = config.data.display();
    let metadata = match std::fs::metadata(&config.data) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let how = remedy(
                "the record is kept in it",
                "name the folder that `countersign init` made, in the key data",
            );
            return findings.fail("folder", format!("{data} is not a folder"), how);
        }
        Err(error) => {
            let how = remedy(
                "the record is kept in it",
                "name the right folder in the key data, or restore a backup into it",
            );
            return findings.fail("folder", format!("{data}: {error}"), how);
        }
    };
    access(&config.data, (metadata.mode() & 0o777, metadata.uid()), geteuid().as_raw(), findings);
}

/// Is it this user's, and only this user's?
pub(super) fn access(data: &Path, (mode, owner): (u32, u32), own: u32, findings: &mut Findings) {
    let data = data.display();
    if mode & 0o022 != 0 {
        let how = remedy("whoever writes there replaces keys and record", format!("chmod 0700 {data}"));
        findings.fail("folder", format!("{data} has mode {mode:04o}: others may write to it"), how);
    } else if mode & 0o055 != 0 {
        let how = remedy("the record names people and what they may do", format!("chmod 0700 {data}"));
        findings.warn("folder", format!("{data} has mode {mode:04o}: others may read it"), how);
    } else if owner != own && own != 0 {
        let how = remedy(
            "only its owner can serve it",
            format!("run this as user {owner}, or chown -R {own} {data}"),
        );
        findings.fail("folder", format!("{data} belongs to user {owner}, and this is user {own}"), how);
    } else {
        findings.ok("folder", format!("{data} is the service's alone, of user {owner}"));
    }
}

/// Does a process have the record open?
pub(super) fn lock(config: &Config, findings: &mut Findings) -> Holder {
    let path = config.data.join("journal").join(LOCK);
    let Ok(metadata) = std::fs::metadata(&path) else {
        findings.ok("lock", "nobody has the record open");
        return Holder::Nobody;
    };
    match FileLock::take(&path) {
        Ok(_free) => {
            findings.ok("lock", "nobody has the record open: the service does not run");
            Holder::Nobody
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let who =
                holder_of(&metadata).map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            findings.ok("lock", format!("{who} has the record open: the service runs"));
            Holder::Somebody
        }
        Err(error) => {
            let how = remedy(
                "the service takes this lock at its start, so that no second one writes",
                format!("see who owns it: ls -l {}", path.display()),
            );
            findings.fail("lock", format!("{}: {error}", path.display()), how);
            Holder::Nobody
        }
    }
}

/// The process that holds a lock on a file, as Linux lists it.
fn holder_of(file: &Metadata) -> Option<u32> {
    let device = file.dev();
    let place = format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), file.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let pid = words.next()?.parse().ok()?;
        (words.next()? == place).then_some(pid)
    })
}

/// Is there room for what comes, and for restrictions when there is no other?
pub(super) fn disk(config: &Config, findings: &mut Findings) {
    let data = config.data.display();
    match rustix::fs::statvfs(&config.data) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            room(config, free, findings);
        }
        Err(error) => {
            let how = remedy("a disk that cannot be asked may not be there", format!("df {data}"));
            findings.fail("disk", format!("{data}: {error}"), how);
        }
    }
    let reserve = config.data.join("journal").join(RESERVE);
    if reserve.is_file() {
        findings.ok("reserve", "restrictions have a reserve on the disk");
    } else {
        let how = remedy(
            "without it, a full disk stops everything instead of everything but restrictions",
            "restart the service: each start makes it, when there is room",
        );
        findings.warn("reserve", format!("{} is missing", reserve.display()), how);
    }
}

fn room(config: &Config, free: u64, findings: &mut Findings) {
    let (free_mib, low_mib) = (free >> 20, config.low_water_mib);
    let what = format!("{free_mib} MiB are free, and under {low_mib} MiB only restrictions are recorded");
    let data = config.data.display();
    if free_mib < low_mib {
        let how = remedy(
            "nobody is enrolled, renewed or released until there is room",
            format!("make room: du -xh {data} | sort -h | tail"),
        );
        findings.fail("disk", what, how);
    } else if free_mib < low_mib.saturating_mul(4) {
        let how = remedy(
            "it will be full before long",
            format!("make room, or move the folder to a larger disk: du -xh {data} | sort -h | tail"),
        );
        findings.warn("disk", what, how);
    } else {
        findings.ok("disk", what);
    }
}

/// Can the service listen where it is to?
pub(super) fn ports(config: &Config, holder: Holder, findings: &mut Findings) {
    let pages =
        [("API", Some(config.listen)), ("metrics", config.metrics.listen), ("CRLs", config.crl.listen)];
    for (what, address) in pages {
        if let Some(address) = address {
            port((what, address), holder, findings);
        }
    }
}

fn port((what, address): (&str, SocketAddr), holder: Holder, findings: &mut Findings) {
    match (TcpListener::bind(address), holder) {
        (Ok(_free), Holder::Nobody) => findings.ok("port", format!("{address} is free for {what}")),
        (Ok(_), Holder::Somebody) if address.port() == 0 => {
            findings.ok("port", format!("{address}: any port, for {what}"));
        }
        (Ok(_free), Holder::Somebody) => {
            let how = remedy(
                "whoever has the record open does not serve there: it starts, stops, or has another configuration",
                "look at the service's log, and at the key listen",
            );
            findings.fail("port", format!("nobody listens on {address} for {what}"), how);
        }
        (Err(error), Holder::Somebody) if error.kind() == ErrorKind::AddrInUse => {
            findings.ok("port", format!("somebody listens on {address} for {what}"));
        }
        (Err(error), _) => {
            let port = address.port();
            let how = remedy(
                "the service does not start without it",
                format!("see who has it: ss -ltnp 'sport = :{port}'"),
            );
            findings.fail("port", format!("cannot listen on {address} for {what}: {error}"), how);
        }
    }
}

/// May enough connections be open?
pub(super) fn descriptors(findings: &mut Findings) {
    let wanted = DESCRIPTORS as u64;
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let what = format!("{limit} files may be open, and {wanted} are wanted for every connection");
    match limit < wanted {
        false => findings.ok("files", what),
        true => findings.warn(
            "files",
            what,
            remedy(
                "gateways beyond that are turned away",
                format!("LimitNOFILE={wanted} in the unit, or ulimit -n {wanted}"),
            ),
        ),
    }
}

/// Were calls lost to the audit? A running service says so on its page of metrics, if it has one.
pub(super) fn dropped(config: &Config, holder: Holder, findings: &mut Findings) {
    let Some(address) = config.metrics.listen.filter(|_| holder == Holder::Somebody) else { return };
    match page(address).map(|text| lost_calls(&text)) {
        Ok(Some(0)) => findings.ok("audit", "no call was lost to the audit since the start"),
        Ok(Some(lost)) => findings.warn(
            "audit",
            format!("{lost} calls were lost to the audit since the start"),
            remedy("who called what is evidence", "make room on the disk: the log says since when"),
        ),
        Ok(None) => findings.warn(
            "audit",
            format!("{address} has no {DROPPED}"),
            remedy(
                "it is not known whether calls were lost",
                "is it this service's page? see [metrics] listen",
            ),
        ),
        Err(error) => findings.warn(
            "audit",
            format!("http://{address}/metrics: {error}"),
            remedy("Prometheus sees nothing either", "look at the service's log, and at [metrics] listen"),
        ),
    }
}

fn page(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PAGE_WAIT)?;
    stream.set_read_timeout(Some(PAGE_WAIT))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.take(PAGE_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of the counter's rows; none: the page has no such counter.
pub(super) fn lost_calls(page: &str) -> Option<u64> {
    let rows = page.lines().filter(|line| line.starts_with(DROPPED));
    let counts: Vec<u64> = rows.filter_map(|row| row.rsplit(' ').next()?.parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}
