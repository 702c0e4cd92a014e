//! What operators watch, in the text format of OpenMetrics. `docs/metrics.md` has a line for each name.
//!
//! Each service has its own; there is no global. It counts what it is told and decides nothing. Labels are words of closed
//! vocabularies, never a person, an entity or a certificate; gateways are named, and only so many of them.

mod readings;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::env::SystemClock;

pub use readings::{
    Fault, GATEWAYS_MAX, GatewayReading, ListenerReading, Readings, RootReading, RotationReading,
    ScreeningReading,
};

/// What every name begins with.
const PREFIX: &str = "countersign";
/// Bounds in seconds for what takes from a fraction of a millisecond to seconds: calls, appends.
const SHORT_S: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Bounds in seconds for barriers: an acknowledgement takes milliseconds, a lease up to a minute.
const BARRIER_S: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.1, 30.0, 60.2];
/// Bounds in seconds for how far clocks of callers are off: a call on its way, a clock that drifts, one that is refused.
const SKEW_S: [f64; 8] = [0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
/// Bounds in records for batches: a group has at most 1,024.
const BATCH_RECORDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

type Label = (&'static str, &'static str);
type Counters<const N: usize> = Family<[Label; N], Counter>;
type Histograms = Family<[Label; 1], Histogram, fn() -> Histogram>;

/// A reading of a steady clock, to measure from.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(u64);

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self(SystemClock.steady_us())
    }

    /// Since it began, in microseconds.
    pub fn micros(self) -> u64 {
        SystemClock.steady_us().saturating_sub(self.0)
    }

    /// Since it began, in seconds.
    fn seconds(self) -> f64 {
        std::time::Duration::from_micros(SystemClock.steady_us().saturating_sub(self.0)).as_secs_f64()
    }
}

/// The counters and histograms of a service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rpcs: Counters<2>,
    rpc_duration: Histograms,
    append_duration: Histogram,
    batch: Histogram,
    append_failures: Counters<1>,
    restrictions: Counters<2>,
    barriers: Histograms,
    decisions: Counters<2>,
    reported: Family<[(&'static str, String); 3], Counter>,
    client_skew: Histogram,
    call_lines: Counter,
    decision_lines: Counter,
    signals: Counters<1>,
    calls_dropped: Counter,
    issued: Counters<1>,
    refused: Counters<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let short: fn() -> Histogram = || Histogram::new(SHORT_S);
        let barrier: fn() -> Histogram = || Histogram::new(BARRIER_S);
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            rpcs: Family::default(),
            rpc_duration: Family::new_with_constructor(short),
            append_duration: short(),
            batch: Histogram::new(BATCH_RECORDS),
            append_failures: Family::default(),
            restrictions: Family::default(),
            barriers: Family::new_with_constructor(barrier),
            decisions: Family::default(),
            reported: Family::default(),
            client_skew: Histogram::new(SKEW_S),
            call_lines: Counter::default(),
            decision_lines: Counter::default(),
            signals: Family::default(),
            calls_dropped: Counter::default(),
            issued: Family::default(),
            refused: Family::default(),
        };
        metrics.register();
        metrics.begin_at_zero();
        metrics
    }
}

impl Metrics {
    /// What alerts look at is there before it first happens: from nothing to one is no increase.
    fn begin_at_zero(&self) {
        for reason in ["NO_SPACE", "CLOSED", "TOO_LARGE"] {
            drop(self.append_failures.get_or_create(&[("reason", reason)]));
        }
        for outcome in ["ENFORCED", "PARTIAL"] {
            drop(self.barriers.get_or_create(&[("outcome", outcome)]));
        }
        for authority in ["ACCESS", "SYSTEM"] {
            drop(self.issued.get_or_create(&[("authority", authority)]));
        }
        for kind in ["DENIAL_BURST", "IMPOSSIBLE_MOVE", "SLEEPER_WOKE"] {
            drop(self.signals.get_or_create(&[("kind", kind)]));
        }
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("rpcs", "Calls answered, by method and code", self.rpcs.clone());
        registry.register(
            "rpc_duration_seconds",
            "From a call to its answer, or to the beginning of a stream",
            self.rpc_duration.clone(),
        );
        registry.register(
            "journal_append_duration_seconds",
            "One write and its sync",
            self.append_duration.clone(),
        );
        registry.register("journal_batch_records", "Records in one append", self.batch.clone());
        registry.register(
            "journal_append_failures",
            "Appends that did not happen, by reason",
            self.append_failures.clone(),
        );
        registry.register(
            "restrictions",
            "Restrictions recorded, by command and scope",
            self.restrictions.clone(),
        );
        registry.register(
            "barrier_duration_seconds",
            "From commit to the answer of who waited for enforcement, by outcome",
            self.barriers.clone(),
        );
        registry.register(
            "decisions",
            "The server's own decisions, by access and code",
            self.decisions.clone(),
        );
        registry.register(
            "gateway_decisions",
            "Decisions that gateways reported, by gateway, outcome and code",
            self.reported.clone(),
        );
        registry.register(
            "caller_skew_seconds",
            "How far the clocks of callers that say their time are off, either way",
            self.client_skew.clone(),
        );
        registry.register("audit_lines", "Lines of the audit of calls on disk", self.call_lines.clone());
        registry.register(
            "decision_lines",
            "Decisions of the server and of gateways on disk, in the record of decisions",
            self.decision_lines.clone(),
        );
        registry.register("signals", "What in decisions somebody should look at", self.signals.clone());
        registry.register(
            "audit_dropped_calls",
            "Calls that left no line in the audit: none of them refused",
            self.calls_dropped.clone(),
        );
        registry.register(
            "certificates_issued",
            "Certificates signed and recorded, by authority",
            self.issued.clone(),
        );
        registry.register(
            "certificates_refused",
            "Requests for a certificate that got none, by reason",
            self.refused.clone(),
        );
    }

    /// A call was answered. Both words are of closed vocabularies.
    pub fn rpc(&self, method: &'static str, code: &'static str, since: Stopwatch) {
        self.rpcs.get_or_create(&[("method", method), ("code", code)]).inc();
        self.rpc_duration.get_or_create(&[("method", method)]).observe(since.seconds());
    }

    /// A batch is durable.
    pub fn appended(&self, records: usize, since: Stopwatch) {
        self.append_duration.observe(since.seconds());
        self.batch.observe(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
    }

    /// A batch was not stored.
    pub fn not_appended(&self, reason: &'static str) {
        self.append_failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// Something was taken away.
    pub fn restricted(&self, command: &'static str, scope: &'static str) {
        self.restrictions.get_or_create(&[("command", command), ("scope", scope)]).inc();
    }

    /// Who waited for enforcement is answered.
    pub fn barrier(&self, outcome: &'static str, took_ms: u64) {
        let took = std::time::Duration::from_millis(took_ms).as_secs_f64();
        self.barriers.get_or_create(&[("outcome", outcome)]).observe(took);
    }

    /// The server decided an access itself.
    pub fn decided(&self, access: &'static str, code: &'static str) {
        self.decisions.get_or_create(&[("access", access), ("code", code)]).inc();
    }

    /// A gateway reported decisions, and they are on disk. The name is of a registered gateway, the others are words of
    /// closed vocabularies.
    pub fn reported(&self, gateway: &str, (outcome, code): (&'static str, &'static str), count: u64) {
        let labels = [("gateway", gateway), ("outcome", outcome), ("code", code)];
        self.reported.get_or_create(&labels.map(|(name, value)| (name, value.to_owned()))).inc_by(count);
    }

    /// A caller said its time.
    pub fn client_skew(&self, skew_ms: i64) {
        self.client_skew.observe(std::time::Duration::from_millis(skew_ms.unsigned_abs()).as_secs_f64());
    }

    /// The audit of calls was written.
    pub fn calls_written(&self, lines: u64, dropped: u64) {
        self.call_lines.inc_by(lines);
        self.calls_dropped.inc_by(dropped);
    }

    /// The record of decisions was written.
    pub fn decisions_recorded(&self, lines: u64) {
        self.decision_lines.inc_by(lines);
    }

    /// Something in decisions should be looked at.
    pub fn signal(&self, kind: &'static str) {
        self.signals.get_or_create(&[("kind", kind)]).inc();
    }

    /// A certificate is on record.
    pub fn issued(&self, authority: &'static str) {
        self.issued.get_or_create(&[("authority", authority)]).inc();
    }

    /// Somebody got no certificate.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Everything, with what was just read.
    ///
    /// # Errors
    /// Never in practice: only the text grows.
    pub fn render(&self, readings: &Readings) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &readings.registry(PREFIX))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
