//! Places where a test kills the process: compiled in with the feature `faults` only, never in a shipped binary.

/// Ends the process here, as `kill -9` would, if the test asked for this place.
#[cfg(feature = "faults")]
pub(crate) fn kill_point(name: &str) {
    #[expect(clippy::disallowed_methods, reason = "how a test tells its child process where to die")]
    let wanted = std::env::var_os("COUNTERSIGN_KILL_AT");
    if wanted.is_some_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// Does nothing: the feature `faults` is off.
#[cfg(not(feature = "faults"))]
pub(crate) const fn kill_point(_: &str) {}
