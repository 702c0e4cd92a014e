//! Identifiers. Opaque ones are a ULID behind a prefix (`ent_01J...`); the ones people choose are slugs.
//!
//! Opaque identifiers carry no name and no count. Who makes one supplies the time and the randomness, so that
//! nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use minicbor::{Decode, Encode};
use thiserror::Error;
use ulid::Ulid;

use super::time::Timestamp;

/// A text that is not an identifier of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a valid {kind}: {why}")]
pub struct InvalidId {
    /// The kind of identifier that was expected.
    pub kind: &'static str,
    /// What is wrong with the text.
    pub why: &'static str,
}

macro_rules! opaque_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier from the time of its making and 16 random bytes (80 bits are used).
            pub fn from_parts(at: Timestamp, random: [u8; 16]) -> Self {
                Self(Ulid::from_parts(at.millis().unsigned_abs(), u128::from_be_bytes(random)))
            }

            /// When it was made, as it says itself.
            pub fn made_at(self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
            }

            /// The 16 bytes, big-endian, as stored.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// The identifier stored as these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{}{}", $prefix, self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = |why| InvalidId { kind: stringify!($name), why };
                let digits = text.strip_prefix($prefix).ok_or(invalid(concat!("it must begin with ", $prefix)))?;
                let ulid = Ulid::from_string(digits).map_err(|_| invalid("26 Crockford base32 digits must follow the prefix"))?;
                // One spelling only: Crockford also decodes lower case and look-alike letters.
                if ulid.to_string() != digits {
                    return Err(invalid("the digits are not in canonical form"));
                }
                Ok(Self(ulid))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self, e: &mut minicbor::Encoder<W>, _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.to_bytes())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes: [u8; 16] = d.bytes()?.try_into()
                    .map_err(|_| minicbor::decode::Error::message("an identifier has 16 bytes"))?;
                Ok(Self::from_bytes(bytes))
            }
        }
    };
}

opaque_id!(
    /// A legal entity: a partner, the provider, or one nobody listed.
    EntityId, "ent_"
);
opaque_id!(
    /// A natural person across employments; never in a certificate.
    PersonId, "per_"
);
opaque_id!(
    /// What a certificate names: one employment of one person, or one workload of one entity. Pairwise, so two
    /// entities cannot find out that they employ the same person.
    SubjectId, "sub_"
);
opaque_id!(
    /// A chain of renewals that began with one enrollment.
    LineageId, "lin_"
);
opaque_id!(
    /// A one-time enrollment token (its public half; the secret is never stored).
    TokenId, "tok_"
);
opaque_id!(
    /// A permission of an entity to use one model.
    GrantId, "grt_"
);
opaque_id!(
    /// A certification authority: one key with one certificate.
    AuthorityId, "aut_"
);
opaque_id!(
    /// A root: one key on a machine of its own, which certifies authorities at ceremonies.
    RootId, "root_"
);
opaque_id!(
    /// A change that waits for its second signature.
    ProposalId, "prp_"
);
opaque_id!(
    /// One run of a process: gateways and writers name themselves anew at each start.
    BootId, "boo_"
);
opaque_id!(
    /// A revocation that officers announced.
    AnnouncementId, "ann_"
);
opaque_id!(
    /// One decision about an access or a certificate, as its answer names it.
    DecisionId, "dec_"
);
opaque_id!(
    /// One RPC, chosen by the caller for idempotent retries or made at the edge.
    RequestId, "req_"
);

/// The longest slug: it must fit a file name, a SPIFFE path segment and a log line.
pub const SLUG_LEN_MAX: usize = 64;

/// A short name that people choose: lower-case ASCII letters, digits, `-`, `.` and `_`, beginning with a letter or digit.
///
/// Kept in place up to 24 bytes: a decision copies the name of a determination, and a count of references would be written
/// by every thread that decides.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(CompactString);

impl Slug {
    /// The text of the slug.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Slug {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = |why| InvalidId { kind: "name", why };
        let first = text.chars().next().ok_or(invalid("it is empty"))?;
        if text.len() > SLUG_LEN_MAX {
            return Err(invalid("it is longer than 64 characters"));
        }
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return Err(invalid("it must begin with a lower-case letter or a digit"));
        }
        if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_'))
        {
            return Err(invalid("only lower-case ASCII letters, digits, '-', '.' and '_' are allowed"));
        }
        Ok(Self(text.into()))
    }
}

impl<C> Encode<C> for Slug {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Slug {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|e: InvalidId| minicbor::decode::Error::message(e.why))
    }
}

macro_rules! slug_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] Slug);

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Ok(Self(text.parse().map_err(|e: InvalidId| InvalidId { kind: stringify!($name), ..e })?))
            }
        }
    };
}

slug_id!(
    /// A determination, named by its date and what it does (`2026-06-26-lift`).
    DeterminationId
);
slug_id!(
    /// A registered model (`mythos-5`).
    ModelId
);
slug_id!(
    /// A purpose that a grant allows (`cyber-defense`).
    PurposeId
);
slug_id!(
    /// A registered principal: an officer, a gateway, a portal or a partner's administrator.
    PrincipalId
);
slug_id!(
    /// A BIS licence number, lower-cased.
    LicenseId
);
slug_id!(
    /// An order to keep records (`doj-2026-14`).
    RecordHoldId
);

/// The dense number of a certificate in its sequence (access or system). The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Ordinal(#[n(0)] pub u64);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The dense number of a journal record. The first is 1; 0 means "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Seq(#[n(0)] pub u64);

impl Seq {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Changes whenever history could have been lost or forked; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Epoch(#[n(0)] pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hash: so many bytes, shown as lower-case hexadecimal digits, encoded as a byte string.
macro_rules! hash {
    ($(#[$doc:meta])* $name:ident, $len:literal, $algorithm:ident, $kind:literal, $digits:literal, $bytes:literal) => {
        $(#[$doc])*
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The hash (FIPS 180-4) of the bytes.
            pub fn of(bytes: &[u8]) -> Self {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::$algorithm, bytes);
                let mut out = [0; $len];
                out.copy_from_slice(digest.as_ref());
                Self(out)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut out = [0; $len];
                hex::decode_to_slice(text, &mut out)
                    .map_err(|_| InvalidId { kind: $kind, why: $digits })?;
                Ok(Self(out))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message($bytes))?;
                Ok(Self(bytes))
            }
        }
    };
}

hash!(
    /// SHA-256 of something, named by the field that holds it.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    Digest, 32, SHA256, "digest", "64 hexadecimal digits are needed", "a digest has 32 bytes"
);

hash!(
    /// SHA-384 of a document that was signed outside this service.
    #[derive(Clone, Copy, PartialEq, Eq)]
    Sha384, 48, SHA384, "SHA-384", "96 hexadecimal digits are needed", "a SHA-384 has 48 bytes"
);
