//! A row of the table, and the clocks it is measured with.

use std::fmt;

use serde_json::{Value, json};

/// One figure.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// With its unit.
    pub(crate) measured: (f64, &'static str),
    pub(crate) floor: (f64, &'static str),
    /// In words.
    pub(crate) goal: &'static str,
    pub(crate) met: bool,
}

impl Row {
    pub(crate) fn ratio(&self) -> f64 {
        self.measured.0 / self.floor.0
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name, "measured": show(self.measured), "floor": show(self.floor),
            "ratio": (self.ratio() * 1000.0).round() / 1000.0, "goal": self.goal, "met": self.met,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = if self.met { "yes" } else { "NO" };
        let (measured, floor) = (show(self.measured), show(self.floor));
        write!(
            f,
            "{:<14} {measured:>14} {floor:>14} {:>7.2}  {:<28} {met}",
            self.name,
            self.ratio(),
            self.goal
        )
    }
}

fn show((value, unit): (f64, &str)) -> String {
    format!("{value:.2} {unit}")
}

/// CPU time of the whole process, every thread, in microseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
pub(crate) fn process_cpu_us() -> f64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    at.tv_sec as f64 * 1e6 + at.tv_nsec as f64 / 1e3
}

/// Wall time in microseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
pub(crate) fn wall_us() -> f64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    at.tv_sec as f64 * 1e6 + at.tv_nsec as f64 / 1e3
}

/// The median of what `run` takes, in microseconds of wall time, over `times` runs.
pub(crate) fn median_us(times: usize, mut run: impl FnMut()) -> f64 {
    let samples = (0..times).map(|_| {
        let begin = wall_us();
        run();
        wall_us() - begin
    });
    median(samples.collect())
}

/// The median.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
