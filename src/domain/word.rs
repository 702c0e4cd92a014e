//! The `words!` macro: closed vocabularies with one spelling everywhere.
//!
//! A vocabulary is an enum whose variants have a stable number (on disk and on the feed) and a stable
//! spelling (API, logs, command line, TOML, CSV). Numbers are never reused.

use thiserror::Error;

/// A word that is not in the vocabulary it was read for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{word:?} is not one of {allowed}")]
pub struct UnknownWord {
    /// What was read, cut to 64 characters.
    pub word: String,
    /// The spellings that are allowed.
    pub allowed: String,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, allowed: &[&str]) -> Self {
        Self { word: word.chars().take(64).collect(), allowed: allowed.join(", ") }
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $number:literal, $word:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(index_only)]
        pub enum $name { $($(#[$vmeta])* #[n($number)] $variant,)+ }

        impl $name {
            /// Every word of the vocabulary, in the order of its numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The one spelling of this word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::word::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::domain::word::UnknownWord::new(word, &[$($word,)+])),
                }
            }
        }
    };
}
pub(crate) use words;
