//! Where the service's keys are: files, or a token for those that the configuration names on it. Opened once a process.

use std::path::Path;
use std::sync::Arc;

use super::keys::KeyError;
use crate::app::Keys;
use crate::ca::pkcs11::{TokenAuthorities, TokenFault, TokenKeys, TokenSettings};
use crate::ca::{AuthorityKeys, FileSigner, KeyFolder, SignatureAlgorithm, Signer};
use crate::config::{KeyFiles, NewKeys};
use crate::domain::pkcs11::Pkcs11Uri;
use crate::x509::Passphrase;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// The access authority of genesis.
    Access,
    /// The system authority of genesis.
    System,
    /// The heads of the record.
    Log,
    /// The server's TLS; always a file.
    Server,
}

/// The keys of a configuration.
pub struct KeyStore<'a> {
    files: &'a KeyFiles,
    passphrase: Option<Arc<Passphrase>>,
    token: Option<TokenKeys>,
}

impl<'a> KeyStore<'a> {
    /// Connects to the token, if there is one.
    ///
    /// # Errors
    /// The token is not there, or refused its PIN, which was tried once.
    pub fn open(files: &'a KeyFiles, passphrase: Option<Arc<Passphrase>>) -> Result<Self, KeyError> {
        let token = match &files.pkcs11 {
            None => None,
            Some(config) => Some(TokenKeys::open(TokenSettings {
                module: config.module.clone(),
                token: config.token.clone(),
                pin: config.pin.read().map_err(KeyError::Pin)?,
                sessions: config.sessions,
                timeout_ms: config.timeout_ms,
            })?),
        };
        Ok(Self { files, passphrase, token })
    }

    /// A key that exists.
    ///
    /// # Errors
    /// It does not, or cannot be used.
    pub fn key(&self, role: KeyRole) -> Result<Arc<dyn Signer>, KeyError> {
        let (token, name) = match self.place(role) {
            Place::Token(token, name) => (token, name),
            Place::File(path) => {
                return self.file(path, FileSigner::load_with(path, self.passphrase.as_deref()));
            }
        };
        let missing = || TokenFault::Key(format!("the key {name} is not on the token"));
        Ok(Arc::new(token.key(name)?.ok_or_else(missing)?))
    }

    /// A key: an interrupted run left it, or it is made now.
    ///
    /// # Errors
    /// It cannot be made, or the one that is there cannot be used.
    pub fn key_or_new(
        &self,
        role: KeyRole,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyError> {
        match self.place(role) {
            Place::File(path) if path.exists() => self.key(role),
            Place::File(path) => {
                self.file(path, FileSigner::create_with(path, algorithm, self.passphrase.as_deref()))
            }
            Place::Token(token, name) => match token.key(name)? {
                Some(key) => Ok(Arc::new(key)),
                None => Ok(Arc::new(token.make(name, algorithm)?)),
            },
        }
    }

    /// All that a service signs with.
    ///
    /// # Errors
    /// One of them cannot be used; which, and what is wrong with it.
    pub fn load(self) -> Result<Keys, KeyError> {
        let folder = KeyFolder::new(self.files.authorities()).sealed_with(self.passphrase.clone());
        let folder: Arc<dyn AuthorityKeys> = Arc::new(folder);
        Ok(Keys {
            access: self.key(KeyRole::Access)?,
            system: self.key(KeyRole::System)?,
            log: self.key(KeyRole::Log)?,
            authorities: match (self.token, &self.files.pkcs11) {
                (Some(token), Some(config)) => {
                    let is_new_there = config.new_keys == NewKeys::Token;
                    let keys = TokenAuthorities::new(token, folder);
                    Arc::new(if is_new_there { keys } else { keys.making_files() })
                }
                (Some(_) | None, _) => folder,
            },
        })
    }

    fn file(
        &self,
        path: &Path,
        signer: Result<FileSigner, crate::ca::KeyFileFault>,
    ) -> Result<Arc<dyn Signer>, KeyError> {
        let signer = signer.map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Ok(Arc::new(signer))
    }

    fn place(&self, role: KeyRole) -> Place<'_> {
        let config = self.files.pkcs11.as_ref();
        let (path, name) = match role {
            KeyRole::Access => (&self.files.access, config.and_then(|config| config.access.as_ref())),
            KeyRole::System => (&self.files.system, config.and_then(|config| config.system.as_ref())),
            KeyRole::Log => (&self.files.log, config.and_then(|config| config.log.as_ref())),
            KeyRole::Server => (&self.files.server, None),
        };
        match (&self.token, name) {
            (Some(token), Some(name)) => Place::Token(token, name),
            (Some(_) | None, _) => Place::File(path),
        }
    }
}

enum Place<'a> {
    File(&'a Path),
    Token(&'a TokenKeys, &'a Pkcs11Uri),
}
