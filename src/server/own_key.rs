//! The server's own key, as it is in its file now. An encrypted one takes a fifth of a second to open, so that is done only
//! when the file is another one.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::keys::KeyError;
use crate::ca::read_key_file;
use crate::x509::{ClientKey, Passphrase, sealed};

/// What changes with a file: inode, length, and when it was changed, in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

pub(super) struct OwnKey {
    path: PathBuf,
    passphrase: Option<Arc<Passphrase>>,
    last: Mutex<Option<(Stamp, Arc<ClientKey>)>>,
}

impl OwnKey {
    pub(super) const fn new(path: PathBuf, passphrase: Option<Arc<Passphrase>>) -> Self {
        Self { path, passphrase, last: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The key in the file.
    pub(super) fn read(&self) -> Result<Arc<ClientKey>, KeyError> {
        let io = |source| KeyError::Io { path: self.path.clone(), source };
        let metadata = std::fs::metadata(&self.path).map_err(io)?;
        let stamp = (metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = last.as_ref()
            && *of == stamp
        {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.load()?);
        *last = Some((stamp, Arc::clone(&key)));
        Ok(key)
    }

    fn load(&self) -> Result<ClientKey, KeyError> {
        let failed = |source| KeyError::File { path: self.path.clone(), source };
        let text = read_key_file(&self.path).map_err(failed)?;
        let pkcs8 = sealed::open(&text, self.passphrase.as_deref()).map_err(|fault| failed(fault.into()))?;
        ClientKey::from_pkcs8(&pkcs8).map_err(|_| KeyError::ServerKey(self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{FileSigner, SignatureAlgorithm};
    use crate::x509::Curve;

    #[test]
    fn another_file_is_another_key_and_the_same_is_not_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.pem");
        let make = || FileSigner::create(&path, SignatureAlgorithm::Ecdsa(Curve::P256)).unwrap();
        make();
        let own = OwnKey::new(path.clone(), None);
        let first = own.read().unwrap();
        assert!(Arc::ptr_eq(&first, &own.read().unwrap()));
        std::fs::remove_file(&path).unwrap();
        assert!(own.read().is_err());
        make();
        assert_ne!(own.read().unwrap().public_key(), first.public_key());
    }
}
