//! What this process logs, for tests of what an operator is told.

use std::sync::{Mutex, Once};

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Kept;

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From now on, warnings and errors of every test in this process are kept.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
        lines.with_writer(|| Kept).init();
    });
}

fn logged() -> String {
    String::from_utf8(LOGGED.lock().unwrap().clone()).unwrap()
}

/// The first line that has all of these words, if one has.
pub(crate) fn find(words: &[&str]) -> Option<String> {
    let logged = logged();
    let line = logged.lines().find(|line| words.iter().all(|word| line.contains(word)));
    line.map(str::to_owned)
}

/// How many lines have all of these words.
pub(crate) fn count(words: &[&str]) -> usize {
    logged().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// The line that has all of these words.
#[track_caller]
pub(crate) fn line_with(words: &[&str]) -> String {
    find(words).unwrap_or_else(|| panic!("no line with {words:?} in\n{}", logged()))
}
