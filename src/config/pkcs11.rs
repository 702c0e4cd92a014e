//! `[keys.pkcs11]`: a token, and which keys are on it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{PassphraseSource, resolve};
use crate::domain::pkcs11::Pkcs11Uri;

/// How many sessions are used at once: more than any token does at once.
const SESSIONS: std::ops::RangeInclusive<u8> = 1..=64;
/// How long an answer may take: longer than any signature, shorter than the shortest deadline of a call that issues.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 100..=30_000;

/// `[keys.pkcs11]`. Keys that it names take the place of those in files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// `module`: the vendor's library.
    pub module: PathBuf,
    /// `token`: which token, `pkcs11:token=LABEL` or `pkcs11:serial=NUMBER` (RFC 7512).
    #[serde(deserialize_with = "token")]
    pub token: Pkcs11Uri,
    /// `pin`: where the PIN of the token's user is.
    pub pin: PassphraseSource,
    /// `sessions`: how many are used at once. Default 4.
    #[serde(default = "sessions_usual", deserialize_with = "sessions")]
    pub sessions: u8,
    /// `timeout_ms`: how long an answer of the token may take. Default 5000.
    #[serde(default = "timeout_usual", deserialize_with = "timeout")]
    pub timeout_ms: u32,
    /// `new_keys`: where keys of later authorities are made. Default `token`.
    #[serde(default)]
    pub new_keys: NewKeys,
    /// `access`: the key instead of `[keys] access`, `pkcs11:object=LABEL` or `pkcs11:id=%01`.
    #[serde(default, deserialize_with = "key")]
    pub access: Option<Pkcs11Uri>,
    /// `system`: the key instead of `[keys] system`.
    #[serde(default, deserialize_with = "key")]
    pub system: Option<Pkcs11Uri>,
    /// `log`: the key instead of `[keys] log`; the token must know Ed25519.
    #[serde(default, deserialize_with = "key")]
    pub log: Option<Pkcs11Uri>,
}

/// Where keys of later authorities are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewKeys {
    /// On the token.
    #[default]
    Token,
    /// In files: to leave a token, one rotation of each authority.
    File,
}

impl Pkcs11Config {
    /// With paths that are not absolute taken from this folder.
    pub(super) fn at(self, folder: &Path) -> Self {
        Self { module: resolve(folder, &self.module), pin: self.pin.at(folder), ..self }
    }

    /// What the keys say of the token must fit the token, and no two are one.
    pub(super) fn check(&self) -> Result<(), String> {
        let keys: Vec<_> = [&self.access, &self.system, &self.log].into_iter().flatten().collect();
        if let Some(key) = keys.iter().find(|key| !key.fits(&self.token)) {
            return Err(format!("{key} is on another token than {}", self.token));
        }
        for (at, key) in keys.iter().enumerate() {
            if keys.iter().skip(at + 1).any(|other| other == key) {
                return Err(format!("{key} is named twice: one key is never used for two things"));
            }
        }
        Ok(())
    }
}

const fn sessions_usual() -> u8 {
    4
}

const fn timeout_usual() -> u32 {
    5_000
}

fn uri<'de, D: Deserializer<'de>>(d: D) -> Result<Pkcs11Uri, D::Error> {
    String::deserialize(d)?.parse().map_err(D::Error::custom)
}

fn token<'de, D: Deserializer<'de>>(d: D) -> Result<Pkcs11Uri, D::Error> {
    let token = uri(d)?;
    if token.names_token() && !token.names_key() {
        return Ok(token);
    }
    Err(D::Error::custom("pkcs11:token=LABEL or pkcs11:serial=NUMBER is needed, without a key"))
}

fn key<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Pkcs11Uri>, D::Error> {
    let key = uri(d)?;
    if key.names_key() {
        return Ok(Some(key));
    }
    Err(D::Error::custom("pkcs11:object=LABEL or pkcs11:id=ID is needed"))
}

fn sessions<'de, D: Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
    let sessions = u8::deserialize(d)?;
    if SESSIONS.contains(&sessions) { Ok(sessions) } else { Err(D::Error::custom("1 to 64 sessions")) }
}

fn timeout<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let ms = u32::deserialize(d)?;
    if TIMEOUT_MS.contains(&ms) { Ok(ms) } else { Err(D::Error::custom("100 to 30000 milliseconds")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "module = \"/m.so\"\ntoken = \"pkcs11:token=hsm\"\npin = \"file:pin\"\n";

    fn parse(more: &str) -> Result<Pkcs11Config, String> {
        let config: Pkcs11Config = toml::from_str(&format!("{GOOD}{more}")).map_err(|e| e.to_string())?;
        config.check().map(|()| config.at(Path::new("/etc/countersign")))
    }

    #[test]
    fn a_token_is_named_and_its_pin_never_stands_there() {
        let config = parse("access = \"pkcs11:object=access\"").unwrap();
        assert_eq!(config.pin.to_string(), "file:/etc/countersign/pin");
        assert_eq!((config.sessions, config.timeout_ms), (4, 5_000));
        assert_eq!(config.access.unwrap().object.as_deref(), Some("access"));
        let pin = GOOD.replace("file:pin", "1234");
        let why = toml::from_str::<Pkcs11Config>(&pin).unwrap_err().message().to_owned();
        assert!(why.contains("never the secret itself") && !why.contains("1234"), "{why}");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (more, word) in [
            ("access = \"pkcs11:token=other;object=a\"", "another token"),
            ("access = \"pkcs11:object=a\"\nsystem = \"pkcs11:object=a\"", "named twice"),
            ("access = \"pkcs11:token=hsm\"", "pkcs11:object=LABEL"),
            ("access = \"keys/access.pem\"", "pkcs11:NAME=VALUE"),
            ("sessions = 0", "1 to 64"),
            ("timeout_ms = 5", "100 to 30000"),
            ("slot = 1", "slot"),
        ] {
            let why = parse(more).unwrap_err();
            assert!(why.contains(word), "{more}: {why}");
        }
    }
}
