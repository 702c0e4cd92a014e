//! Files with private keys: who may read them, how they are written, and how the passphrase of one is changed.
//!
//! What is in them is the matter of `x509::sealed`. A key is never lost: a file is replaced by one that was read back.
//! Callers: ca, server, cli.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::pkcs11::TokenFault;
use crate::x509::sealed::{self, Passphrase, SealFault};

/// The longest key file: an encrypted P-384 key has 500 bytes of PEM.
const KEY_FILE_LEN_MAX: u64 = 16 * 1024;

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileFault {
    /// The file cannot be read or written.
    #[error("the key file cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// Others than its owner may read or change it.
    #[error("the key file has mode {mode:04o}; 0600 or narrower is needed")]
    Mode {
        /// The permission bits.
        mode: u32,
    },
    /// Not a regular file.
    #[error("the key file is not a regular file")]
    NotFile,
    /// Longer than any key.
    #[error("the key file is longer than 16 KiB")]
    TooLarge,
    /// Not PKCS#8 in PEM, or encrypted and not opened.
    #[error("the key file cannot be opened: {0}")]
    Sealed(#[from] SealFault),
    /// Others than its owner may put another file in its place.
    #[error("the folder {} has mode {mode:04o}: others could put another key there; 0755 or narrower is needed", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key that is neither ECDSA on P-256 or P-384 nor Ed25519.
    #[error("the key is neither P-256, P-384 nor Ed25519")]
    UnsupportedKey,
    /// The token with the key.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The library could not make a key.
    #[error("no key could be generated")]
    Generate,
}

/// Reads a file with a private key, whatever is in it; it is wiped when it is dropped.
///
/// # Errors
/// It is not a file of at most 16 KiB that nobody but its owner may read or change, in a folder of the same kind.
pub fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileFault> {
    // The open file is asked, not the path, so that nobody can swap it in between.
    let file = File::open(path)?;
    check_folder(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(KeyFileFault::NotFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(KeyFileFault::Mode { mode });
    }
    if metadata.len() > KEY_FILE_LEN_MAX {
        return Err(KeyFileFault::TooLarge);
    }
    // Room for all of it at once: a buffer that grows would leave copies behind.
    let room = usize::try_from(KEY_FILE_LEN_MAX).unwrap_or(usize::MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(KEY_FILE_LEN_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Seals the key in a file with another passphrase, or with the first. The old file is replaced, in one step, by a new one
/// that was read back and opened; whatever fails, a file with the key is there.
///
/// # Errors
/// The file cannot be opened with `from`, or the new one cannot be written.
pub fn reseal(path: &Path, from: Option<&Passphrase>, to: &Passphrase) -> Result<(), KeyFileFault> {
    let pkcs8 = sealed::open(&read_key_file(path)?, from)?;
    let text = sealed::to_pem(&pkcs8, Some(to))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match std::fs::remove_file(&new) {
        // Left by an attempt that was interrupted: the key is still in the file itself.
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    write_new(&new, text.as_bytes())?;
    let written = sealed::open(&read_key_file(&new)?, Some(to))?;
    if *written != *pkcs8 {
        return Err(SealFault::Seal.into());
    }
    std::fs::rename(&new, path)?;
    sync_folder(path)
}

/// Is the key in a file encrypted?
///
/// # Errors
/// The file cannot be used.
pub fn is_sealed(path: &Path) -> Result<bool, KeyFileFault> {
    Ok(sealed::is_sealed(&read_key_file(path)?))
}

/// Who may write to a folder may put another file in the place of one in it; the sticky bit forbids that.
fn check_folder(path: &Path) -> Result<(), KeyFileFault> {
    let folder = folder_of(path);
    let mode = std::fs::metadata(folder)?.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(KeyFileFault::Folder { folder: folder.to_owned(), mode });
    }
    Ok(())
}

pub(super) fn write_new(path: &Path, text: &[u8]) -> Result<(), KeyFileFault> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    sync_folder(path)
}

/// The name of a new file is durable only with its folder.
fn sync_folder(path: &Path) -> Result<(), KeyFileFault> {
    Ok(File::open(folder_of(path))?.sync_all()?)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}
