//! `countersign init`: makes a service in two steps. The first makes keys, authorities and genesis; both officers sign
//! genesis on their own machines; the second records it and issues their certificates. No officer's private key is seen.
//!
//! Interrupted, either step is simply run again. Nothing that exists is replaced, and a finished service is left alone.

mod beneath;
mod complete;
mod genesis;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::Named;
use super::unlock::Unlock;
use super::{Failure, Outcome, Output};
use crate::ca::SignatureAlgorithm;
use crate::config::{HostName, PassphraseSource};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::PrincipalId;
use crate::domain::pkcs11::Pkcs11Uri;
use crate::x509::{Arc, CrlBase, Curve, TrustDomain};

pub(super) use genesis::{decode, describe};

const GENESIS: &str = "genesis.cbor";
const CONFIG: &str = "countersign.toml";
const KEYS: &str = "keys";
const REQUESTS: &str = "requests";
const ACCESS_REQUEST: &str = "access.csr";
const SYSTEM_REQUEST: &str = "system.csr";
const JOURNAL: &str = "journal";
const OFFICERS: &str = "officers";
const TRUST: &str = "trust";

/// What `init` and a service make in a data folder. A folder with anything else in it is somebody else's.
const OURS: &[&str] = &[
    GENESIS,
    CONFIG,
    KEYS,
    REQUESTS,
    ACCESS_REQUEST,
    SYSTEM_REQUEST,
    JOURNAL,
    OFFICERS,
    TRUST,
    "decisions",
    "snapshots",
    "views",
    "server-certificate.pem",
    "genesis.cbor.new",
];

/// Make a new service: keys, authorities and genesis, signed by two officers.
///
/// The first step takes the officers' certificate requests and prints what they must check and sign. The second takes
/// their signatures, records genesis and issues their certificates.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    countersign init --data ./data --trust-domain example.org --policy deploy/policy \\\n      \
        --provider-name 'Example AI' --officer alice=alice.csr --officer bob=bob.csr\n  \
    countersign officer sign-genesis --key alice/key.pem --genesis data/genesis.cbor --out alice.sig\n  \
    countersign init --data ./data --signature alice=alice.sig --signature bob=bob.sig\n\n\
    Beneath an offline root, the first step is run twice, the second time with what the root signed:\n  \
    countersign init --data ./data ... --offline-root\n  \
    countersign init --data ./data ... --offline-root --certificate access.pem --certificate system.pem \\\n      \
        --root root.pem --root-crl root.crl")]
pub(super) struct Arguments {
    /// Folder of the new service; made with mode 0700.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// An officer's signature of genesis; twice, once for each officer. Completes what the first step began.
    #[arg(long, value_name = "NAME=FILE", conflicts_with_all = ["trust_domain", "policy", "provider_name", "officer"])]
    signature: Vec<Named<PrincipalId>>,
    #[command(flatten)]
    new: New,
}

/// What the first step needs.
#[derive(Args)]
struct New {
    /// Which algorithms are used, for good: standard (P-256 by default, P-384 too) or cnsa (P-384, SHA-384, AES-256 alone, in
    /// certificates and TLS).
    #[arg(long, value_name = "PROFILE", default_value = "standard")]
    profile: AlgorithmProfile,
    /// The SPIFFE trust domain, for example example.org.
    #[arg(long, required_unless_present = "signature")]
    trust_domain: Option<TrustDomain>,
    /// Folder of the first policy bundle.
    #[arg(long, value_name = "DIR", required_unless_present = "signature")]
    policy: Option<PathBuf>,
    /// Legal name of the provider of the models.
    #[arg(long, value_name = "NAME", required_unless_present = "signature")]
    provider_name: Option<String>,
    /// An officer and the request of their key; exactly two, of two people.
    #[arg(long, value_name = "NAME=FILE", required_unless_present = "signature")]
    officer: Vec<Named<PrincipalId>>,
    /// Request of an offline recovery key (`countersign recovery new`); 2 to 16 of them, or none.
    #[arg(long, value_name = "FILE", requires = "recovery_threshold")]
    recovery_key: Vec<PathBuf>,
    /// How many recovery keys must sign: at least two.
    #[arg(long, value_name = "NUMBER", requires = "recovery_key")]
    recovery_threshold: Option<u32>,
    /// Private enterprise arc of the attributes. The default is for trials only (RFC 5612).
    #[arg(long, default_value = "1.3.6.1.4.1.32473")]
    arc: Arc,
    /// Where relying parties fetch CRLs [default: http://LISTEN/crl]
    #[arg(long, value_name = "URL")]
    crl_base_url: Option<CrlBase>,
    /// Address and port of the API.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// DNS name or address in the server's certificate; may be given several times [default: localhost, 127.0.0.1]
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<HostName>,
    /// Length of a gateway's lease in milliseconds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=60_000))]
    lease_ms: u32,
    /// How long certificates of people and workloads live, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
    ttl_hours: u32,
    /// Put both authorities beneath an offline root: the first run makes their keys and requests, the second takes what the
    /// root certified.
    #[arg(long)]
    offline_root: bool,
    /// The certificate of an authority that the root certified; twice.
    #[arg(long, value_name = "FILE", requires = "root", requires = "root_crl")]
    certificate: Vec<PathBuf>,
    /// The certificate of the root.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    root: Option<PathBuf>,
    /// The newest revocation list of the root.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    root_crl: Option<PathBuf>,
    /// A PKCS#11 module: the authorities' keys are made on its token and never leave it.
    #[arg(long, value_name = "FILE", requires_all = ["pkcs11_token", "pkcs11_pin"])]
    pkcs11_module: Option<PathBuf>,
    /// Which token: pkcs11:token=LABEL or pkcs11:serial=NUMBER.
    #[arg(long, value_name = "URI", requires = "pkcs11_module")]
    pkcs11_token: Option<Pkcs11Uri>,
    /// Where the PIN of its user is: file:PATH, credential:NAME or env:NAME.
    #[arg(long, value_name = "SOURCE", requires = "pkcs11_module")]
    pkcs11_pin: Option<PassphraseSource>,
    /// How long both authorities live, in years, when they are self-signed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    authority_years: u8,
}

pub(super) fn run(arguments: &Arguments, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    let data = &arguments.data;
    if complete::is_complete(data) {
        return Err(Failure(format!(
            "{} holds a service already; start it with `countersign serve --config {}`",
            data.display(),
            data.join(CONFIG).display()
        )));
    }
    check_ours(data)?;
    if arguments.signature.is_empty() {
        genesis::make(data, &arguments.new, unlock, output)
    } else {
        complete::complete(data, &arguments.signature, unlock, output)
    }
}

/// Refuses a key of an authority, found on a token or in a file, that is not the profile's. Clients read the profile from it.
fn check_authority_key(kind: AuthorityKind, found: SignatureAlgorithm, new: &New) -> Result<(), Failure> {
    let curve = Curve::of_profile(new.profile);
    if found == SignatureAlgorithm::Ecdsa(curve) {
        return Ok(());
    }
    let (kind, profile, curve) = (kind.as_str(), new.profile, curve.as_str());
    Err(Failure(format!(
        "the {kind} key that is there is not {curve}, which authorities have under the profile {profile}; name another key, or \
         another --profile"
    )))
}

/// Refuses a folder that holds anything that `init` did not make.
fn check_ours(data: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure(format!("cannot read {}: {error}", data.display()))),
    };
    for entry in entries {
        let name = entry?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(Failure(format!(
                "{} is not empty: it holds {}, which `init` did not make; name a new folder",
                data.display(),
                name.display()
            )));
        }
    }
    Ok(())
}
