//! Why a file is no list. Each names the row and says what was expected.

use thiserror::Error;

/// The columns of the published CSV and TSV, in their order.
pub(super) const COLUMNS: [&str; 29] = [
    "_id",
    "source",
    "entity_number",
    "type",
    "programs",
    "name",
    "title",
    "addresses",
    "federal_register_notice",
    "start_date",
    "end_date",
    "standard_order",
    "license_requirement",
    "license_policy",
    "call_sign",
    "vessel_type",
    "gross_tonnage",
    "gross_registered_tonnage",
    "vessel_flag",
    "vessel_owner",
    "remarks",
    "source_list_url",
    "alt_names",
    "citizenships",
    "dates_of_birth",
    "nationalities",
    "places_of_birth",
    "source_information_url",
    "ids",
];

/// Why a file is refused. Nothing of a refused file is used.
#[derive(Debug, Error)]
pub enum ListFault {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Another format.
    #[error(
        "the file is {0}; expected is consolidated.csv, consolidated.tsv or consolidated.json as trade.gov publishes them, in UTF-8"
    )]
    Format(&'static str),
    /// The columns differ.
    #[error("the header {why}; expected are the 29 published columns, in any order: {}", COLUMNS.join(", "))]
    Header {
        /// What is missing, unknown or there twice.
        why: String,
    },
    /// It has more than [`FILE_LEN_MAX`](super::FILE_LEN_MAX) bytes.
    #[error("the file is longer than 256 MiB")]
    TooLong,
    /// It has more than [`ENTRIES_MAX`](super::ENTRIES_MAX) entries.
    #[error("the file has more than 500000 entries")]
    TooMany,
    /// A record has more than [`RECORD_LEN_MAX`](super::RECORD_LEN_MAX) bytes.
    #[error("entry {row} is longer than 1 MiB")]
    RecordTooLong {
        /// The entry, counted from 1.
        row: u32,
    },
    /// A field that does not hold.
    #[error("entry {row}: {field} {why}")]
    Field {
        /// The entry, counted from 1.
        row: u32,
        /// Which field.
        field: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// Its names would take too much memory.
    #[error(
        "the names of the file have so many different words that comparing with them takes more than 512 MiB of memory, three times \
         what the published list does; import the list as it was published, or leave entries out that are no parties"
    )]
    TooManyWords,
    /// Bytes that are not UTF-8.
    #[error("entry {row} is not UTF-8; save the file as it was published")]
    Encoding {
        /// The entry, counted from 1.
        row: u32,
    },
    /// The file ends too early.
    #[error("the file is truncated: {why}; download it again")]
    Truncated {
        /// How that shows.
        why: String,
    },
    /// An entry that cannot be read.
    #[error("entry {row} cannot be read: {why}")]
    Row {
        /// The entry, counted from 1.
        row: u32,
        /// What is wrong.
        why: String,
    },
    /// Not a single entry.
    #[error("the file has no entries")]
    Empty,
}
