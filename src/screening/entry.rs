//! One entry of a list, as far as it is matched and shown.

use super::fault::ListFault;
use super::{ALT_NAMES_MAX, NAME_LEN_MAX};
use crate::domain::id::Digest;
use crate::domain::word::words;

/// The most countries that are kept of an entry: more say nothing.
const COUNTRIES_MAX: usize = 64;
/// The longest id, source or programme.
const WORD_LEN_MAX: usize = 500;

words! {
    /// What an entry names.
    EntryKind {
        /// A company, an institute, a ministry.
        Entity = 0, "ENTITY";
        /// A person: the record never keeps the name.
        Individual = 1, "INDIVIDUAL";
        /// A ship.
        Vessel = 2, "VESSEL";
        /// An aircraft, by its registration mark.
        Aircraft = 3, "AIRCRAFT";
        /// Not said, as on the lists of Commerce: persons and companies alike.
        Unknown = 4, "UNKNOWN";
    }
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Its id, as published. Some lists give a new one with each version, so nothing is recognised by it.
    pub id: String,
    /// The list that it is of, as a short code: SDN, EL, DPL.
    pub source: String,
    /// What it names.
    pub kind: EntryKind,
    /// Its name.
    pub name: String,
    /// Its alternative names.
    pub alt_names: Vec<String>,
    /// Countries of its addresses and nationalities, as published: two letters.
    pub countries: Vec<String>,
    /// Programmes that it is listed under.
    pub programs: Vec<String>,
    /// Since when, as published.
    pub start_date: String,
    /// Until when, as published.
    pub end_date: String,
}

/// What a file says of an entry, before it is looked at.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) alt_names: Vec<String>,
    pub(super) countries: Vec<String>,
    pub(super) programs: Vec<String>,
    pub(super) start_date: String,
    pub(super) end_date: String,
}

impl ListEntry {
    pub(super) fn new(row: u32, published: Published) -> Result<Self, ListFault> {
        let fault = |field: &'static str, why: &'static str| ListFault::Field { row, field, why };
        let source = code(&published.source);
        if source.is_empty() {
            return Err(fault("source", "is empty"));
        }
        let name = tidy(&published.name);
        if name.is_empty() {
            return Err(fault("name", "is empty"));
        }
        if published.alt_names.len() > ALT_NAMES_MAX {
            return Err(fault("alt_names", "has more than 500 names"));
        }
        let alt_names: Vec<_> = published.alt_names.iter().map(|name| tidy(name)).collect();
        if std::iter::once(&name).chain(&alt_names).any(|name| name.len() > NAME_LEN_MAX) {
            return Err(fault("name", "has more than 2000 bytes"));
        }
        let words = published.programs.iter().chain([
            &published.id,
            &source,
            &published.start_date,
            &published.end_date,
        ]);
        if words.into_iter().any(|word| word.len() > WORD_LEN_MAX) {
            return Err(fault("programs", "an id, a source, a date or a programme has more than 500 bytes"));
        }
        let mut countries: Vec<_> = published.countries.into_iter().filter(|c| is_country(c)).collect();
        countries.sort_unstable();
        countries.dedup();
        countries.truncate(COUNTRIES_MAX);
        Ok(Self {
            id: published.id.trim().to_owned(),
            source,
            kind: kind(&published.kind),
            name,
            alt_names: alt_names.into_iter().filter(|name| !name.is_empty()).collect(),
            countries,
            programs: published.programs,
            start_date: published.start_date.trim().to_owned(),
            end_date: published.end_date.trim().to_owned(),
        })
    }

    /// SHA-256 of what it says, its published id left out: the same in the CSV and the JSON of a version, and in the next
    /// version when nothing that is matched or shown changed.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut put = |text: &str| {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        for text in [&self.source, self.kind.as_str(), &self.name, &self.start_date, &self.end_date] {
            put(text);
        }
        for list in [&self.alt_names, &self.countries, &self.programs] {
            put(&list.len().to_string());
            list.iter().for_each(|text| put(text));
        }
        Digest::of(&bytes)
    }

    /// May its names be kept in the record? Not where they may be a person's.
    pub fn is_person(&self) -> bool {
        match self.kind {
            EntryKind::Individual | EntryKind::Unknown => true,
            EntryKind::Entity | EntryKind::Vessel | EntryKind::Aircraft => false,
        }
    }

    /// Its name and its alternative names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.alt_names.iter().map(String::as_str))
    }
}

/// One line: some names are broken over several.
fn tidy(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// "Entity List (EL) - Bureau of Industry and Security" is EL; what has no code is written out.
fn code(source: &str) -> String {
    let inner = source.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(code, _)| code);
    // "NS-MBS List" is NS-MBS.
    let inner = inner.and_then(|code| code.split_whitespace().next());
    let is_code = |code: &&str| code.chars().all(|c| c.is_ascii_uppercase() || c == '-');
    inner.filter(is_code).map_or_else(|| tidy(source), str::to_owned)
}

fn kind(published: &str) -> EntryKind {
    match published.trim().to_ascii_lowercase().as_str() {
        "entity" => EntryKind::Entity,
        "individual" => EntryKind::Individual,
        "vessel" => EntryKind::Vessel,
        "aircraft" => EntryKind::Aircraft,
        _ => EntryKind::Unknown,
    }
}

fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
