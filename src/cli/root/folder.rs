//! The folder of a root: its key, its certificate, its newest revocation list, what it certified, and the log of ceremonies.
//!
//! What a ceremony signs stands in the folder before it leaves it, and in the log before it leaves it; so what is out is on
//! record, however a ceremony was interrupted.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::ca::key_file::is_sealed;
use crate::ca::{FileSigner, KeyFileFault, SignatureAlgorithm, Signer};
use crate::cli::Failure;
use crate::cli::files::{self, Access};
use crate::cli::unlock::Unlock;
use crate::domain::certificate::Serial;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;
use crate::x509::bundle::{certificate_pem, crl_pem};
use crate::x509::{Curve, Root, RootList};

const KEY: &str = "root.key.pem";
const CERTIFICATE: &str = "root.pem";
const LIST: &str = "root.crl";
const ISSUED: &str = "issued";
const LOG: &str = "ceremony.log";

/// A folder, which may hold a root.
pub(super) struct Folder(PathBuf);

/// A line of the log.
pub(super) struct Step {
    /// What was done, one word.
    pub(super) what: &'static str,
    /// When, by the clock of this machine.
    pub(super) at: Timestamp,
    /// The serial of what was signed, or its number.
    pub(super) serial: String,
    /// SHA-256 of what was signed.
    pub(super) sha256: Digest,
    /// For whom, in words.
    pub(super) about: String,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn make(&self) -> Result<(), Failure> {
        files::make_folder(&self.0)
    }

    pub(super) fn key_path(&self) -> PathBuf {
        self.0.join(KEY)
    }

    pub(super) fn certificate_path(&self) -> PathBuf {
        self.0.join(CERTIFICATE)
    }

    pub(super) fn list_path(&self) -> PathBuf {
        self.0.join(LIST)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.0.join(LOG)
    }

    /// The root in it.
    pub(super) fn root(&self) -> Result<Root, Failure> {
        let path = self.certificate_path();
        if !path.exists() {
            let (folder, path) = (self.0.display(), path.display());
            let why =
                format!("{path} does not exist; make a root first: countersign root new --out {folder}");
            return Err(Failure(why));
        }
        let der = files::read_der(&path, "CERTIFICATE")?;
        Root::from_der(&der).map_err(|fault| Failure(format!("{}: {fault}", path.display())))
    }

    /// Its key, opened with what the caller named.
    pub(super) fn signer(&self, unlock: &Unlock) -> Result<Box<dyn Signer>, Failure> {
        let path = self.key_path();
        let passphrase = unlock.for_key(&path)?;
        let signer = FileSigner::load_with(&path, passphrase.as_deref());
        Ok(Box::new(signer.map_err(|fault| Failure(format!("{}: {fault}", path.display())))?))
    }

    /// Makes its key, encrypted unless it may be plain. One that an interrupted run left, which signed nothing, is taken.
    pub(super) fn make_key(&self, curve: Curve, unlock: &Unlock, may_be_plain: bool) -> Result<(), Failure> {
        let path = self.key_path();
        let named = |fault: KeyFileFault| Failure(format!("{}: {fault}", path.display()));
        if !path.exists() {
            let passphrase = unlock.for_new(&path)?;
            let made =
                FileSigner::create_with(&path, SignatureAlgorithm::Ecdsa(curve), passphrase.as_deref());
            made.map_err(named)?;
        }
        if may_be_plain || is_sealed(&path).map_err(named)? {
            return Ok(());
        }
        Err(Failure(format!(
            "{} was left by an interrupted run and is not encrypted\n  encrypt it: countersign key encrypt {} --new-passphrase ask",
            path.display(),
            path.display()
        )))
    }

    /// Its newest revocation list; none: it has signed none.
    pub(super) fn list(&self, root: &Root) -> Result<Option<RootList>, Failure> {
        let path = self.list_path();
        if !path.exists() {
            return match self.log()?.lines().any(|line| line.contains(" crl ")) {
                false => Ok(None),
                true => Err(Failure(format!(
                    "{} is missing, and {} says that this root has signed lists; put the newest one back: a list that \
                     forgets a revocation would undo it",
                    path.display(),
                    self.log_path().display()
                ))),
            };
        }
        let list = RootList::read(&files::read_der(&path, "X509 CRL")?, root);
        list.map(Some).map_err(|fault| Failure(format!("{}: {fault}", path.display())))
    }

    /// The highest number of a list that the log names: one may have been logged and lost.
    pub(super) fn last_number(&self) -> Result<u64, Failure> {
        let log = self.log()?;
        let lists = log.lines().filter(|line| line.contains(" crl "));
        let numbers = lists.filter_map(|line| line.split(" serial=").nth(1)?.split(' ').next()?.parse().ok());
        Ok(numbers.max().unwrap_or_default())
    }

    fn log(&self) -> Result<String, Failure> {
        let path = self.log_path();
        if path.exists() { files::read_text(&path) } else { Ok(String::new()) }
    }

    pub(super) fn keep_root(&self, root: &Root) -> Result<(), Failure> {
        let pem = certificate_pem(root.certificate().der());
        files::write(&self.certificate_path(), pem.as_bytes(), Access::Public)
    }

    pub(super) fn keep_issued(&self, serial: Serial, der: &[u8]) -> Result<(), Failure> {
        let folder = self.0.join(ISSUED);
        files::make_folder(&folder)?;
        let path = folder.join(format!("{}.pem", hex::encode(serial.as_bytes())));
        files::write(&path, certificate_pem(der).as_bytes(), Access::Public)
    }

    pub(super) fn keep_list(&self, der: &[u8]) -> Result<(), Failure> {
        files::write(&self.list_path(), crl_pem(der).as_bytes(), Access::Public)
    }

    /// Writes a line to the end of the log, durably.
    pub(super) fn note(&self, step: &Step) -> Result<(), Failure> {
        let path = self.log_path();
        let failed = |e: std::io::Error| Failure(format!("cannot write {}: {e}", path.display()));
        let Step { what, at, serial, sha256, about } = step;
        let line = format!("{at} {what} serial={serial} sha256={sha256} {about}\n");
        let mut log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        log.write_all(line.as_bytes()).and_then(|()| log.sync_all()).map_err(failed)
    }

    /// Logs a list that an interrupted ceremony signed and did not log.
    pub(super) fn note_unlogged(&self, at: Timestamp) -> Result<(), Failure> {
        let path = self.list_path();
        if !path.exists() {
            return Ok(());
        }
        let sha256 = Digest::of(&files::read_der(&path, "X509 CRL")?);
        if self.log()?.contains(&format!(" sha256={sha256} ")) {
            return Ok(());
        }
        let serial = "unknown".to_owned();
        self.note(&Step {
            what: "crl-found",
            at,
            serial,
            sha256,
            about: "an interrupted ceremony".to_owned(),
        })
    }
}
