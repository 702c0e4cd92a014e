//! `[keys]`: where the private keys are.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{PassphraseSource, Pkcs11Config, resolve};

/// `[keys]`: PKCS#8 PEM files of mode 0600, encrypted or not. Default: `keys/NAME.pem` in the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// `access`: signs certificates of people and workloads.
    pub access: PathBuf,
    /// `system`: signs certificates of officers, gateways, partners and the server.
    pub system: PathBuf,
    /// `log`: signs heads of the journal (Ed25519).
    pub log: PathBuf,
    /// `server`: the server's own key for TLS.
    pub server: PathBuf,
    /// `passphrase`: where that of the encrypted ones is; new keys are encrypted with it. Default: none.
    pub passphrase: Option<PassphraseSource>,
    /// `[keys.pkcs11]`: a token with keys. Default: none.
    pub pkcs11: Option<Pkcs11Config>,
}

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeysSection {
    access: Option<PathBuf>,
    system: Option<PathBuf>,
    log: Option<PathBuf>,
    server: Option<PathBuf>,
    passphrase: Option<PassphraseSource>,
    pub(super) pkcs11: Option<Pkcs11Config>,
}

impl KeysSection {
    /// With paths that are not absolute taken from the folder of the configuration, and without one from that of the data.
    pub(super) fn at(self, folder: &Path, data: &Path) -> KeyFiles {
        let usual = KeyFiles::of(data);
        let key = |path: Option<PathBuf>, usual| path.map_or(usual, |path| resolve(folder, &path));
        KeyFiles {
            access: key(self.access, usual.access),
            system: key(self.system, usual.system),
            log: key(self.log, usual.log),
            server: key(self.server, usual.server),
            passphrase: self.passphrase.map(|source| source.at(folder)),
            pkcs11: self.pkcs11.map(|token| token.at(folder)),
        }
    }
}

impl KeyFiles {
    /// The files of a data folder.
    pub fn of(data: &Path) -> Self {
        let key = |name| data.join("keys").join(name);
        Self {
            access: key("access.pem"),
            system: key("system.pem"),
            log: key("log.pem"),
            server: key("server.pem"),
            passphrase: None,
            pkcs11: None,
        }
    }

    /// The folder of the keys of later authorities, each in a file with its id: `authorities`, beside the first ones.
    pub fn authorities(&self) -> PathBuf {
        self.access.with_file_name("authorities")
    }
}
