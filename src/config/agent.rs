//! The configuration file of `agent`, read as strictly as that of `serve`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{ConfigError, Log, header, read_text, resolve};

/// How long a proxy may take to work with a new list: a reload of nginx with thousands of connections takes seconds.
const APPLY_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// Everything that `agent` can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// `server`: address and port of the service's API.
    pub server: String,
    /// `server_name`: the name in the service's certificate. Default: the host of `server`.
    pub server_name: Option<String>,
    /// `trust_domain`: that of the certificates, from the operator's genesis.
    pub trust_domain: String,
    /// `arc`: that of the certificates' attributes. Default: the documentation arc.
    pub arc: Option<String>,
    /// `identity`: the gateway's folder with certificate.pem, key.pem, system-bundle.pem and log-key.pem. Default
    /// `identity`.
    pub identity: PathBuf,
    /// `state`: where the agent keeps its canaries. Default `state`.
    pub state: PathBuf,
    /// `pausable`: the machine can be paused without its clock noticing. Default false.
    pub pausable: bool,
    /// `stream_cut_ms`: after how long the proxy ends a request, such as a stream, that goes on. Default 60000.
    pub stream_cut_ms: u32,
    /// `[log]`: how the agent logs.
    pub log: Log,
    /// `[authz]`: the endpoint that the proxy asks for each request.
    pub authz: AuthzConfig,
    /// `[probe]`: how the agent reaches the proxy as a client does.
    pub probe: ProbeConfig,
    /// `[haproxy]`: needed with `--adapter haproxy`.
    pub haproxy: Option<HaproxyConfig>,
    /// `[nginx]`: needed with `--adapter nginx`.
    pub nginx: Option<NginxConfig>,
}

/// Where the endpoint listens: on this machine only, because whoever reaches it is believed to be the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[authz]`: headers are believed because the proxy sets each of them itself, whatever its client sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthzConfig {
    /// `listen`: a loopback address and port, or `unix:PATH`.
    #[serde(deserialize_with = "local")]
    pub listen: LocalAddress,
    /// `certificate_header`: carries the client's certificate, PEM URL-encoded or DER in base64. Default
    /// `x-ssl-client-cert`.
    #[serde(default = "certificate_header")]
    pub certificate_header: String,
    /// `model`: the model behind this proxy. Default: none.
    pub model: Option<String>,
    /// `model_header`: carries the model instead. Default: none.
    #[serde(default, deserialize_with = "header")]
    pub model_header: Option<String>,
    /// `place_header`: carries the place of use, `US` or a two-letter country. Default: none, and every place is judged
    /// as not known.
    #[serde(default, deserialize_with = "header")]
    pub place_header: Option<String>,
    /// `access_form`: INFERENCE, WEIGHTS or INTERNALS. Default INFERENCE.
    pub access_form: Option<String>,
    /// `serving_region`: where the model is served from. Default: not known.
    pub serving_region: Option<String>,
    /// `purpose`: the declared purpose of everything that passes here. Default: none.
    pub purpose: Option<String>,
}

/// `[probe]`: the agent shows its canaries to the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// `address`: where the proxy accepts clients.
    pub address: String,
    /// `server_name`: a name in the proxy's certificate, sent as SNI and as Host.
    pub server_name: String,
    /// `ca`: the authorities of the proxy's certificate, PEM.
    pub ca: PathBuf,
    /// `path`: what is asked for. It must be under what the proxy protects. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// `apply_timeout_ms`: how long the proxy may take to work with a new list. Default 10000.
    #[serde(default = "apply_timeout", deserialize_with = "apply_timeout_ms")]
    pub apply_timeout_ms: u64,
}

impl ProbeConfig {
    /// How long the proxy may take to work with a new list.
    pub const fn apply_timeout(&self) -> Duration {
        Duration::from_millis(self.apply_timeout_ms)
    }
}

/// `[haproxy]`: files as the proxy's configuration names them, letter by letter, and its runtime socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaproxyConfig {
    /// `socket`: the `stats socket` with `level admin`.
    pub socket: PathBuf,
    /// `ca_file`: the `ca-file` of the `bind` line.
    pub ca_file: PathBuf,
    /// `crl_file`: its `crl-file`.
    pub crl_file: PathBuf,
    /// `revoked_map`: the map of serials that are denied at each request.
    pub revoked_map: PathBuf,
    /// `lease_map`: the map with the second until which requests are let through.
    pub lease_map: PathBuf,
}

/// `[nginx]`: files as the proxy's configuration names them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NginxConfig {
    /// `ca_file`: the `ssl_client_certificate`.
    pub ca_file: PathBuf,
    /// `crl_file`: the `ssl_crl`.
    pub crl_file: PathBuf,
    /// `pid_file`: the `pid` of the master process, which is told to reload.
    pub pid_file: PathBuf,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: String,
    server_name: Option<String>,
    trust_domain: String,
    arc: Option<String>,
    identity: Option<PathBuf>,
    state: Option<PathBuf>,
    #[serde(default)]
    pausable: bool,
    stream_cut_ms: Option<u32>,
    #[serde(default)]
    log: Log,
    authz: AuthzConfig,
    probe: ProbeConfig,
    haproxy: Option<HaproxyConfig>,
    nginx: Option<NginxConfig>,
}

impl AgentConfig {
    /// Reads a configuration file. A path that is not absolute is taken from its folder.
    ///
    /// # Errors
    /// What is wrong with it, with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (text, folder) = read_text(path)?;
        Self::parse(&text, folder)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, toml::de::Error> {
        let file: File = toml::from_str(text)?;
        let at = |path: &PathBuf| resolve(folder, path);
        let or = |path: Option<PathBuf>, usual: &str| {
            resolve(folder, &path.unwrap_or_else(|| PathBuf::from(usual)))
        };
        let mut authz = file.authz;
        if let LocalAddress::Unix(path) = &mut authz.listen {
            *path = at(path);
        }
        Ok(Self {
            server: file.server,
            server_name: file.server_name,
            trust_domain: file.trust_domain,
            arc: file.arc,
            identity: or(file.identity, "identity"),
            state: or(file.state, "state"),
            pausable: file.pausable,
            stream_cut_ms: file.stream_cut_ms.unwrap_or(60_000),
            log: file.log,
            authz,
            probe: ProbeConfig { ca: at(&file.probe.ca), ..file.probe },
            haproxy: file.haproxy.map(|of| HaproxyConfig { socket: at(&of.socket), ..of }),
            nginx: file.nginx.map(|of| NginxConfig {
                ca_file: at(&of.ca_file),
                crl_file: at(&of.crl_file),
                pid_file: at(&of.pid_file),
            }),
        })
    }
}

fn certificate_header() -> String {
    "x-ssl-client-cert".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

const fn apply_timeout() -> u64 {
    10_000
}

fn apply_timeout_ms<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let ms = u64::deserialize(d)?;
    if !APPLY_TIMEOUT_MS.contains(&ms) {
        let (from, to) = (APPLY_TIMEOUT_MS.start(), APPLY_TIMEOUT_MS.end());
        return Err(D::Error::custom(format!("{from} to {to} ms are allowed")));
    }
    Ok(ms)
}

fn local<'de, D: Deserializer<'de>>(d: D) -> Result<LocalAddress, D::Error> {
    let text = String::deserialize(d)?;
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(LocalAddress::Unix(PathBuf::from(path)));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(LocalAddress::Tcp(address)),
        Ok(_) | Err(_) => Err(D::Error::custom(format!(
            "{text:?}: a loopback address and port, or unix:PATH, is needed, for whoever reaches it is believed to be the \
             proxy"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &str = r#"
        server = "countersign.example:7443"
        trust_domain = "example.org"
        [authz]
        listen = "127.0.0.1:9444"
        [probe]
        address = "127.0.0.1:443"
        server_name = "gateway.example"
        ca = "proxy-ca.pem"
    "#;

    fn parse(text: &str) -> Result<AgentConfig, toml::de::Error> {
        AgentConfig::parse(text, Path::new("/etc/agent"))
    }

    #[test]
    fn what_is_left_out_has_the_documented_default() {
        let config = parse(NEEDED).unwrap();
        assert_eq!(config.identity, Path::new("/etc/agent/identity"));
        assert_eq!(config.state, Path::new("/etc/agent/state"));
        assert_eq!(config.probe.ca, Path::new("/etc/agent/proxy-ca.pem"));
        assert_eq!((config.probe.path.as_str(), config.probe.apply_timeout_ms), ("/", 10_000));
        assert_eq!(config.authz.certificate_header, "x-ssl-client-cert");
        assert_eq!((config.authz.model_header, config.authz.place_header), (None, None));
        assert_eq!((config.pausable, config.stream_cut_ms), (false, 60_000));
        assert!(config.haproxy.is_none() && config.nginx.is_none());
    }

    #[test]
    fn the_endpoint_is_on_this_machine_only() {
        for (listen, fits) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("unix:authz.sock", true),
            ("unix:", false),
            ("0.0.0.0:1", false),
            ("192.168.1.1:1", false),
            ("localhost", false),
        ] {
            let text = NEEDED.replace("127.0.0.1:9444", listen);
            assert_eq!(parse(&text).is_ok(), fits, "{listen}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        for added in
            ["nothing = 1\n", "[nginx]\nca_file = \"a\"\ncrl_file = \"b\"\npid_file = \"c\"\nx = 1\n"]
        {
            let text =
                if added.starts_with('[') { format!("{NEEDED}{added}") } else { format!("{added}{NEEDED}") };
            assert!(parse(&text).unwrap_err().to_string().contains("unknown field"), "{added}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_changed_the_endpoint_is_on_this_machine(
            edits in proptest::collection::vec((0_usize..400, "[ -~\n\\PC]{0,3}"), 1..6),
        ) {
            let mut text = NEEDED.to_owned();
            for (at, with) in edits {
                let at = (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap();
                let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(at);
                text.replace_range(at..end, &with);
            }
            if let Ok(config) = parse(&text) {
                match config.authz.listen {
                    LocalAddress::Tcp(address) => assert!(address.ip().is_loopback(), "{text}"),
                    LocalAddress::Unix(path) => assert!(path.is_absolute(), "{text}"),
                }
                assert!(config.probe.ca.is_absolute() && config.identity.is_absolute());
            }
        }
    }
}
