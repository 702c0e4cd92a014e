//! How many lines of the log one source may fill: its first ones in full, then one a second that says how many were left out. What is
//! evidence is counted elsewhere, each one (the audit of calls); this is for who reads the log, and for its disk.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Lines in full: enough to see what somebody tries.
const FIRST: u64 = 5;
/// Then one in so many milliseconds.
const EVERY_MS: u64 = 1_000;
/// Sources that are told apart, in some MiB; further ones share their lines.
const SOURCES_MAX: usize = 10_000;

/// The lines of all sources.
#[derive(Debug)]
pub struct Lines<K> {
    rows: Mutex<Rows<K>>,
    /// When the next look for quiet ones is due: asked with each call.
    look_at_ms: AtomicU64,
}

#[derive(Debug)]
struct Rows<K> {
    of: HashMap<K, Row>,
    /// Of sources for which there is no row.
    rest: Row,
    max: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Row {
    /// When all of the first lines may be written again.
    full_at_ms: u64,
    left_out: u64,
}

impl Row {
    fn take(&mut self, now_ms: u64) -> Option<u64> {
        let next_ms = self.full_at_ms.max(now_ms) + EVERY_MS;
        if next_ms - now_ms > FIRST * EVERY_MS {
            self.left_out += 1;
            return None;
        }
        self.full_at_ms = next_ms;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<K> Default for Lines<K> {
    fn default() -> Self {
        let rows = Rows { of: HashMap::new(), rest: Row::default(), max: SOURCES_MAX };
        Self { rows: Mutex::new(rows), look_at_ms: AtomicU64::new(0) }
    }
}

impl<K: Eq + Hash + Clone> Lines<K> {
    /// May this source write a line? If so: how many it left out since its last one.
    pub fn take(&self, source: K, now_ms: u64) -> Option<u64> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.of.len() >= rows.max && !rows.of.contains_key(&source) {
            return rows.rest.take(now_ms);
        }
        rows.of.entry(source).or_default().take(now_ms)
    }

    /// Sources that were quiet for a while, with how many lines they left out at the end. Looks once a second.
    pub fn quiet(&self, now_ms: u64) -> Vec<(K, u64)> {
        let due_ms = self.look_at_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(EVERY_MS);
        let relaxed = Ordering::Relaxed;
        if now_ms < due_ms || self.look_at_ms.compare_exchange(due_ms, next_ms, relaxed, relaxed).is_err() {
            return Vec::new();
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut quiet = Vec::new();
        rows.of.retain(|source, row| {
            let is_over = row.full_at_ms <= now_ms;
            if is_over && row.left_out > 0 {
                quiet.push((source.clone(), row.left_out));
            }
            !is_over
        });
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_written_then_one_a_second_which_says_how_many_were_not() {
        let lines = Lines::default();
        let written = |at_ms| (0..1_000).filter_map(|_| lines.take("noisy", at_ms)).collect::<Vec<_>>();
        assert_eq!(written(10_000), [0; 5]);
        assert!(written(10_999).is_empty());
        assert_eq!(written(11_000), [1_995]);
        assert_eq!(lines.take("other", 11_000), Some(0), "nobody else is left out");
        // What was left out at the end is said when it is quiet, once.
        assert!(lines.quiet(11_500).is_empty());
        assert_eq!(lines.quiet(16_000), [("noisy", 999)]);
        assert!(lines.quiet(18_000).is_empty());
        assert!(lines.rows.lock().unwrap().of.is_empty(), "nobody is remembered who is quiet");
        assert_eq!(written(20_000), [0; 5]);
    }

    #[test]
    fn sources_without_end_share_the_lines_of_one() {
        let lines = Lines::default();
        lines.rows.lock().unwrap().max = 2;
        let written = (0..1_000).filter(|source| lines.take(*source, 0).is_some()).count();
        assert_eq!(written, 2 + 5);
        assert_eq!(lines.take(0, 0), Some(0), "who was first has lines of its own");
        assert_eq!(lines.take(5_000, 1_000), Some(993));
    }
}
