//! Signals: what in a row of decisions somebody should look at. Each is a reason to look and no verdict; nothing is denied for it.
//! Pure: decisions in, signals out. What it remembers is bounded and lost at a restart.

use std::collections::HashMap;

use super::decided::Decided;
use super::id::{DecisionId, EntityId, PrincipalId, SubjectId};
use super::policy::Place;
use super::time::Timestamp;
use super::word::words;

/// So many denials of one caller within a minute are a burst: a program that tries, not a person who mistypes.
const BURST: u64 = 20;
const BURST_MS: i64 = 60_000;
/// Nobody is in two countries within this time but near a border.
const MOVE_MS: i64 = 3_600_000;
/// Who was not seen for so long sleeps.
const SLEEP_MS: i64 = 30 * 86_400_000;
/// Callers that are remembered, twice: some 100 bytes each.
const CALLERS_MAX: usize = 100_000;

words! {
    /// What was noticed.
    SignalKind {
        /// Many denials of one caller in a minute.
        DenialBurst = 0, "DENIAL_BURST";
        /// One person in two countries within an hour.
        ImpossibleMove = 1, "IMPOSSIBLE_MOVE";
        /// One who was not seen for thirty days is back.
        SleeperWoke = 2, "SLEEPER_WOKE";
    }
}

/// Something that was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// What.
    pub kind: SignalKind,
    /// When.
    pub at: Timestamp,
    /// The decision at which it was noticed.
    pub decision: DecisionId,
    /// Of whom: a person or workload with its entity,
    pub of: Option<(EntityId, SubjectId)>,
    /// or, where no certificate says who it is, whoever asked.
    pub gateway: Option<PrincipalId>,
    /// In words: how many, from where to where, since when.
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Subject(SubjectId),
    Gateway(PrincipalId),
}

/// What is remembered of one caller.
#[derive(Debug, Clone)]
struct Seen {
    last: Timestamp,
    place: Option<(Place, Timestamp)>,
    /// When the minute began, and denials in it.
    denials: (Timestamp, u64),
}

/// The memory.
#[derive(Debug, Default)]
pub struct Watch {
    young: HashMap<Who, Seen>,
    /// Those of whom nothing was heard since `young` was full the last time.
    old: HashMap<Who, Seen>,
}

impl Watch {
    /// Takes note of a decision.
    pub fn note(&mut self, line: &Decided) -> Vec<Signal> {
        let who = match (line.subject, &line.gateway) {
            (Some(subject), _) => Who::Subject(subject),
            (None, Some(gateway)) => Who::Gateway(gateway.clone()),
            (None, None) => return Vec::new(),
        };
        let mut signals = Vec::new();
        let known = self.young.remove(&who).or_else(|| self.old.remove(&who));
        let mut seen = known.unwrap_or(Seen { last: line.at, place: None, denials: (line.at, 0) });
        let mut tell = |kind, detail| {
            signals.push(Signal {
                kind,
                at: line.at,
                decision: line.id,
                of: line.entity.zip(line.subject),
                gateway: line.gateway.clone(),
                detail,
            });
        };
        if matches!(who, Who::Subject(_)) {
            if line.at.millis() - seen.last.millis() >= SLEEP_MS {
                tell(SignalKind::SleeperWoke, format!("not seen since {}", seen.last));
            }
            if let Some(place) = moved(line) {
                match seen.place {
                    Some((before, at)) if before != place && apart_ms(line.at, at) < MOVE_MS => {
                        tell(SignalKind::ImpossibleMove, format!("in {before} at {at}, now in {place}"));
                    }
                    Some(_) | None => {}
                }
                // A gateway reports late: what is remembered goes forward only.
                seen.place = seen.place.filter(|(_, at)| *at > line.at).or(Some((place, line.at)));
            }
        }
        if !line.is_permit {
            if line.at.millis() - seen.denials.0.millis() >= BURST_MS {
                seen.denials = (line.at, 0);
            }
            let before = seen.denials.1;
            seen.denials.1 = before.saturating_add(line.count);
            if before < BURST && seen.denials.1 >= BURST {
                tell(SignalKind::DenialBurst, format!("{} since {}", seen.denials.1, seen.denials.0));
            }
        }
        seen.last = seen.last.max(line.at);
        self.remember(who, seen);
        signals
    }

    fn remember(&mut self, who: Who, seen: Seen) {
        if self.young.len() >= CALLERS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(who, seen);
    }
}

const fn apart_ms(one: Timestamp, other: Timestamp) -> i64 {
    (one.millis() - other.millis()).abs()
}

/// The country that a person was in, if the edge knew it.
fn moved(line: &Decided) -> Option<Place> {
    match line.question.as_ref()?.place {
        Place::Unknown => None,
        place @ (Place::Us | Place::Country(_)) => Some(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decided::Question;
    use crate::domain::model::AccessForm;

    const BEGIN: Timestamp = Timestamp::from_millis(1_782_500_000_000);

    fn line(subject: u8, after_ms: i64, place: &str, is_permit: bool) -> Decided {
        let at = BEGIN.plus_ms(after_ms);
        Decided {
            at,
            is_permit,
            entity: Some(EntityId::from_bytes([9; 16])),
            subject: Some(SubjectId::from_bytes([subject; 16])),
            question: Some(Question {
                model: "mythos-5".to_owned(),
                form: AccessForm::Inference,
                place: place.parse().unwrap(),
                serving: None,
                purpose: None,
                chain: Vec::new(),
                end_user_identified: false,
            }),
            ..Decided::unrecorded(DecisionId::from_parts(at, [subject; 16]), at, 1)
        }
    }

    fn kinds(signals: &[Signal]) -> Vec<SignalKind> {
        signals.iter().map(|signal| signal.kind).collect()
    }

    #[test]
    fn twenty_denials_in_a_minute_are_one_burst() {
        let mut watch = Watch::default();
        for n in 0..19 {
            assert_eq!(watch.note(&line(1, n * 1_000, "US", false)), []);
            assert_eq!(watch.note(&line(2, n * 1_000, "US", true)), [], "permits are none");
        }
        let told = watch.note(&line(1, 59_999, "US", false));
        assert_eq!(kinds(&told), [SignalKind::DenialBurst]);
        assert!(told[0].detail.starts_with("20 since "), "{}", told[0].detail);
        assert_eq!(watch.note(&line(1, 59_999, "US", false)), [], "it is told once");
        for n in 0..19 {
            assert_eq!(watch.note(&line(1, 60_000 + n, "US", false)), []);
        }
        assert_eq!(kinds(&watch.note(&line(1, 61_000, "US", false))), [SignalKind::DenialBurst]);
        // Where no certificate says who it is, whoever asked; several in one line count as several.
        let gateway = Some("gw-1".parse().unwrap());
        let many =
            Decided { gateway, count: 20, ..Decided::unrecorded(DecisionId::from_bytes([1; 16]), BEGIN, 1) };
        assert_eq!(kinds(&watch.note(&many)), [SignalKind::DenialBurst]);
    }

    #[test]
    fn nobody_is_in_two_countries_within_an_hour() {
        let mut watch = Watch::default();
        assert_eq!(watch.note(&line(1, 0, "US", true)), []);
        assert_eq!(watch.note(&line(1, 1_000, "UNKNOWN", true)), [], "what is not known is no place");
        assert_eq!(watch.note(&line(2, 1_000, "FR", true)), [], "another one is");
        let told = watch.note(&line(1, MOVE_MS - 1, "FR", true));
        assert_eq!(kinds(&told), [SignalKind::ImpossibleMove]);
        assert!(
            told[0].detail.contains("in US at") && told[0].detail.contains("now in FR"),
            "{}",
            told[0].detail
        );
        assert_eq!(watch.note(&line(1, 2 * MOVE_MS - 1, "US", true)), [], "an hour later it can be");
        // A gateway reports late: what was long before is no move, and changes nothing.
        assert_eq!(watch.note(&line(1, -MOVE_MS, "DE", true)), []);
        assert_eq!(watch.note(&line(1, 2 * MOVE_MS, "US", true)), []);
    }

    #[test]
    fn who_was_away_for_thirty_days_is_told_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.note(&line(1, 0, "US", true)), [], "who is new does not sleep");
        assert_eq!(watch.note(&line(1, SLEEP_MS - 1, "US", true)), []);
        let told = watch.note(&line(1, 2 * SLEEP_MS, "US", true));
        assert_eq!(kinds(&told), [SignalKind::SleeperWoke]);
        assert_eq!(watch.note(&line(1, 2 * SLEEP_MS + 1, "US", true)), []);
    }

    #[test]
    fn so_many_are_remembered_and_those_who_are_heard_of_longest() {
        let mut watch = Watch::default();
        let one = |n: usize, after_ms| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Decided { subject: Some(SubjectId::from_bytes(bytes)), ..line(1, after_ms, "US", true) }
        };
        for n in 0..=2 * CALLERS_MAX {
            watch.note(&one(n, 0));
            if n.is_multiple_of(1_000) {
                watch.note(&one(0, 0));
            }
        }
        assert!(watch.young.len() + watch.old.len() <= 2 * CALLERS_MAX);
        assert_eq!(kinds(&watch.note(&one(0, SLEEP_MS))), [SignalKind::SleeperWoke]);
        assert_eq!(watch.note(&one(1, SLEEP_MS)), [], "it was forgotten");
    }
}
