//! The one configuration file of `serve`, read strictly: an unknown key is an error that names file, line and key.
//!
//! Secrets are named by path and never stand in the file. A path that is not absolute is taken from the folder of the
//! file. What genesis settled (trust domain, arc, lease, life of certificates) is in the journal and cannot be set here.

pub mod agent;
mod decisions;
mod keys;
mod listeners;
mod passphrase;
mod pkcs11;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use thiserror::Error;

pub use decisions::Decisions;
pub use keys::KeyFiles;
pub use listeners::{ListenerFiles, Listeners};
pub use passphrase::{PassphraseFault, PassphraseSource};
pub use pkcs11::{NewKeys, Pkcs11Config};

/// The largest configuration file: a hundred times a real one.
const FILE_LEN_MAX: u64 = 1 << 20;
/// The most names in the server's certificate.
const NAMES_MAX: usize = 32;
/// The largest low-water mark: 1 TiB; more is a slip of the unit.
const LOW_WATER_MIB_MAX: u64 = 1 << 20;
/// The highest limit of requests per second: above it a limit means nothing.
const REQUESTS_MAX: u32 = 1_000_000;

/// How long certificates of officers live unless the file says otherwise: seven days, so that one who works every week is never
/// without, and a copy of a certificate that nobody misses is soon worth nothing.
pub const OFFICER_TTL_DEFAULT_S: u32 = 7 * 86_400;
/// And at most and at least: as long as those of machines, and an hour, so that a renewal each working day is no storm.
const OFFICER_TTL_S: std::ops::RangeInclusive<u32> = 3_600..=30 * 86_400;

/// How long a revocation list may be used: long enough to be fetched twice, and no longer than a certificate lives.
const CRL_LIFETIME_S: std::ops::RangeInclusive<u32> = 60..=604_800;

/// Why a file is not a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is larger than 1 MiB.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or has a key or value that does not belong there.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        source: Box<toml::de::Error>,
    },
}

/// Everything that `serve` can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `listen`: address and port of the API. Default 127.0.0.1:7443.
    pub listen: SocketAddr,
    /// `data`: the folder with the journal and the snapshots. Default: the folder of this file.
    pub data: PathBuf,
    /// `names`: DNS names and addresses in the server's certificate. Default `["localhost", "127.0.0.1"]`.
    pub names: Vec<String>,
    /// `crl_base_url`: where relying parties fetch CRLs; in every certificate. Default: `/crl` at the address of
    /// `[crl] listen`, or else of `listen`.
    pub crl_base_url: String,
    /// `low_water_mib`: below this much free disk only restrictions are recorded. Default 64.
    pub low_water_mib: u64,
    /// `officer_ttl_s`: how long certificates of officers live. Default 604800, seven days.
    pub officer_ttl_s: u32,
    /// `[keys]`: where the private keys are.
    pub keys: KeyFiles,
    /// `[log]`: how the service logs.
    pub log: Log,
    /// `[limits]`: what one principal may use.
    pub limits: Limits,
    /// `[envoy]`: which headers of the edge are believed.
    pub envoy: EnvoyHeaders,
    /// `[metrics]`: where Prometheus reads.
    pub metrics: MetricsPage,
    /// `[crl]`: revocation lists over plain HTTP.
    pub crl: Crl,
    /// `[decisions]`: how long decisions are kept.
    pub decisions: Decisions,
    /// `[listeners.GATEWAY]`: certificates that are pushed to Envoys for their own listeners. Default: none.
    pub listeners: Listeners,
}

/// `[log]`: how the service logs, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `format`: `text` for people or `json` for programs. Default `text`.
    pub format: LogFormat,
    /// `level`: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: LogLevel,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Columns for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Something is degraded.
    Warn,
    /// Business events.
    #[default]
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word, as in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[limits]`: what one caller may ask for before it is told to retry later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `requests_per_s`: calls of one principal. A gateway asks for every user behind it. Default 20000.
    #[serde(deserialize_with = "requests")]
    pub requests_per_s: u32,
    /// `reads_per_s`: of those, looks at one thing. Default 2000.
    #[serde(deserialize_with = "requests")]
    pub reads_per_s: u32,
    /// `lists_per_s`: of those, pages of lists and records. Default 100.
    #[serde(deserialize_with = "requests")]
    pub lists_per_s: u32,
    /// `mutations_per_s`: of those, changes: nominations, tokens, certificates. Default 2000.
    #[serde(deserialize_with = "requests")]
    pub mutations_per_s: u32,
    /// `mandates_per_s`: of those, mandates that one officer prepares, signs or hands in. Restrictions do not count. Default 200.
    #[serde(deserialize_with = "requests")]
    pub mandates_per_s: u32,
    /// `streams_per_s`: of those, streams that begin: subscriptions, trust sets, watches. Default 1000.
    #[serde(deserialize_with = "requests")]
    pub streams_per_s: u32,
    /// `address_requests_per_s`: calls of one address (IPv6: one /64) without a certificate, or of one subject. Default 20.
    #[serde(deserialize_with = "requests")]
    pub address_requests_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_s: 20_000,
            reads_per_s: 2_000,
            lists_per_s: 100,
            mutations_per_s: 2_000,
            mandates_per_s: 200,
            streams_per_s: 1_000,
            address_requests_per_s: 20,
        }
    }
}

/// `[envoy]`: headers that the edge sets and users cannot. None are believed by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvoyHeaders {
    /// `place_header`: carries the place of use, `US` or a two-letter country. Default: none, and every place is
    /// judged as not known.
    #[serde(deserialize_with = "header")]
    pub place_header: Option<String>,
    /// `model_header`: carries the model's name. Default: none, and the route must name the model.
    #[serde(deserialize_with = "header")]
    pub model_header: Option<String>,
}

/// `[metrics]`: the page that Prometheus reads, over plain HTTP without authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsPage {
    /// `listen`: a loopback or private address and a port. Default: none, and nothing is served.
    #[serde(deserialize_with = "private")]
    pub listen: Option<SocketAddr>,
}

/// `[crl]`: revocation lists (RFC 5280), for relying parties without the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crl {
    /// `listen`: address and port of plain HTTP that answers `/crl/AUTHORITY/SHARD.crl`. Default: none, and no list is
    /// served.
    pub listen: Option<SocketAddr>,
    /// `lifetime_s`: how long a list may be used, from its signature to its nextUpdate. Default 3600.
    #[serde(deserialize_with = "crl_lifetime")]
    pub lifetime_s: u32,
}

impl Default for Crl {
    fn default() -> Self {
        Self { listen: None, lifetime_s: 3_600 }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: SocketAddr,
    data: PathBuf,
    #[serde(deserialize_with = "names")]
    names: Vec<String>,
    #[serde(deserialize_with = "some_url")]
    crl_base_url: Option<String>,
    #[serde(deserialize_with = "low_water")]
    low_water_mib: u64,
    #[serde(deserialize_with = "officer_ttl")]
    officer_ttl_s: u32,
    keys: keys::KeysSection,
    log: Log,
    limits: Limits,
    envoy: EnvoyHeaders,
    metrics: MetricsPage,
    crl: Crl,
    decisions: Decisions,
    #[serde(deserialize_with = "listeners::listeners")]
    listeners: Listeners,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7443)),
            data: PathBuf::from("."),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            crl_base_url: None,
            low_water_mib: 64,
            officer_ttl_s: OFFICER_TTL_DEFAULT_S,
            keys: keys::KeysSection::default(),
            log: Log::default(),
            limits: Limits::default(),
            envoy: EnvoyHeaders::default(),
            metrics: MetricsPage::default(),
            crl: Crl::default(),
            decisions: Decisions::default(),
            listeners: Listeners::default(),
        }
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// What is wrong with it, with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (text, folder) = read_text(path)?;
        Self::parse(&text, folder)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// The low-water mark in bytes.
    pub const fn low_water(&self) -> u64 {
        self.low_water_mib << 20
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, toml::de::Error> {
        let file: File = toml::from_str(text)?;
        if let Some(token) = &file.keys.pkcs11 {
            token.check().map_err(|why| toml::de::Error::custom(format!("[keys.pkcs11]: {why}")))?;
        }
        let data = resolve(folder, &file.data);
        Ok(Self {
            crl_base_url: file
                .crl_base_url
                .unwrap_or_else(|| format!("http://{}/crl", file.crl.listen.unwrap_or(file.listen))),
            listen: file.listen,
            names: file.names,
            low_water_mib: file.low_water_mib,
            officer_ttl_s: file.officer_ttl_s,
            keys: file.keys.at(folder, &data),
            data,
            log: file.log,
            limits: file.limits,
            envoy: file.envoy,
            metrics: file.metrics,
            crl: file.crl,
            decisions: file.decisions,
            listeners: file
                .listeners
                .into_iter()
                .map(|(gateway, files)| (gateway, files.at(folder)))
                .collect(),
        })
    }
}

/// The file's text and its folder.
fn read_text(path: &Path) -> Result<(String, &Path), ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_LEN_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((text, folder.unwrap_or_else(|| Path::new("."))))
}

fn resolve(folder: &Path, path: &Path) -> PathBuf {
    // "." is the folder itself; a path that ends in "/." would only puzzle who reads it in an error.
    if path == Path::new(".") { folder.to_owned() } else { folder.join(path) }
}

/// A DNS name in lower case or an IP address, as a server's certificate carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for HostName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |label: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
        };
        let is_name = text.len() <= 253 && text.split('.').all(label);
        if is_name || text.parse::<IpAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err("a DNS name in lower case or an IP address is needed")
        }
    }
}

fn names<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(d)?;
    if names.is_empty() || names.len() > NAMES_MAX {
        return Err(D::Error::custom(format!("1 to {NAMES_MAX} names are needed")));
    }
    for name in &names {
        name.parse::<HostName>().map_err(|why| D::Error::custom(format!("{name:?}: {why}")))?;
    }
    Ok(names)
}

fn some_url<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.ends_with('/') => Ok(Some(text)),
        Some(_) | None => {
            Err(D::Error::custom("an http or https address without a slash at its end is needed"))
        }
    }
}

fn low_water<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let mib = u64::deserialize(d)?;
    if mib > LOW_WATER_MIB_MAX {
        return Err(D::Error::custom(format!("at most {LOW_WATER_MIB_MAX} MiB are allowed")));
    }
    Ok(mib)
}

fn officer_ttl<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let ttl_s = u32::deserialize(d)?;
    if !OFFICER_TTL_S.contains(&ttl_s) {
        let (least, most) = (OFFICER_TTL_S.start(), OFFICER_TTL_S.end());
        return Err(D::Error::custom(format!("{least} to {most} seconds are allowed")));
    }
    Ok(ttl_s)
}

fn requests<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let count = u32::deserialize(d)?;
    if !(1..=REQUESTS_MAX).contains(&count) {
        return Err(D::Error::custom(format!("1 to {REQUESTS_MAX} requests a second are allowed")));
    }
    Ok(count)
}

fn private<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SocketAddr>, D::Error> {
    let address = SocketAddr::deserialize(d)?;
    let is_private = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if !is_private {
        return Err(D::Error::custom(format!(
            "{address}: a loopback or private address is needed, for whoever reaches it can read it"
        )));
    }
    Ok(Some(address))
}

fn crl_lifetime<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(d)?;
    if !CRL_LIFETIME_S.contains(&seconds) {
        let (from, to) = (CRL_LIFETIME_S.start(), CRL_LIFETIME_S.end());
        return Err(D::Error::custom(format!("{from} to {to} seconds are allowed")));
    }
    Ok(seconds)
}

fn header<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(d)?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(D::Error::custom("a header's name in lower case, at most 64 characters, is needed"));
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        Config::parse(text, Path::new("/etc/countersign"))
    }

    #[test]
    fn an_empty_file_is_the_documented_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7443");
        assert_eq!(config.data, Path::new("/etc/countersign"));
        assert_eq!(config.keys.log, Path::new("/etc/countersign/keys/log.pem"));
        assert_eq!(config.names, ["localhost", "127.0.0.1"]);
        assert_eq!(config.crl_base_url, "http://127.0.0.1:7443/crl");
        assert_eq!((config.low_water_mib, config.low_water()), (64, 64 << 20));
        assert_eq!(config.officer_ttl_s, 604_800);
        assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Info));
        let limits = config.limits;
        assert_eq!((limits.requests_per_s, limits.address_requests_per_s), (20_000, 20));
        assert_eq!((limits.reads_per_s, limits.lists_per_s, limits.streams_per_s), (2_000, 100, 1_000));
        assert_eq!((limits.mutations_per_s, limits.mandates_per_s), (2_000, 200));
        assert_eq!(config.envoy, EnvoyHeaders::default());
        assert_eq!(config.metrics.listen, None);
        assert_eq!(config.crl, Crl { listen: None, lifetime_s: 3_600 });
        assert_eq!(config.decisions, Decisions { keep_days: 3_653, keep_gib: None });
        assert!(config.listeners.is_empty());
    }

    #[test]
    fn the_sample_is_read_and_names_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.toml");
        let sample = Config::load(&path).unwrap();
        let folder = path.parent().unwrap();
        let default = Config::parse("", folder).unwrap();
        assert_eq!(Config { data: default.data.clone(), keys: default.keys.clone(), ..sample }, default);
        // Every key stands in the sample, if only as a comment: uncommented, it is still a configuration.
        let text = std::fs::read_to_string(&path).unwrap();
        let all: String =
            text.lines().map(|line| line.strip_prefix("#:").unwrap_or(line).to_owned() + "\n").collect();
        let all = parse(&all).unwrap();
        assert_eq!(all.envoy.place_header.as_deref(), Some("x-countersign-place"));
        assert_eq!(all.metrics.listen, "127.0.0.1:9464".parse().ok());
        let files = &all.listeners[&"gw-envoy".parse().unwrap()];
        assert_eq!(files.key, Path::new("/etc/countersign/listener/gw-envoy.key"));
        for key in [
            "listen",
            "data",
            "names",
            "crl_base_url",
            "low_water_mib",
            "officer_ttl_s",
            "access",
            "system",
            "log",
            "server",
            "format",
            "level",
            "requests_per_s",
            "reads_per_s",
            "lists_per_s",
            "mutations_per_s",
            "mandates_per_s",
            "streams_per_s",
            "address_requests_per_s",
            "place_header",
            "model_header",
            "lifetime_s",
            "keep_days",
            "keep_gib",
            "chain",
            "key",
        ] {
            let named =
                text.lines().any(|line| line.trim_start_matches("#:").starts_with(&format!("{key} =")));
            assert!(named, "{key} is not in deploy/countersign.toml");
        }
    }

    #[test]
    fn certificates_name_the_listener_of_lists_unless_told_otherwise() {
        let config = parse("[crl]\nlisten = \"192.0.2.1:7480\"").unwrap();
        assert_eq!(config.crl_base_url, "http://192.0.2.1:7480/crl");
        let told = "crl_base_url = \"http://crl.example/v1\"\n[crl]\nlisten = \"192.0.2.1:7480\"";
        assert_eq!(parse(told).unwrap().crl_base_url, "http://crl.example/v1");
    }

    #[test]
    fn wrong_keys_and_values_are_refused_by_line_and_name() {
        for (text, line, word) in [
            ("listen = \"127.0.0.1:1\"\nlisten_on = 1", "line 2", "listen_on"),
            ("listen = \"localhost\"", "line 1", "listen"),
            ("names = []", "line 1", "1 to 32 names"),
            ("\nnames = [\"Upper.example\"]", "line 2", "Upper.example"),
            ("crl_base_url = \"ftp://x\"", "line 1", "http or https"),
            ("low_water_mib = -1", "line 1", "low_water_mib"),
            ("[decisions]\nkeep_days = 1826", "line 2", "keep_days"),
            ("[decisions]\nkeep_gib = 0", "line 2", "keep_gib"),
            ("officer_ttl_s = 3599", "line 1", "3600 to 2592000"),
            ("officer_ttl_s = 2592001", "line 1", "3600 to 2592000"),
            ("[log]\nformat = \"xml\"", "line 2", "xml"),
            ("[limits]\nrequests_per_s = 0", "line 2", "requests_per_s"),
            ("[limits]\nlists_per_s = 0", "line 2", "lists_per_s"),
            ("[envoy]\nplace_header = \"X Y\"", "line 2", "place_header"),
            ("[metrics]\nlisten = \"0.0.0.0:9464\"", "line 2", "loopback or private"),
            ("[metrics]\nlisten = \"[::]:9464\"", "line 2", "loopback or private"),
            ("[metrics]\nlisten = \"203.0.113.1:9464\"", "line 2", "loopback or private"),
            ("[crl]\nlifetime_s = 59", "line 2", "60 to 604800"),
            ("[crl]\nlisten = \"crl.example\"", "line 2", "listen"),
            ("[listeners.gw-1]\nchain = \"c\"", "line 1", "key"),
            ("[listeners.gw-1]\nchain = \"c\"\nkey = \"k\"\nca = \"a\"", "line 4", "ca"),
            ("[listeners.\"Gw 1\"]\nchain = \"c\"\nkey = \"k\"", "line 1", "Gw 1"),
            ("[keys]\nacess = \"a\"", "line 2", "acess"),
            ("[keys]\npassphrase = \"hunter2\"", "line 2", "never the secret itself"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn relative_paths_are_taken_from_the_folder_of_the_file() {
        let config = parse("data = \"d\"\n[keys]\nlog = \"/k/log.pem\"\nserver = \"s.pem\"").unwrap();
        assert_eq!(config.data, Path::new("/etc/countersign/d"));
        assert_eq!(config.keys.access, Path::new("/etc/countersign/d/keys/access.pem"));
        assert_eq!(config.keys.log, Path::new("/k/log.pem"));
        assert_eq!(config.keys.server, Path::new("/etc/countersign/s.pem"));
        let config = parse("[keys]\npassphrase = \"file:p\"").unwrap();
        assert_eq!(config.keys.passphrase.unwrap().to_string(), "file:/etc/countersign/p");
    }
}
