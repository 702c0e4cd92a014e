//! Where the keys of authorities are: each under the id of its authority, made here and never anywhere else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::key_file::KeyFileFault;
use super::signer::{FileSigner, SignatureAlgorithm, Signer};
use crate::domain::id::AuthorityId;
use crate::x509::{Curve, Passphrase};

/// Private keys by the ids of their authorities.
pub trait AuthorityKeys: Send + Sync {
    /// Makes the key of a new authority. It is durable when this returns.
    ///
    /// # Errors
    /// There is one already, or it cannot be kept.
    fn make(&self, authority: AuthorityId, curve: Curve) -> Result<Arc<dyn Signer>, KeyFileFault>;

    /// The key of an authority, if it is here.
    ///
    /// # Errors
    /// It is here and cannot be used.
    fn find(&self, authority: AuthorityId) -> Result<Option<Arc<dyn Signer>>, KeyFileFault>;

    /// Whose keys are here.
    ///
    /// # Errors
    /// They cannot be listed.
    fn list(&self) -> Result<Vec<AuthorityId>, KeyFileFault>;

    /// Sets a key aside that no record names: it is not found any more, and not destroyed, for the record may be the one that
    /// is wrong.
    ///
    /// # Errors
    /// It is still there.
    fn set_aside(&self, authority: AuthorityId) -> Result<(), KeyFileFault>;

    /// Keeps the request of a key that a root is to certify: until that comes back, no record names the key, and it is not
    /// set aside.
    ///
    /// # Errors
    /// It cannot be kept.
    fn keep_request(&self, authority: AuthorityId, request: &[u8]) -> Result<(), KeyFileFault>;

    /// The request of a key, if one was kept.
    ///
    /// # Errors
    /// It is here and cannot be read.
    fn request(&self, authority: AuthorityId) -> Result<Option<Vec<u8>>, KeyFileFault>;

    /// Destroys a key that never was an authority's.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, authority: AuthorityId) -> Result<(), KeyFileFault>;
}

/// A folder with a file for each: `ID.pem`, as [`FileSigner`] has them.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    folder: PathBuf,
    passphrase: Option<Arc<Passphrase>>,
}

impl KeyFolder {
    /// In this folder, which is made with the first key.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, passphrase: None }
    }

    /// With a passphrase that opens keys and that new ones are encrypted with.
    #[must_use]
    pub fn sealed_with(self, passphrase: Option<Arc<Passphrase>>) -> Self {
        Self { passphrase, ..self }
    }

    fn make_folder(&self) -> Result<(), KeyFileFault> {
        use std::os::unix::fs::DirBuilderExt as _;
        match std::fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, authority: AuthorityId) -> PathBuf {
        self.folder.join(format!("{authority}.pem"))
    }
}

impl AuthorityKeys for KeyFolder {
    fn make(&self, authority: AuthorityId, curve: Curve) -> Result<Arc<dyn Signer>, KeyFileFault> {
        self.make_folder()?;
        let (path, algorithm) = (self.path(authority), SignatureAlgorithm::Ecdsa(curve));
        Ok(Arc::new(FileSigner::create_with(&path, algorithm, self.passphrase.as_deref())?))
    }

    fn find(&self, authority: AuthorityId) -> Result<Option<Arc<dyn Signer>>, KeyFileFault> {
        match FileSigner::load_with(&self.path(authority), self.passphrase.as_deref()) {
            Ok(signer) => Ok(Some(Arc::new(signer))),
            Err(KeyFileFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn list(&self) -> Result<Vec<AuthorityId>, KeyFileFault> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let id: Option<AuthorityId> =
                name.to_str().and_then(|name| name.strip_suffix(".pem")?.parse().ok());
            found.extend(id);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn set_aside(&self, authority: AuthorityId) -> Result<(), KeyFileFault> {
        let path = self.path(authority);
        Ok(std::fs::rename(&path, path.with_extension("pem.unused"))?)
    }

    fn keep_request(&self, authority: AuthorityId, request: &[u8]) -> Result<(), KeyFileFault> {
        use std::io::Write as _;
        self.make_folder()?;
        let path = self.path(authority).with_extension("csr");
        let new = path.with_extension("csr.new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(request)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        // The name is durable only with its folder.
        Ok(std::fs::File::open(&self.folder)?.sync_all()?)
    }

    fn request(&self, authority: AuthorityId) -> Result<Option<Vec<u8>>, KeyFileFault> {
        match std::fs::read(self.path(authority).with_extension("csr")) {
            Ok(request) => Ok(Some(request)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, authority: AuthorityId) -> Result<(), KeyFileFault> {
        match std::fs::remove_file(self.path(authority)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
