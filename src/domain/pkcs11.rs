//! Names of tokens and of keys on them: the `pkcs11:` URI of RFC 7512, the attributes of it that say which.
//!
//! A PIN never stands in one: the query (`pin-value`, `pin-source`, `module-path`) is refused. Callers: config, ca.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest URI: labels have 32 bytes on a token, ids some more.
const LEN_MAX: usize = 1_024;

/// Why a text is no name of a token or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UriFault {
    /// Another scheme, or longer than any.
    #[error("pkcs11:NAME=VALUE;NAME=VALUE is needed")]
    NotUri,
    /// A query: PIN and module have keys of their own.
    #[error("no '?': the PIN's source and the module have keys of their own in the configuration")]
    Query,
    /// An attribute that is not looked at would be thought to be.
    #[error(
        "the attributes token, serial, manufacturer, model, object, id and type=private are known, each once"
    )]
    Attribute,
    /// A value that is empty or badly escaped.
    #[error("a value is not escaped as RFC 3986 says")]
    Value,
}

/// What a token or a key must be called. An attribute that is not there fits all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pkcs11Uri {
    /// `token`: the token's label.
    pub token: Option<String>,
    /// `serial`: the token's serial number.
    pub serial: Option<String>,
    /// `manufacturer`: who made the token.
    pub manufacturer: Option<String>,
    /// `model`: the token's model.
    pub model: Option<String>,
    /// `object`: the key's label (CKA_LABEL).
    pub object: Option<String>,
    /// `id`: the key's id (CKA_ID), in a URI commonly `%01`.
    pub id: Option<Vec<u8>>,
}

impl Pkcs11Uri {
    /// Does it name a token?
    pub const fn names_token(&self) -> bool {
        self.token.is_some() || self.serial.is_some()
    }

    /// Does it name a key?
    pub const fn names_key(&self) -> bool {
        self.object.is_some() || self.id.is_some()
    }

    /// Is a key of this name looked for on that token? What the two say of the token must not differ.
    pub fn fits(&self, token: &Self) -> bool {
        let same = |own: &Option<String>, other: &Option<String>| own.is_none() || own == other;
        same(&self.token, &token.token)
            && same(&self.serial, &token.serial)
            && same(&self.manufacturer, &token.manufacturer)
            && same(&self.model, &token.model)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), UriFault> {
        let bytes = unescape(value)?;
        if name == "id" {
            return match self.id.replace(bytes) {
                None => Ok(()),
                Some(_) => Err(UriFault::Attribute),
            };
        }
        let text = String::from_utf8(bytes).map_err(|_| UriFault::Value)?;
        let place = match name {
            "token" => &mut self.token,
            "serial" => &mut self.serial,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "object" => &mut self.object,
            "type" if text == "private" => return Ok(()),
            _ => return Err(UriFault::Attribute),
        };
        match place.replace(text) {
            None => Ok(()),
            Some(_) => Err(UriFault::Attribute),
        }
    }
}

impl FromStr for Pkcs11Uri {
    type Err = UriFault;
    fn from_str(text: &str) -> Result<Self, UriFault> {
        let path = text.strip_prefix("pkcs11:").filter(|_| text.len() <= LEN_MAX).ok_or(UriFault::NotUri)?;
        if path.contains('?') {
            return Err(UriFault::Query);
        }
        let mut uri = Self::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or(UriFault::NotUri)?;
            uri.take(name, value)?;
        }
        Ok(uri)
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pkcs11:")?;
        let texts = [
            ("token", &self.token),
            ("serial", &self.serial),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("object", &self.object),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?.as_bytes())));
        let id = self.id.iter().map(|id| ("id", id.as_slice()));
        for (at, (name, value)) in texts.chain(id).enumerate() {
            if at > 0 {
                f.write_str(";")?;
            }
            write!(f, "{name}=")?;
            for byte in value {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                        write!(f, "{}", char::from(*byte))?
                    }
                    _ => write!(f, "%{byte:02X}")?,
                }
            }
        }
        Ok(())
    }
}

fn unescape(value: &str) -> Result<Vec<u8>, UriFault> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit().ok_or(UriFault::Value)?, digit().ok_or(UriFault::Value)?);
                u8::try_from(high * 16 + low).map_err(|_| UriFault::Value)?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    if bytes.is_empty() { Err(UriFault::Value) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_written_the_same() {
        let text = "pkcs11:token=The%20HSM;serial=c0b3;object=access;id=%01%FF";
        let uri: Pkcs11Uri = text.parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("The HSM"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.to_string(), text);
        assert!(uri.names_token() && uri.names_key());
        let key: Pkcs11Uri = "pkcs11:object=access;type=private".parse().unwrap();
        assert!(key.fits(&uri) && !key.names_token());
        let other: Pkcs11Uri = "pkcs11:token=Other;object=access".parse().unwrap();
        assert!(!other.fits(&uri));
    }

    #[test]
    fn what_is_not_looked_at_is_refused() {
        for (text, fault) in [
            ("file:x", UriFault::NotUri),
            ("pkcs11:token", UriFault::NotUri),
            ("pkcs11:token=a?pin-value=1234", UriFault::Query),
            ("pkcs11:token=a;token=b", UriFault::Attribute),
            ("pkcs11:id=a;id=b", UriFault::Attribute),
            ("pkcs11:slot-id=1", UriFault::Attribute),
            ("pkcs11:type=public", UriFault::Attribute),
            ("pkcs11:token=", UriFault::Value),
            ("pkcs11:token=%2", UriFault::Value),
            ("pkcs11:token=%zz", UriFault::Value),
            ("pkcs11:token=%FF", UriFault::Value),
        ] {
            assert_eq!(text.parse::<Pkcs11Uri>(), Err(fault), "{text}");
        }
        assert!(format!("pkcs11:token={}", "x".repeat(2_000)).parse::<Pkcs11Uri>().is_err());
    }
}
