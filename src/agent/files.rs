//! Files that a proxy reads: each is whole or not there. They need not outlive a loss of power, because the agent writes
//! them anew when it starts, and what is older closes; only keys are kept safe.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::remedy::{FILES, Refusal};

/// What a proxy's own user must be able to read.
pub(super) const FOR_PROXY: u32 = 0o644;
/// Keys.
pub(super) const PRIVATE: u32 = 0o600;
/// The longest file that is read back: the lists that were written.
const FILE_LEN_MAX: u64 = 16 << 20;

/// Replaces a file.
pub(super) async fn write(path: &Path, text: &str, mode: u32) -> Result<(), Refusal> {
    let (path, text) = (path.to_owned(), text.to_owned());
    blocking(move || replace(&path, text.as_bytes(), mode)).await
}

/// Reads a short text; none: there is no such file.
pub(super) async fn read(path: &Path) -> Result<Option<String>, Refusal> {
    let path = path.to_owned();
    blocking(move || {
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(FILE_LEN_MAX).read_to_string(&mut text).map(|_| Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|error| failed("read", &path, &error))
    })
    .await
}

/// Replaces a file. Blocks.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| failed("write", path, &error);
    let new = beside(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    if mode == PRIVATE {
        file.sync_all().map_err(failed)?;
    }
    std::fs::rename(&new, path).map_err(failed)?;
    if mode != PRIVATE {
        return Ok(());
    }
    // The name is durable only with its folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new("."))).and_then(|f| f.sync_all()).map_err(failed)
}

/// In the same folder, so that the rename is one step.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(format!("cannot {what} {}: {error}", path.display()), FILES)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Refusal::new(error.to_string(), FILES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_replaced_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crl.pem");
        for text in ["first, and longer", "second"] {
            write(&path, text, FOR_PROXY).await.unwrap();
            assert_eq!(read(&path).await.unwrap().as_deref(), Some(text));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(read(&dir.path().join("none")).await.unwrap(), None);
        assert!(write(&dir.path().join("none/crl.pem"), "x", FOR_PROXY).await.is_err());
    }
}
