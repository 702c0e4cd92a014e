//! A call of the API, as the audit keeps it: who, what, from where, and what came of it. No message, no secret, and nobody but by
//! an opaque name; of people and strangers the network, not the address.

use minicbor::{Decode, Encode};

use super::certificate::AuthorityKind;
use super::id::{Digest, Ordinal, PrincipalId, RequestId, Seq};
use super::time::Timestamp;
use super::word::words;

/// The method of a line that stands for calls of several, and of a call of something that is no method.
pub const NO_METHOD: &str = "none";
/// The reason of a line that stands for refusals of one caller which there was no room to tell apart.
pub const AGGREGATED: &str = "AGGREGATED";
/// The reason of a line that says how many calls left no other trace.
pub const DROPPED: &str = "DROPPED";

words! {
    /// Whose calls a segment holds. Strangers have segments of their own: whatever they send, it pushes out nobody else's.
    Origin {
        /// Registered principals, and subjects with a certificate that was accepted.
        Known = 0, "KNOWN";
        /// Everybody else.
        Strangers = 1, "STRANGERS";
    }
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum CallerName {
    /// Nobody who was accepted.
    #[n(0)]
    Nobody,
    /// A registered principal.
    #[n(1)]
    Principal(#[n(0)] PrincipalId),
    /// A person or workload, by its certificate.
    #[n(2)]
    Subject(#[n(0)] Ordinal),
    /// Who showed a certificate of ours that is not accepted (any more): revoked, ended, of a removed principal.
    #[n(3)]
    Refused(#[n(0)] AuthorityKind, #[n(1)] Ordinal),
}

impl CallerName {
    /// In whose segments its calls are.
    pub const fn origin(&self) -> Origin {
        match self {
            Self::Nobody => Origin::Strangers,
            // As many as there are certificates, and no more.
            Self::Principal(_) | Self::Subject(_) | Self::Refused(..) => Origin::Known,
        }
    }
}

/// One call, or several of one caller with one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CallLine {
    /// When the first one was answered.
    #[n(0)]
    pub at: Timestamp,
    /// When the last one was.
    #[n(1)]
    pub last: Timestamp,
    /// How many.
    #[n(2)]
    pub count: u64,
    /// The name of the first.
    #[n(3)]
    pub request: Option<RequestId>,
    /// `/package.Service/Method`, or [`NO_METHOD`].
    #[n(4)]
    pub method: String,
    /// Who.
    #[n(5)]
    pub caller: CallerName,
    /// From where: a principal's address, anybody else's network.
    #[n(6)]
    pub address: Option<String>,
    /// gRPC's code, in words.
    #[n(7)]
    pub code: String,
    /// The stable reason of an error; empty: none.
    #[n(8)]
    pub reason: String,
    /// How long the longest took, in microseconds.
    #[n(9)]
    pub took_us: u64,
    /// The record that it made.
    #[n(10)]
    pub seq: Option<Seq>,
    /// What was asked for, if it is no method: the first characters of its path.
    #[n(11)]
    pub detail: Option<String>,
}

impl CallLine {
    /// Was it refused, or did it fail?
    pub fn is_refusal(&self) -> bool {
        self.code != "OK"
    }
}

/// What is written at once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CallBatch {
    /// Dense within a segment, from 0 on: one that was taken out shows.
    #[n(0)]
    pub number: u64,
    /// The calls.
    #[n(1)]
    pub lines: Vec<CallLine>,
}

/// A segment of calls that is complete. The record keeps this, so that no line can be altered or taken out afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SealedCalls {
    /// The number of its file.
    #[n(0)]
    pub number: u64,
    /// Whose calls.
    #[n(1)]
    pub origin: Origin,
    /// Its length in bytes.
    #[n(2)]
    pub len: u64,
    /// Its batches.
    #[n(3)]
    pub batches: u64,
    /// SHA-256 of each 64 KiB.
    #[n(4)]
    pub parts: Vec<Digest>,
}
