//! How close two names are, from 0 to 100, and why in words.

use std::fmt::Write as _;

use strsim::{jaro_winkler, normalized_damerau_levenshtein};

use super::name::Reading;

/// Words less alike than this have nothing to do with each other.
pub(super) const ALIKE_MIN: f64 = 0.80;
/// Shorter words are the same or not: IRAN and IRAQ differ by one letter.
const ALIKE_LEN_MIN: usize = 5;
/// Names that are as close as this without their spaces are close whatever their words are.
const JOINED_LEN_MIN: usize = 6;
/// What the same country adds, and another one takes away.
const COUNTRY_RAISES: f64 = 2.0;
const COUNTRY_LOWERS: f64 = 3.0;
/// From here on a country lowers nothing: an exact name abroad is a hit.
const COUNTRY_BOUND: f64 = 95.0;

/// How much alike two words are, from 0 to 1. Jaro-Winkler alone is too kind to a common beginning ("technology" and
/// "technical"), the edit distance alone to two letters changed in a short word.
pub(super) fn alike(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    if a.len().min(b.len()) < ALIKE_LEN_MIN {
        return 0.0;
    }
    let value = f64::midpoint(jaro_winkler(a, b), normalized_damerau_levenshtein(a, b));
    if value >= ALIKE_MIN { value } else { 0.0 }
}

/// A word with how much it tells: rare words tell more.
#[derive(Debug, Clone)]
pub(super) struct Weighed<'a> {
    pub(super) word: &'a str,
    pub(super) weight: f64,
}

/// What was found when two readings were compared.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    /// From 0 to 100, without the country.
    pub(super) score: f64,
    pairs: Vec<(usize, usize, f64)>,
    is_joined: bool,
}

/// Compares word with word, whatever their order, each with the one it is most like.
pub(super) fn compare(ours: &[Weighed<'_>], theirs: &[Weighed<'_>], joined: (&str, &str)) -> Comparison {
    let mut all = Vec::new();
    for (i, a) in ours.iter().enumerate() {
        for (j, b) in theirs.iter().enumerate() {
            let value = alike(a.word, b.word);
            if value > 0.0 {
                all.push((i, j, value));
            }
        }
    }
    all.sort_by(|a, b| b.2.total_cmp(&a.2));
    let (mut used_ours, mut used_theirs) = (vec![false; ours.len()], vec![false; theirs.len()]);
    let mut pairs = Vec::new();
    for (i, j, value) in all {
        if let (Some(a @ false), Some(b @ false)) = (used_ours.get_mut(i), used_theirs.get_mut(j)) {
            (*a, *b) = (true, true);
            pairs.push((i, j, value));
        }
    }
    pairs.sort_unstable_by_key(|(i, j, _)| (*i, *j));
    let by_words = by_words(ours, theirs, &pairs);
    let by_letters = by_letters(joined);
    Comparison { score: by_words.max(by_letters) * 100.0, pairs, is_joined: by_letters > by_words }
}

fn by_words(ours: &[Weighed<'_>], theirs: &[Weighed<'_>], pairs: &[(usize, usize, f64)]) -> f64 {
    let total = |words: &[Weighed<'_>]| words.iter().map(|word| word.weight).sum::<f64>();
    let weight = |words: &[Weighed<'_>], at: usize| words.get(at).map_or(0.0, |word| word.weight);
    let met_ours: f64 = pairs.iter().map(|(i, _, value)| weight(ours, *i) * value).sum();
    let met_theirs: f64 = pairs.iter().map(|(_, j, value)| weight(theirs, *j) * value).sum();
    let (ours, theirs) = (total(ours), total(theirs));
    if ours <= 0.0 || theirs <= 0.0 {
        return 0.0;
    }
    let both = (met_ours + met_theirs) / (ours + theirs);
    // A whole listed name within ours is a subsidiary or a branch more often than chance.
    let whole = (met_theirs / theirs).max(0.9 * met_ours / ours);
    f64::midpoint(both, whole)
}

fn by_letters((ours, theirs): (&str, &str)) -> f64 {
    let (short, long) = (ours.len().min(theirs.len()), ours.len().max(theirs.len()));
    if ours == theirs {
        return 1.0;
    }
    // Each letter more is one edit, so nothing is lost; and a long name costs the square of its length.
    if short < JOINED_LEN_MIN || short * 10 < long * 8 {
        return 0.0;
    }
    normalized_damerau_levenshtein(ours, theirs)
}

/// The score with the country, and what the country did.
pub(super) fn with_country(score: f64, ours: Option<&str>, theirs: &[String]) -> (f64, &'static str) {
    let Some(ours) = ours.filter(|_| !theirs.is_empty()) else { return (score, "not compared") };
    match theirs.iter().any(|theirs| theirs == ours) {
        true => ((score + COUNTRY_RAISES).min(100.0), "the same, +2"),
        false if score < COUNTRY_BOUND => ((score - COUNTRY_LOWERS).max(0.0), "another, -3"),
        false => (score, "another, nothing taken from a name this close"),
    }
}

/// Says in words why two names are close: which word met which, and what met nothing.
pub(super) fn explain(ours: &Reading, theirs: &Reading, found: &Comparison, is_person: bool) -> String {
    let mut text = String::new();
    // Of somebody's name the record keeps nothing: only which of our words it met.
    let shown = |word: &str| if is_person { "a word of the entry".to_owned() } else { word.to_owned() };
    for (i, j, value) in &found.pairs {
        let (Some(a), Some(b)) = (ours.words.get(*i), theirs.words.get(*j)) else { continue };
        let _ = match value {
            1.0.. => write!(text, "{a} is the same; "),
            _ => write!(text, "{a} is close to {} ({:.0} of 100); ", shown(b), value * 100.0),
        };
    }
    let lonely = |words: &[String], met: &dyn Fn(usize) -> bool| {
        let left = words.iter().enumerate().filter(|(at, _)| !met(*at)).map(|(_, word)| word.clone());
        left.collect::<Vec<_>>()
    };
    let left_ours = lonely(&ours.words, &|at| found.pairs.iter().any(|(i, _, _)| *i == at));
    let left_theirs = lonely(&theirs.words, &|at| found.pairs.iter().any(|(_, j, _)| *j == at));
    if found.is_joined {
        text.push_str("without spaces the names are closer than word by word; ");
    }
    if !left_ours.is_empty() {
        let _ = write!(text, "only ours has {}; ", left_ours.join(", "));
    }
    match (left_theirs.len(), is_person) {
        (0, _) => {}
        (len, true) => {
            let _ = write!(text, "only the entry has {len} more; ");
        }
        (_, false) => {
            let _ = write!(text, "only the entry has {}; ", left_theirs.join(", "));
        }
    }
    if ours.is_shortened || theirs.is_shortened {
        text.push_str("legal forms are not compared; ");
    }
    text
}
