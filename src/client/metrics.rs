//! What operators watch at a gate: counted without a word of memory that two threads write, and read as one snapshot.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::gate::{Gate, GateDecision};
use crate::domain::decision::Denial;

/// Slots of a counter: more than one for each thread of most machines.
const SLOTS: usize = 32;

/// One word with a cache line of its own, and the one that the processor fetches with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(AtomicU64);

/// Counts up. Threads write to different memory, so that counting costs no decision anything.
#[derive(Debug, Default)]
pub(super) struct Counter([Slot; SLOTS]);

static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

fn thread() -> usize {
    THREAD.with(|own| {
        own.get().unwrap_or_else(|| {
            let thread = THREADS.fetch_add(1, Ordering::Relaxed);
            own.set(Some(thread));
            thread
        })
    })
}

impl Counter {
    pub(super) fn add(&self) {
        if let Some(Slot(count)) = self.0.get(thread() % SLOTS) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|Slot(count)| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a gate counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    permits: Counter,
    denials: Counter,
    unavailable: Counter,
    pub(super) asked: Counter,
    pub(super) known: Counter,
    pub(super) read: Counter,
}

impl Counts {
    pub(super) fn decided(&self, decided: &GateDecision) {
        let counter = match decided.decision.denials.first() {
            None if decided.is_permit() => &self.permits,
            Some(Denial::StaleView | Denial::StateUnavailable | Denial::ClockUntrusted) => &self.unavailable,
            None | Some(_) => &self.denials,
        };
        counter.add();
    }
}

/// How a gate stands and what it has done, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateMetrics {
    /// Up to which record it enforces.
    pub applied_seq: u64,
    /// Records between that and the last signed head.
    pub lag: u64,
    /// How long the lease still is, in milliseconds.
    pub lease_left_ms: u64,
    /// Decisions that permitted.
    pub permits: u64,
    /// Decisions that denied.
    pub denials: u64,
    /// Decisions that denied because nothing could be permitted: no lease, a clock that is off.
    pub unavailable: u64,
    /// Questions put to the server.
    pub asked: u64,
    /// Certificates that were known already.
    pub certificates_known: u64,
    /// Certificates whose signature was verified, or refused.
    pub certificates_read: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// Connections that were told to close.
    pub connections_closed: u64,
    /// Decisions that wait to be reported.
    pub reports_queued: u64,
    /// Reports that the server has on disk.
    pub reports_sent: u64,
    /// Permits that were refused because they could not be reported.
    pub reports_refused: u64,
    /// Until the gate's own certificate ends, in seconds; none: it does not watch it.
    pub certificate_left_s: Option<i64>,
}

impl Gate {
    /// The metrics of this moment.
    pub fn metrics(&self) -> GateMetrics {
        let shared = &self.shared;
        let (standing, counts) = (shared.published.load(), &shared.counts);
        let applied_seq = standing.view.as_ref().map_or(0, |view| view.position.seq.0);
        let boot_ms = shared.clock.boot_ms();
        let reports = shared.reports.as_ref();
        let not_after_ms = shared.not_after_ms.load(Ordering::Relaxed);
        GateMetrics {
            applied_seq,
            lag: standing.head.0.saturating_sub(applied_seq),
            lease_left_ms: standing.lease_until_ms.map_or(0, |until| until.saturating_sub(boot_ms)),
            permits: counts.permits.sum(),
            denials: counts.denials.sum(),
            unavailable: counts.unavailable.sum(),
            asked: counts.asked.sum(),
            certificates_known: counts.known.sum(),
            certificates_read: counts.read.sum(),
            connections_open: u64::try_from(shared.index.len()).unwrap_or(u64::MAX),
            connections_closed: shared.index.told(),
            reports_queued: reports.map_or(0, |queue| u64::try_from(queue.len()).unwrap_or(u64::MAX)),
            reports_sent: reports.map_or(0, |queue| queue.sent.load(Ordering::Relaxed)),
            reports_refused: reports.map_or(0, |queue| queue.refused.load(Ordering::Relaxed)),
            certificate_left_s: (not_after_ms != 0)
                .then(|| not_after_ms.saturating_sub(shared.clock.now().millis()) / 1_000),
        }
    }
}

impl GateMetrics {
    /// The page for Prometheus, in its text format.
    pub fn to_text(&self) -> String {
        let mut page = String::new();
        let mut row = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            let _ = writeln!(
                page,
                "# HELP countersign_gate_{name} {help}\n# TYPE countersign_gate_{name} {kind}\n\
                 countersign_gate_{name} {value}"
            );
        };
        row("applied_seq", "gauge", "Up to which record the gate enforces.", self.applied_seq);
        row("lag_records", "gauge", "Records behind the last signed head.", self.lag);
        row("lease_left_milliseconds", "gauge", "How long the lease still is.", self.lease_left_ms);
        row("permits_total", "counter", "Decisions that permitted.", self.permits);
        row("denials_total", "counter", "Decisions that denied.", self.denials);
        row("unavailable_total", "counter", "Decisions denied without lease or clock.", self.unavailable);
        row("asked_total", "counter", "Questions put to the server.", self.asked);
        row("certificates_known_total", "counter", "Certificates known already.", self.certificates_known);
        row(
            "certificates_read_total",
            "counter",
            "Certificates verified or refused.",
            self.certificates_read,
        );
        row("connections_open", "gauge", "Registered connections.", self.connections_open);
        row("connections_closed_total", "counter", "Connections told to close.", self.connections_closed);
        row("reports_queued", "gauge", "Decisions that wait to be reported.", self.reports_queued);
        row("reports_sent_total", "counter", "Reports that the server has on disk.", self.reports_sent);
        row(
            "reports_refused_total",
            "counter",
            "Permits refused for want of a report.",
            self.reports_refused,
        );
        if let Some(left_s) = self.certificate_left_s {
            let left_s = u64::try_from(left_s).unwrap_or(0);
            row("certificate_left_seconds", "gauge", "Until the gate's own certificate ends.", left_s);
        }
        page
    }
}
