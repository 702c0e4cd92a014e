//! `[listeners.GATEWAY]`: the certificate of an Envoy's own listener, which the service pushes to that gateway and to
//! nobody else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::resolve;
use crate::domain::id::PrincipalId;

/// The most gateways with a pair: as many as are named among the metrics.
const LISTENERS_MAX: usize = 1_000;

/// The files of each gateway that has a pair.
pub type Listeners = BTreeMap<PrincipalId, ListenerFiles>;

/// `[listeners.GATEWAY]`: two PEM files, read again whenever they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerFiles {
    /// `chain`: the listener's certificate and those above it, in the order in which TLS sends them. No default.
    pub chain: PathBuf,
    /// `key`: the private key of the first of them, in a file of mode 0600. No default.
    pub key: PathBuf,
}

impl ListenerFiles {
    /// With paths that are not absolute taken from this folder.
    pub(super) fn at(self, folder: &Path) -> Self {
        Self { chain: resolve(folder, &self.chain), key: resolve(folder, &self.key) }
    }
}

pub(super) fn listeners<'de, D: Deserializer<'de>>(d: D) -> Result<Listeners, D::Error> {
    let named = BTreeMap::<String, ListenerFiles>::deserialize(d)?;
    if named.len() > LISTENERS_MAX {
        return Err(D::Error::custom(format!("at most {LISTENERS_MAX} gateways can have a listener here")));
    }
    let read = |(name, files): (String, ListenerFiles)| {
        let gateway =
            name.parse().map_err(|e| D::Error::custom(format!("{name:?} is no gateway's name: {e}")))?;
        Ok((gateway, files))
    };
    named.into_iter().map(read).collect()
}
