//! Names by their words, so that one name is compared with the few that share something, not with all of them.
//!
//! Every word that occurs is held once. A name to look up is met by the words that are alike, and by pairs of its
//! neighbouring words written as one ("hua wei"), which must be equal. Nothing that scores as high as the threshold
//! without sharing a word, a pair or the whole is possible but by letters alone ("xhuawei corpx"), which is not found.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::entry::{EntryKind, ListEntry};
use super::fault::ListFault;
use super::name::{Reading, by_looks, by_sound};
use super::score::{ALIKE_MIN, Comparison, Weighed, alike, compare, explain, with_country};
use crate::domain::id::Digest;

/// The part of a name's weight that must be met before it is compared word by word: less cannot reach half of the score.
const MET_MIN: f64 = 0.4;
/// The longest explanation, in bytes.
const EXPLANATION_LEN_MAX: usize = 900;

/// The most memory of an index, by its own count: three times what the published list takes. Words that occur once cost far
/// more than their letters, so a file of them would take many times its length; two lists are held, and a third is read.
const HELD_LEN_MAX: usize = 512 << 20;
/// Vectors and tables have room for up to so many times what is in them.
const SLACK: usize = 3;
/// What the allocator keeps of each piece.
const PIECE_LEN: usize = 16;
/// A list of numbers and its first four.
const NUMBERS_LEN: usize = PIECE_LEN + 4 * size_of::<u32>();

/// What is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// A name.
    pub name: &'a str,
    /// The country of its seat, two letters, if known.
    pub country: Option<&'a str>,
    /// The least score of a hit, from 0 to 100.
    pub score_min: u8,
}

/// A name of the index that is close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The entry.
    pub entry: &'a ListEntry,
    /// Its digest.
    pub digest: Digest,
    /// The name of it that is closest.
    pub name: &'a str,
    /// From 0 to 100.
    pub score: u8,
    /// Why, in words; without the name of an entry that may be a person.
    pub explanation: String,
}

struct Name {
    entry: usize,
    /// 0: its name; else the number of the alternative name.
    number: usize,
    reading: Reading,
    joined: String,
    words: Vec<u32>,
}

struct Word {
    text: String,
    letters: u64,
    names: Vec<u32>,
    /// Names that have it as two neighbouring words.
    as_pair: Vec<u32>,
}

/// An index of entries.
pub struct NameIndex {
    entries: Vec<(ListEntry, Digest)>,
    /// Where an entry is: a page of matches asks for a thousand.
    by_digest: HashMap<Digest, usize>,
    names: Vec<Name>,
    words: Vec<Word>,
    numbers: HashMap<String, u32>,
    /// Numbers of words by their length, so that only those of about the same length are compared.
    by_len: BTreeMap<usize, Vec<u32>>,
    whole: HashMap<String, Vec<u32>>,
    /// Bytes that all of it takes at most.
    held: usize,
    held_max: usize,
}

impl Default for NameIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl NameIndex {
    /// An index without entries.
    pub fn new() -> Self {
        Self::within(HELD_LEN_MAX)
    }

    /// With so much memory.
    pub(super) fn within(held_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            by_digest: HashMap::new(),
            names: Vec::new(),
            words: Vec::new(),
            numbers: HashMap::new(),
            by_len: BTreeMap::new(),
            whole: HashMap::new(),
            held: 0,
            held_max,
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name of the entry with this digest.
    pub fn name_of(&self, entry: Digest) -> Option<&str> {
        self.entries.get(*self.by_digest.get(&entry)?).map(|(entry, _)| entry.name.as_str())
    }

    /// Adds an entry. Ships and aircraft are no parties, and are left out.
    ///
    /// # Errors
    /// There is no room for it. What was added before stays.
    pub fn add(&mut self, entry: ListEntry) -> Result<(), ListFault> {
        if matches!(entry.kind, EntryKind::Vessel | EntryKind::Aircraft) {
            return Ok(());
        }
        let at = self.entries.len();
        for (number, name) in entry.names().enumerate() {
            self.add_name(at, number, by_sound(name));
            if self.held > self.held_max {
                return Err(ListFault::TooManyWords);
            }
        }
        self.held += entry_len(&entry);
        let digest = entry.digest();
        self.by_digest.entry(digest).or_insert(at);
        self.entries.push((entry, digest));
        Ok(())
    }

    /// Bytes that it counted.
    #[cfg(test)]
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Bytes that it takes, by the room that every piece of it has.
    #[cfg(test)]
    pub(super) fn measured(&self) -> usize {
        let text = |text: &String| text.capacity() + PIECE_LEN;
        let numbers = |list: &Vec<u32>| match list.capacity() {
            0 => 0,
            room => room * size_of::<u32>() + PIECE_LEN,
        };
        let table = |room: usize, row: usize| room * 8 / 7 * (row + 1);
        let texts =
            |list: &Vec<String>| list.capacity() * size_of::<String>() + list.iter().map(text).sum::<usize>();
        let entries: usize = self
            .entries
            .iter()
            .map(|(entry, _)| {
                let own = [&entry.id, &entry.source, &entry.name, &entry.start_date, &entry.end_date];
                own.into_iter().map(text).sum::<usize>()
                    + texts(&entry.alt_names)
                    + texts(&entry.countries)
                    + texts(&entry.programs)
            })
            .sum();
        let names: usize = self
            .names
            .iter()
            .map(|name| texts(&name.reading.words) + text(&name.joined) + numbers(&name.words))
            .sum();
        let words: usize = self
            .words
            .iter()
            .map(|word| text(&word.text) + numbers(&word.names) + numbers(&word.as_pair))
            .sum();
        let whole: usize = self.whole.iter().map(|(key, list)| text(key) + numbers(list)).sum();
        let rows = self.entries.capacity() * size_of::<(ListEntry, Digest)>()
            + self.names.capacity() * size_of::<Name>()
            + self.words.capacity() * size_of::<Word>()
            + table(self.by_digest.capacity(), size_of::<(Digest, usize)>())
            + table(self.numbers.capacity(), size_of::<(String, u32)>())
            + table(self.whole.capacity(), size_of::<(String, Vec<u32>)>());
        let keys = self.numbers.keys().map(text).sum::<usize>();
        rows + keys + entries + names + words + whole + self.by_len.values().map(numbers).sum::<usize>()
    }

    fn add_name(&mut self, entry: usize, number: usize, reading: Reading) {
        let Ok(id) = u32::try_from(self.names.len()) else { return };
        let mut words = Vec::with_capacity(reading.words.len());
        self.held += name_len(&reading);
        for word in &reading.words {
            let number = self.number(word);
            words.push(number);
            if let Some(word) = self.words.get_mut(number as usize)
                && word.names.last() != Some(&id)
            {
                word.names.push(id);
            }
        }
        for pair in pairs(&reading.words) {
            let number = self.number(&pair);
            if let Some(word) = self.words.get_mut(number as usize) {
                word.as_pair.push(id);
            }
        }
        let joined = reading.joined();
        self.whole.entry(joined.clone()).or_default().push(id);
        self.names.push(Name { entry, number, reading, joined, words });
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.held += word_len(text);
        self.numbers.insert(text.to_owned(), number);
        self.words.push(Word {
            text: text.to_owned(),
            letters: letters(text),
            names: Vec::new(),
            as_pair: Vec::new(),
        });
        self.by_len.entry(text.len()).or_default().push(number);
        number
    }

    /// The closest name of each entry that reaches the score, best first.
    pub fn find(&self, query: Query<'_>) -> Vec<Hit<'_>> {
        let mut best: BTreeMap<usize, (f64, u32, Comparison, Reading)> = BTreeMap::new();
        let readings = std::iter::once(by_sound(query.name)).chain(by_looks(query.name));
        for reading in readings {
            for id in self.candidates(&reading) {
                let Some(name) = self.names.get(id as usize) else { continue };
                let found = self.compare(&reading, name);
                let (score, _) = self.with_country(&found, name, query.country);
                let is_better = best.get(&name.entry).is_none_or(|(before, ..)| score > *before);
                if score.round() >= f64::from(query.score_min) && is_better {
                    best.insert(name.entry, (score, id, found, reading.clone()));
                }
            }
        }
        let hits = best
            .into_values()
            .filter_map(|(score, id, found, reading)| self.hit(query, (score, id), &found, &reading));
        let mut hits: Vec<_> = hits.collect();
        hits.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.digest.cmp(&b.digest)));
        hits
    }

    fn with_country(&self, found: &Comparison, name: &Name, country: Option<&str>) -> (f64, &'static str) {
        let countries = self.entries.get(name.entry).map_or(&[][..], |(entry, _)| &entry.countries);
        with_country(found.score, country, countries)
    }

    fn hit(
        &self,
        query: Query<'_>,
        (score, id): (f64, u32),
        found: &Comparison,
        reading: &Reading,
    ) -> Option<Hit<'_>> {
        let name = self.names.get(id as usize)?;
        let (entry, digest) = self.entries.get(name.entry)?;
        let (_, country) = self.with_country(found, name, query.country);
        let which = match name.number {
            0 => "its name".to_owned(),
            number => format!("its alternative name {number}"),
        };
        let words = explain(reading, &name.reading, found, entry.is_person());
        let mut explanation = format!("{which}: {words}country {country}");
        while explanation.len() > EXPLANATION_LEN_MAX {
            explanation.pop();
        }
        let shown = entry.names().nth(name.number)?;
        // From 0 to 100 by its making, and a cast of a float saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let score = score.round() as u8;
        Some(Hit { entry, digest: *digest, name: shown, score, explanation })
    }

    fn compare(&self, reading: &Reading, name: &Name) -> Comparison {
        let ours: Vec<_> = reading.words.iter().map(|word| self.weighed(word)).collect();
        let numbers = name.words.iter().zip(&name.reading.words);
        let theirs: Vec<_> =
            numbers.map(|(number, word)| Weighed { word, weight: self.weight(Some(*number)) }).collect();
        compare(&ours, &theirs, (&reading.joined(), &name.joined))
    }

    fn weighed<'a>(&self, word: &'a str) -> Weighed<'a> {
        Weighed { word, weight: self.weight(self.numbers.get(word).copied()) }
    }

    /// What a word tells: the rarer, the more. One that does not occur is as rare as one that occurs once.
    fn weight(&self, number: Option<u32>) -> f64 {
        let times = number.and_then(|number| self.words.get(number as usize)).map_or(1, |w| w.names.len());
        // Counts are far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (names, times) = (self.names.len().max(1) as f64, times.max(1) as f64);
        (1.0 + names / times).ln()
    }

    /// Names that share enough to be worth a comparison.
    fn candidates(&self, reading: &Reading) -> HashSet<u32> {
        let mut met: HashMap<u32, f64> = HashMap::new();
        let mut found: HashSet<u32> =
            self.whole.get(&reading.joined()).into_iter().flatten().copied().collect();
        let mut total = 0.0;
        let distinct: HashSet<&String> = reading.words.iter().collect();
        for word in distinct {
            let weight = self.weight(self.numbers.get(word).copied());
            total += weight;
            let mut of_word: HashMap<u32, f64> = HashMap::new();
            for (number, value) in self.alike(word) {
                for name in self.words.get(number as usize).map_or(&[][..], |word| &word.names) {
                    let best = of_word.entry(*name).or_default();
                    *best = best.max(value);
                }
            }
            for (name, value) in of_word {
                *met.entry(name).or_default() += weight * value;
            }
            // What they wrote as two words and we as one.
            if let Some(word) = self.numbers.get(word).and_then(|number| self.words.get(*number as usize)) {
                found.extend(&word.as_pair);
            }
        }
        for pair in pairs(&reading.words) {
            if let Some(word) = self.numbers.get(&pair).and_then(|number| self.words.get(*number as usize)) {
                found.extend(word.names.iter().chain(&word.as_pair));
            }
        }
        found.extend(
            met.into_iter().filter(|(name, met)| self.is_met(*name, *met, total)).map(|(name, _)| name),
        );
        found
    }

    /// Is enough met of ours, or of theirs? A short listed name within a long one of ours counts as much.
    fn is_met(&self, name: u32, met: f64, total: f64) -> bool {
        let Some(name) = self.names.get(name as usize) else { return false };
        let theirs: f64 = name.words.iter().map(|number| self.weight(Some(*number))).sum();
        met >= MET_MIN * total.min(theirs)
    }

    /// Words that are alike, and how much.
    fn alike(&self, word: &str) -> Vec<(u32, f64)> {
        let mut found: Vec<_> = self.numbers.get(word).map(|number| (*number, 1.0)).into_iter().collect();
        let ours = letters(word);
        // Both halves of the score are at most 1, so the edit distance is at most this part of the longer word.
        let edits = |len: usize| len * 4 / 10;
        let shortest = word.len() - edits(word.len()).min(word.len());
        for (len, numbers) in self.by_len.range(shortest..=word.len() * 10 / 6) {
            let most = edits(word.len().max(*len));
            for number in numbers {
                let Some(theirs) = self.words.get(*number as usize) else { continue };
                let apart = (ours & !theirs.letters).count_ones().max((theirs.letters & !ours).count_ones());
                if apart as usize > most || theirs.names.is_empty() || theirs.text == word {
                    continue;
                }
                let value = alike(word, &theirs.text);
                if value >= ALIKE_MIN {
                    found.push((*number, value));
                }
            }
        }
        found
    }
}

/// What an entry takes at most, beside its names as they are compared.
fn entry_len(entry: &ListEntry) -> usize {
    let texts = [&entry.id, &entry.source, &entry.name, &entry.start_date, &entry.end_date];
    let lists = [&entry.alt_names, &entry.countries, &entry.programs];
    let texts = texts.into_iter().map(text_len).sum::<usize>();
    let lists = lists.into_iter().flatten().map(|text| SLACK * size_of::<String>() + text_len(text));
    let rows = size_of::<(ListEntry, Digest)>() + size_of::<(Digest, usize)>() + 1;
    SLACK * rows + texts + lists.sum::<usize>()
}

/// What a name takes at most, beside words that are new: itself, and its place with each of its words and pairs.
fn name_len(reading: &Reading) -> usize {
    let words = reading.words.len();
    let own: usize = reading.words.iter().map(|word| SLACK * size_of::<String>() + text_len(word)).sum();
    let joined: usize = reading.words.iter().map(String::len).sum::<usize>() + words + PIECE_LEN;
    let whole = SLACK * (size_of::<(String, Vec<u32>)>() + 1) + NUMBERS_LEN;
    // Its own numbers, and one in a list of each word and pair.
    let numbers = (1 + 2 * SLACK) * words * size_of::<u32>() + PIECE_LEN;
    SLACK * size_of::<Name>() + own + SLACK * joined + whole + numbers
}

/// What a new word takes at most: twice its letters, its row, its numbers, and its two lists of names.
fn word_len(text: &str) -> usize {
    let rows = size_of::<Word>() + size_of::<(String, u32)>() + 1 + size_of::<u32>();
    SLACK * rows + 2 * (text.len() + PIECE_LEN) + 2 * NUMBERS_LEN
}

/// A text's letters. It may have been read with room to spare.
fn text_len(text: &String) -> usize {
    text.capacity() + PIECE_LEN
}

/// Which letters and digits occur. A letter that only one of two words has costs an edit.
fn letters(word: &str) -> u64 {
    word.bytes().fold(0, |set, byte| match byte {
        b'a'..=b'z' => set | 1 << (byte - b'a'),
        b'0'..=b'9' => set | 1 << (26 + byte - b'0'),
        _ => set,
    })
}

/// Neighbouring words written as one.
fn pairs(words: &[String]) -> impl Iterator<Item = String> {
    words.windows(2).map(<[String]>::concat)
}
