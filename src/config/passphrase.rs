//! Where a passphrase or a PIN is: named in the configuration or on the command line, never written there.
//!
//! `file:PATH` (mode 0600), `credential:NAME` (systemd's LoadCredential), `fd:N` (an open descriptor, read once) or
//! `env:NAME`. The environment is the weakest: every process of the same user can read it.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest secret that is read, with its line's end: what is longer is the wrong file.
const SECRET_LEN_MAX: u64 = 1_026;
/// systemd's folder of a unit's credentials (systemd.exec, "Credentials").
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseSource {
    /// `file:PATH`: the first line of a file of mode 0600.
    File(PathBuf),
    /// `credential:NAME`: a credential of the systemd unit.
    Credential(String),
    /// `env:NAME`: a variable of the environment.
    Environment(String),
    /// `fd:N`: an open descriptor; 0 is standard input.
    Descriptor(u32),
}

/// A secret could not be read. Says where, never what.
#[derive(Debug, Error)]
#[error("passphrase from {source_name}: {why}")]
pub struct PassphraseFault {
    source_name: String,
    why: String,
}

impl PassphraseSource {
    /// Reads the secret; one line end is not a part of it. A descriptor can be read once.
    ///
    /// # Errors
    /// It cannot be read, is empty or too long, or others may read its file.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, PassphraseFault> {
        let fault = |why: String| PassphraseFault { source_name: self.to_string(), why };
        let io = |error: std::io::Error| fault(error.to_string());
        let secret = match self {
            Self::File(path) => {
                let file = File::open(path).map_err(io)?;
                let metadata = file.metadata().map_err(io)?;
                let mode = metadata.mode() & 0o7777;
                if mode & 0o177 != 0 || !metadata.is_file() {
                    return Err(fault(format!("a file of mode 0600 is needed, this has {mode:04o}")));
                }
                all(file).map_err(io)?
            }
            Self::Credential(name) => {
                let folder = variable(CREDENTIALS);
                let folder = folder.ok_or_else(|| {
                    fault(format!("${CREDENTIALS} is not set: give the unit LoadCredential={name}:..."))
                })?;
                // Who may read it is systemd's matter, which may grant it by an access list.
                all(File::open(Path::new(&folder).join(name)).map_err(io)?).map_err(io)?
            }
            Self::Environment(name) => {
                let value = variable(name).ok_or_else(|| fault("it is not set".to_owned()))?;
                Zeroizing::new(value.into_encoded_bytes())
            }
            Self::Descriptor(number) => {
                all(File::open(format!("/proc/self/fd/{number}")).map_err(io)?).map_err(io)?
            }
        };
        let secret = without_line_end(secret);
        let fits = !secret.is_empty() && secret.len() as u64 <= SECRET_LEN_MAX - 2;
        if fits { Ok(secret) } else { Err(fault("1 to 1024 bytes are needed".to_owned())) }
    }

    /// With a path that is not absolute taken from this folder.
    #[must_use]
    pub fn at(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Credential(_) | Self::Environment(_) | Self::Descriptor(_) => self,
        }
    }
}

fn all(source: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a buffer that grows would leave copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(2_048));
    source.take(SECRET_LEN_MAX + 1).read_to_end(&mut secret)?;
    Ok(secret)
}

fn without_line_end(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    for end in *b"\n\r" {
        if secret.last() == Some(&end) {
            secret.pop();
        }
    }
    secret
}

#[expect(
    clippy::disallowed_methods,
    reason = "the configuration names the variable; its value must not stand there"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

impl fmt::Display for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
        }
    }
}

impl FromStr for PassphraseSource {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(allowed)
        };
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("credential", name)) if is_name(name) => Ok(Self::Credential(name.to_owned())),
            Some(("env", name)) if is_name(name) => Ok(Self::Environment(name.to_owned())),
            Some(("fd", number)) => number.parse().map(Self::Descriptor).map_err(|_| "fd:N needs a number"),
            // Whatever stands there may be a secret that somebody wrote by mistake: it is not repeated.
            Some(_) | None => {
                Err("file:PATH, credential:NAME, env:NAME or fd:N is needed; never the secret itself")
            }
        }
    }
}

impl<'de> Deserialize<'de> for PassphraseSource {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn source(text: &str) -> PassphraseSource {
        text.parse().unwrap()
    }

    #[test]
    fn each_source_has_one_spelling() {
        for text in ["file:/run/p", "credential:keys", "env:KEY_PASSPHRASE", "fd:3"] {
            assert_eq!(source(text).to_string(), text);
        }
        for text in
            ["", "hunter2", "file:", "env:", "env:A=B", "credential:../x", "credential:.x", "fd:x", "fd:-1"]
        {
            assert!(text.parse::<PassphraseSource>().is_err(), "{text}");
        }
        let why = "pass:hunter2".parse::<PassphraseSource>().unwrap_err();
        assert!(!why.contains("hunter2"), "a secret is not repeated");
    }

    #[test]
    fn a_file_gives_its_line_when_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let own = PassphraseSource::File(path.clone());
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for (text, secret) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
        {
            std::fs::write(&path, text).unwrap();
            set(0o600);
            assert_eq!(*own.read().unwrap(), secret.as_bytes());
            set(0o640);
            assert!(own.read().unwrap_err().to_string().contains("0640"));
        }
        for text in [String::new(), "\n".to_owned(), "x".repeat(1_025)] {
            std::fs::write(&path, text).unwrap();
            set(0o600);
            assert!(own.read().unwrap_err().to_string().contains("1 to 1024"));
        }
        assert!(PassphraseSource::File(dir.path().to_owned()).read().is_err());
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let fault = source("env:COUNTERSIGN_NO_SUCH_VARIABLE").read().unwrap_err().to_string();
        assert!(fault.contains("env:COUNTERSIGN_NO_SUCH_VARIABLE") && fault.contains("not set"), "{fault}");
    }
}
