//! A row of the table, and the clocks it is measured with.

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

/// A row as the table has it.
pub(crate) fn line(row: &Value) -> String {
    let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let met = if row["met"] == true { "yes" } else { "NO" };
    let ratio = row["ratio"].as_f64().unwrap_or(f64::NAN);
    let (name, measured, floor, goal) = (word("name"), word("measured"), word("floor"), word("goal"));
    format!("{name:<18} {measured:>14} {floor:>14} {ratio:>7.2}  {goal:<34} {met}")
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
pub(crate) fn median(samples: Vec<f64>) -> f64 {
    percentile(&samples, 50)
}

/// The smallest sample that so many percent of all are not above.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent / 100).min(sorted.len() - 1)).copied().unwrap_or(f64::NAN)
}

/// Memory of this process that is in the machine's, in KiB.
pub(crate) fn resident_kib() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse().unwrap()
}
