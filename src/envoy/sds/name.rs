//! The names of the secrets: what is asked for, and what is listed beside it.

use std::fmt;
use std::str::FromStr;

use crate::app::Term;

/// Which secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// What handshakes are checked with.
    Set {
        term: Term,
        /// Its list names one of the two canaries of the gateway.
        has_canary: bool,
    },
    /// The certificate of the gateway's own listener.
    Listener,
}

impl Name {
    /// The term of a trust set.
    pub(super) const fn term(self) -> Option<Term> {
        match self {
            Self::Set { term, .. } => Some(term),
            Self::Listener => None,
        }
    }
}

const LISTENER: &str = "countersign-listener";
const ACCESS: &str = "countersign-access";
const UNLEASED: &str = "-unleased";
const CANARY: &str = "-canary";

/// Not the name of a secret that there could be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownName;

impl FromStr for Name {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text == LISTENER {
            return Ok(Self::Listener);
        }
        let rest = text.strip_prefix(ACCESS).ok_or(UnknownName)?;
        let (rest, has_canary) = rest.strip_suffix(CANARY).map_or((rest, false), |rest| (rest, true));
        match rest {
            "" => Ok(Self::Set { term: Term::Leased, has_canary }),
            UNLEASED => Ok(Self::Set { term: Term::Unleased, has_canary }),
            _ => Err(UnknownName),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener => f.write_str(LISTENER),
            Self::Set { term, has_canary } => {
                let term = if *term == Term::Unleased { UNLEASED } else { "" };
                let canary = if *has_canary { CANARY } else { "" };
                write!(f, "{ACCESS}{term}{canary}")
            }
        }
    }
}
