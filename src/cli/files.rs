//! Files that commands read and write: bounded reads, private writes that are durable before anything rests on them.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Failure;

/// The longest file that a command reads: a trust bundle is the longest.
pub(super) const FILE_LEN_MAX: u64 = 512 * 1024;
/// Who may read what a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The owner alone: 0600.
    Private,
    /// Everybody: 0644.
    Public,
}

impl Access {
    const fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Reads a file of bounded length.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure(format!("cannot read {}: {e}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(Failure(format!("{} is longer than 512 KiB", path.display())));
    }
    Ok(bytes)
}

/// Reads a text.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| Failure(format!("{} is not a text", path.display())))
}

/// Reads one PEM block with this tag, or DER.
pub(super) fn read_der(path: &Path, tag: &str) -> Result<Vec<u8>, Failure> {
    let bytes = read(path)?;
    if let [0x30, ..] = bytes.as_slice() {
        return Ok(bytes);
    }
    let blocks = pem::parse_many(&bytes).unwrap_or_default();
    // openssl writes NEW CERTIFICATE REQUEST for some of its own.
    let block = blocks.into_iter().find(|block| block.tag().ends_with(tag));
    let block = block.ok_or_else(|| Failure(format!("{} has no PEM block {tag}", path.display())))?;
    Ok(block.into_contents())
}

/// Writes a file whole or not at all, durably; what stood there before is replaced.
pub(super) fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure(format!("cannot write {}: {e}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Of this process: two commands may renew one certificate at once.
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(access.mode())
        .open(&new)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    // The name is durable only with its folder.
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Makes a folder for the owner alone, with those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Failure(format!("cannot make {}: {e}", path.display())))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// `name=FILE`, as in `--officer alice=alice.csr`.
#[derive(Debug, Clone)]
pub(super) struct Named<T> {
    pub(super) name: T,
    pub(super) path: PathBuf,
}

impl<T: std::str::FromStr<Err: std::fmt::Display>> std::str::FromStr for Named<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("NAME=FILE is needed")?;
        if path.is_empty() {
            return Err("a file must follow the name".to_owned());
        }
        Ok(Self { name: name.parse().map_err(|e: T::Err| e.to_string())?, path: path.into() })
    }
}

/// Certificate requests in PEM.
pub(super) fn request_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE REQUEST", der), config)
}
