//! What is compared of a name: words without case, diacritics, script, punctuation and legal form.
//!
//! Two readings of a name are made: by its sound (a Cyrillic name is transliterated) and by its looks (a Latin name
//! spelled with Cyrillic letters is read as Latin). They differ only where something other than ASCII, or a digit among
//! letters, is there.

use deunicode::deunicode_char;
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;

use super::NAME_LEN_MAX;

/// The most words of a name that are compared; nothing published has half of that.
pub(super) const WORDS_MAX: usize = 48;

/// Words for a legal form. They tell nobody apart.
const LEGAL_FORMS: &[&str] = &[
    "ab",
    "ag",
    "aktiengesellschaft",
    "aktiebolag",
    "aps",
    "as",
    "asa",
    "bhd",
    "bv",
    "bvba",
    "co",
    "company",
    "corp",
    "corporation",
    "doo",
    "dmcc",
    "eood",
    "fze",
    "fzco",
    "fzc",
    "fzllc",
    "gesellschaft",
    "gie",
    "gmbh",
    "ic",
    "inc",
    "incorporated",
    "jsc",
    "kft",
    "kg",
    "kk",
    "limited",
    "limitada",
    "llc",
    "llp",
    "lp",
    "ltd",
    "ltda",
    "mbh",
    "nv",
    "ojsc",
    "ooo",
    "oy",
    "oyj",
    "pao",
    "pjsc",
    "plc",
    "pte",
    "pty",
    "pvt",
    "sa",
    "sae",
    "saic",
    "sal",
    "sanayi",
    "sarl",
    "sas",
    "sdn",
    "se",
    "sirketi",
    "societe",
    "spa",
    "sp",
    "spzoo",
    "srl",
    "sro",
    "sti",
    "ticaret",
    "zao",
    "zoo",
];
/// Words that join others.
const PARTICLES: &[&str] = &[
    "a", "an", "and", "da", "de", "der", "des", "di", "do", "du", "et", "for", "la", "le", "of", "the",
    "und", "y",
];
/// Short forms, and forms of one word that are written for another.
const SAME: &[(&str, &str)] = &[
    ("academie", "academy"),
    ("dept", "department"),
    ("elec", "electronics"),
    ("electronic", "electronics"),
    ("engg", "engineering"),
    ("eng", "engineering"),
    ("grp", "group"),
    ("ind", "industry"),
    ("industrial", "industry"),
    ("industries", "industry"),
    ("inst", "institute"),
    ("institut", "institute"),
    ("intl", "international"),
    ("int", "international"),
    ("lab", "laboratory"),
    ("laboratories", "laboratory"),
    ("labs", "laboratory"),
    ("mfg", "manufacturing"),
    ("natl", "national"),
    ("sci", "science"),
    ("sciences", "science"),
    ("svcs", "services"),
    ("service", "services"),
    ("system", "systems"),
    ("tech", "technology"),
    ("technologies", "technology"),
    ("technological", "technology"),
    ("univ", "university"),
    ("universitaet", "university"),
    ("universite", "university"),
];

/// A name as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Its words, in their order.
    pub(super) words: Vec<String>,
    /// Was a legal form left out?
    pub(super) is_shortened: bool,
}

impl Reading {
    /// All words as one.
    pub(super) fn joined(&self) -> String {
        self.words.concat()
    }
}

/// A name by its sound.
pub(super) fn by_sound(name: &str) -> Reading {
    let mut ascii = String::new();
    for c in prepared(name).chars() {
        match deunicode_char(c) {
            Some(text) if c.is_ascii() => ascii.push_str(text),
            // Ideographs come with a space behind each; combined marks are nothing.
            Some(text) => ascii.push_str(&text.to_ascii_lowercase()),
            None => ascii.push(' '),
        }
    }
    words(&ascii)
}

/// A name by its looks, if that is another reading.
pub(super) fn by_looks(name: &str) -> Option<Reading> {
    let prepared = prepared(name);
    let mut latin = String::new();
    for c in prepared.chars() {
        match c.is_ascii() {
            true => latin.push(c),
            // Only what is foreign: the skeleton of ASCII itself is another alphabet (m is rn).
            false => latin.extend(skeleton(c.encode_utf8(&mut [0; 4])).nfd().filter(|c| c.is_ascii())),
        }
    }
    let latin: Vec<_> = latin.to_lowercase().split_whitespace().map(letters_for_digits).collect();
    let reading = words(&latin.join(" "));
    (!reading.words.is_empty() && reading != by_sound(name)).then_some(reading)
}

/// M1cr0soft is microsoft; 3M and 702 stay what they are.
fn letters_for_digits(word: &str) -> String {
    let letters = word.chars().filter(char::is_ascii_alphabetic).count();
    if letters < 3 || !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return word.to_owned();
    }
    let letter = |c| match c {
        '0' => 'o',
        '1' => 'l',
        '3' => 'e',
        '5' => 's',
        c => c,
    };
    word.chars().map(letter).collect()
}

/// Compatible forms are one form, without case.
fn prepared(name: &str) -> String {
    let end = (0..=NAME_LEN_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    let name = name.get(..end.unwrap_or_default()).unwrap_or_default();
    name.nfkc().flat_map(char::to_lowercase).collect()
}

fn words(ascii: &str) -> Reading {
    let mut text = String::with_capacity(ascii.len());
    for c in ascii.chars() {
        match c {
            '\'' | '`' => {}
            '&' | '+' => text.push_str(" and "),
            c if c.is_ascii_alphanumeric() => text.push(c.to_ascii_lowercase()),
            _ => text.push(' '),
        }
    }
    let all = initials_joined(text.split_whitespace().take(WORDS_MAX));
    let bare: Vec<String> = all.iter().filter(|word| !is_empty_word(word)).map(|word| same(word)).collect();
    let is_shortened = all.iter().any(|word| LEGAL_FORMS.contains(&word.as_str()));
    match bare.is_empty() {
        // A name of nothing else is compared as it is.
        true => Reading { words: all, is_shortened: false },
        false => Reading { words: bare, is_shortened },
    }
}

fn is_empty_word(word: &str) -> bool {
    LEGAL_FORMS.contains(&word) || PARTICLES.contains(&word)
}

fn same(word: &str) -> String {
    SAME.iter().find(|(short, _)| *short == word).map_or(word, |(_, long)| long).to_owned()
}

/// "u s a" is usa, "s p a" is spa.
fn initials_joined<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in words {
        let is_initial = word.len() == 1 && word.starts_with(|c: char| c.is_ascii_alphabetic());
        match joined.last_mut() {
            Some(last) if is_initial && is_open => last.push_str(word),
            _ => joined.push(word.to_owned()),
        }
        is_open = is_initial;
    }
    joined
}
