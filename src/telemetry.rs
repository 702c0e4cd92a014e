//! Where log lines go: standard error, as text for people or JSON for programs. Knows nothing of what is logged.

use tracing::level_filters::LevelFilter;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Text,
    /// One JSON object a line (RFC 8259).
    Json,
}

/// Logs from now on. The first call wins; a process has one log.
pub fn start(format: Format, level: LevelFilter) {
    let base = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => base.with_ansi(false).try_init(),
        Format::Json => base.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging has begun already");
    }
}
