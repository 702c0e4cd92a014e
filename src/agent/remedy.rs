//! What went wrong with a proxy, and what its operator can do about it: each line of the log says both.

use std::fmt;

/// A proxy does not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What was seen.
    pub(super) what: String,
    /// What to change.
    pub(super) remedy: &'static str,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, remedy: &'static str) -> Self {
        Self { what: what.into(), remedy }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// It does not work with the list that it was given.
pub(super) const RELOAD: &str =
    "look at the proxy's log, and check its configuration against the sample in deploy/";
/// A session of a revoked client is resumed.
pub(super) const RESUMPTION: &str = "HAProxy: tune.ssl.cachesize 0 and no-tls-tickets; nginx: ssl_session_cache off and \
                                     ssl_session_tickets off";
/// Requests pass that nobody decided.
pub(super) const NOT_ASKED: &str =
    "have the proxy ask the agent for each request under [probe] path, as the sample in deploy/ does";
/// A file cannot be written.
pub(super) const FILES: &str = "the agent must own the folder of the proxy's lists, and have room there";
