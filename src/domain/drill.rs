//! Drills of an emergency stop: a record that goes the way of a stop, is acknowledged as one, and takes nothing away from
//! anybody. What came of it is measured, and stays on record as the proof that a stop would have worked.

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use super::event::BarrierOutcome;
use super::id::Seq;
use super::revocation::StopScope;
use super::time::Timestamp;

/// The most drills that are kept at hand: two years of weekly ones. The record has all of them.
pub const DRILLS_MAX: usize = 104;

/// What was measured of a drill, beside who acknowledged it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct DrillTimes {
    /// From the request until the record was on disk, in milliseconds.
    #[n(0)]
    pub durable_ms: u64,
    /// From then until each of `acked`, then of `weak`, acknowledged, in milliseconds; none: it did not, or it is the
    /// server's own path, which reads the record from when it is published.
    #[n(1)]
    pub acked_ms: Vec<Option<u64>>,
}

impl DrillTimes {
    /// How long it took until this part of those who acknowledged had done so, in milliseconds; none: nobody did.
    pub fn quantile_ms(&self, percent: usize) -> Option<u64> {
        let mut times: Vec<u64> = self.acked_ms.iter().flatten().copied().collect();
        times.sort_unstable();
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied()
    }
}

/// How many were in which list when a drill was over, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DrillOutcome {
    /// The record of the report, which names them.
    #[n(0)]
    pub report: Seq,
    /// From the request until the drill was on disk, in milliseconds.
    #[n(1)]
    pub durable_ms: u64,
    /// From then until it was enforced, or the deadline came.
    #[n(2)]
    pub took_ms: u64,
    /// Half of those who acknowledged had done so after this time; none: nobody did.
    #[n(3)]
    pub p50_ms: Option<u64>,
    /// 99 of 100 of them.
    #[n(4)]
    pub p99_ms: Option<u64>,
    /// All of them.
    #[n(5)]
    pub max_ms: Option<u64>,
    /// How many acknowledged.
    #[n(6)]
    pub acked: u64,
    /// How many cannot promise all of it.
    #[n(7)]
    pub weak: u64,
    /// How many were closed by the end of their leases.
    #[n(8)]
    pub lease_expired: u64,
    /// How many were neither.
    #[n(9)]
    pub pending: u64,
}

impl DrillOutcome {
    fn of(report: Seq, outcome: &BarrierOutcome, times: &DrillTimes) -> Self {
        let count = |names: &[String]| names.len() as u64;
        Self {
            report,
            durable_ms: times.durable_ms,
            took_ms: outcome.took_ms,
            p50_ms: times.quantile_ms(50),
            p99_ms: times.quantile_ms(99),
            max_ms: times.quantile_ms(100),
            acked: count(&outcome.acked),
            weak: count(&outcome.weak),
            lease_expired: count(&outcome.lease_expired),
            pending: count(&outcome.pending),
        }
    }
}

/// One drill.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Drill {
    /// What a stop would have reached.
    #[n(0)]
    pub scope: StopScope,
    /// When.
    #[n(1)]
    pub at: Timestamp,
    /// What came of it; none: nobody waited for the end.
    #[n(2)]
    pub outcome: Option<DrillOutcome>,
}

/// The last drills, by record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Drills {
    #[n(0)]
    #[cbor(with = "super::codec::map")]
    rows: OrdMap<Seq, Drill>,
}

impl Drills {
    /// The oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Seq, &Drill)> {
        self.rows.iter()
    }

    /// The record of the last one; 0: there was none.
    pub fn last(&self) -> Seq {
        self.rows.get_max().map_or(Seq(0), |(seq, _)| *seq)
    }

    pub(super) fn begin(&mut self, seq: Seq, scope: StopScope, at: Timestamp) {
        self.rows.insert(seq, Drill { scope, at, outcome: None });
        if self.rows.len() > DRILLS_MAX
            && let Some((oldest, _)) = self.rows.get_min().cloned()
        {
            self.rows.remove(&oldest);
        }
    }

    /// What came of the drill at a record; its first report counts.
    pub(super) fn end(&mut self, at: Seq, report: Seq, outcome: &BarrierOutcome) {
        let Some(times) = &outcome.drill else { return };
        if let Some(drill) = self.rows.get_mut(&at).filter(|drill| drill.outcome.is_none()) {
            drill.outcome = Some(DrillOutcome::of(report, outcome, times));
        }
    }
}
