//! What the fuzz targets share: seeds from a real session, and DER with one element changed.
//!
//! `tests/run` builds the targets without a sanitizer, on stable: the code under test has no `unsafe`, so what can go wrong is
//! a panic, an overflow, a loop or memory without bound, and libFuzzer sees all of them. By hand, for longer:
//!
//! ```sh
//! cargo test --features faults --test it seeds                # writes target/fuzz/seeds
//! mkdir -p target/fuzz/corpus/leaf
//! cargo fuzz run -s none --target-dir target/fuzz leaf target/fuzz/corpus/leaf target/fuzz/seeds/leaf
//! ```

pub mod agent;
pub mod der;
pub mod people;
pub mod sds;
pub mod service;
#[path = "../../src/domain/word.rs"]
mod word;

/// What the files of the service that are taken in name as their own (`agent`, `people`, `sds`, `service`).
mod app {
    pub use countersign::x509::CrlNumber;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Term {
        Leased,
        Unleased,
    }
}
mod domain {
    pub(crate) use crate::word;
    pub use countersign::domain::*;
}
mod cli {
    #[derive(Debug, PartialEq, Eq)]
    pub struct Failure(pub String);

    impl<E: std::error::Error> From<E> for Failure {
        fn from(error: E) -> Self {
            Self(error.to_string())
        }
    }
}
mod client {
    pub use countersign::client::Answer;
}
mod config {
    pub mod agent {
        use std::net::SocketAddr;
        use std::path::PathBuf;

        pub struct AuthzConfig {
            pub certificate_header: String,
            pub model: Option<String>,
            pub model_header: Option<String>,
            pub place_header: Option<String>,
            pub access_form: Option<String>,
            pub serving_region: Option<String>,
            pub purpose: Option<String>,
        }

        pub enum LocalAddress {
            #[expect(dead_code, reason = "the fuzzer asks over a Unix socket")]
            Tcp(SocketAddr),
            Unix(PathBuf),
        }
    }
}
mod envoy {
    pub use crate::service::asked;
}
use countersign::pb;

use std::path::Path;
use std::sync::OnceLock;

use countersign::x509::{Arc, Profile, TrustBundle};

/// Where `tests/it/seeds.rs` leaves what it saw.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz/seeds");

/// A file of the seeds. Without it a target would look at next to nothing, so it does not begin.
pub fn seed(name: &str) -> Vec<u8> {
    let path = Path::new(SEEDS).join(name);
    let run = "cargo test --features faults --test it seeds";
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; first: {run}", path.display()))
}

/// The same, of a length that is known.
pub fn array<const N: usize>(name: &str) -> [u8; N] {
    seed(name).try_into().unwrap_or_else(|seed: Vec<u8>| panic!("{name} has {} bytes, not {N}", seed.len()))
}

/// The profile of the certificates in the seeds. Without a CRL base any is read, as in a gateway.
pub fn profile() -> &'static Profile {
    static PROFILE: OnceLock<Profile> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let trust_domain = "test.example".parse().expect("a trust domain");
        Profile::new(trust_domain, Arc::default(), None)
    })
}

/// The authorities that issued the certificates in the seeds.
pub fn bundle() -> &'static TrustBundle {
    static BUNDLE: OnceLock<TrustBundle> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let pem = String::from_utf8(seed("bundle.pem")).expect("PEM");
        TrustBundle::from_pem(&pem).expect("a bundle")
    })
}
