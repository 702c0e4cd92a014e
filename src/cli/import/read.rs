//! A list of people as a file: CSV with a header, or one JSON object a line. Every line is looked at by itself and is
//! never longer than a person can be, so a file that is something else is found early and costs no memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use unicode_security::skeleton;

use crate::cli::Failure;
use crate::domain::id::{Digest, EntityId, SubjectId};
use crate::domain::person::Relation;
use crate::domain::subject::{is_reference, reference_digest};
use crate::domain::time::Timestamp;
use crate::pb;

/// The longest line: five short fields need some 200 bytes.
const LINE_LEN_MAX: usize = 4 << 10;
/// The most people of one file: ten times what is expected at once.
const ROWS_MAX: u64 = 1_000_000;
/// The columns that a file may have.
const COLUMNS: [&str; 5] = ["entity_id", "reference", "subject_id", "relation", "relation_until"];

/// One person, and where the file says so.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) person: pb::ImportedPerson,
}

/// A line that is not taken, while others are.
#[derive(Debug)]
pub(super) struct RowFault {
    pub(super) line: u64,
    pub(super) column: String,
    pub(super) why: String,
}

enum Format {
    /// Which field each column is.
    Csv(Vec<&'static str>),
    JsonLines,
}

/// The people of a file, in order.
pub(super) struct People {
    input: BufReader<File>,
    name: String,
    format: Format,
    line: u64,
    rows: u64,
    allow_alike: bool,
    /// Who was seen, by what the reference looks like: the reference, and the line.
    seen: HashMap<Digest, (Digest, u64)>,
}

impl People {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path, allow_alike: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Failure(format!("{name}: {e}")))?;
        let mut people = Self {
            input: BufReader::new(file),
            name,
            format: Format::JsonLines,
            line: 0,
            rows: 0,
            allow_alike,
            seen: HashMap::new(),
        };
        people.check_encoding()?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => {}
            Some("csv") => people.format = Format::Csv(people.read_header()?),
            Some(_) | None => return Err(people.fault("", "its name must end with .csv or .jsonl")),
        }
        Ok(people)
    }

    /// The next person; none: the file ends.
    pub(super) fn next(&mut self) -> Result<Option<Result<Row, RowFault>>, Failure> {
        loop {
            let Some(read) = self.next_line()? else { return Ok(None) };
            let text = match read {
                Ok(text) if text.is_empty() => continue,
                Ok(text) => text,
                Err(why) => return Ok(Some(Err(self.row_fault("1", why)))),
            };
            self.rows += 1;
            if self.rows > ROWS_MAX {
                return Err(self.fault("", "it has more than a million people: split it"));
            }
            let fields = match &self.format {
                Format::Csv(columns) => csv_fields(columns, &text),
                Format::JsonLines => json_fields(&text),
            };
            let row = fields.and_then(|person| self.check(person));
            return Ok(Some(row.map_err(|(column, why)| self.row_fault(&column, why))));
        }
    }

    fn check_encoding(&mut self) -> Result<(), Failure> {
        let start = self.input.fill_buf()?;
        let found = match start {
            [0xef, 0xbb, 0xbf, ..] => "it begins with a byte order mark (EF BB BF)",
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16",
            _ => return Ok(()),
        };
        self.line = 1;
        Err(self.fault("1", &format!("{found}: save it as UTF-8 without one")))
    }

    fn read_header(&mut self) -> Result<Vec<&'static str>, Failure> {
        let text = match self.next_line()? {
            Some(Ok(text)) => text,
            Some(Err(why)) => return Err(self.fault("1", &why)),
            None => return Err(self.fault("1", "it is empty; the first line names the columns")),
        };
        let names = split(&text).map_err(|(column, why)| self.fault(&column, &why))?;
        let mut columns = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let at = (at + 1).to_string();
            let column = column_named(name).map_err(|why| self.fault(&at, &why))?;
            if columns.contains(&column) {
                return Err(self.fault(&at, &format!("the column {column} is there twice")));
            }
            columns.push(column);
        }
        for needed in ["entity_id", "relation"] {
            if !columns.contains(&needed) {
                return Err(self.fault("", &format!("the column {needed} is missing")));
            }
        }
        if !columns.contains(&"reference") && !columns.contains(&"subject_id") {
            return Err(self.fault("", "the column reference is missing (or subject_id)"));
        }
        Ok(columns)
    }

    /// The next line without its end; the inner error: it is too long, and was skipped.
    fn next_line(&mut self) -> Result<Option<Result<String, String>>, Failure> {
        let mut bytes = Vec::new();
        let limit = (LINE_LEN_MAX + 1) as u64;
        (&mut self.input).take(limit).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if bytes.len() > LINE_LEN_MAX && bytes.last() != Some(&b'\n') {
            self.skip_line()?;
            return Ok(Some(Err(format!("the line is longer than {LINE_LEN_MAX} bytes"))));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Ok(text.trim_end_matches(['\n', '\r']).to_owned()))),
            Err(error) => {
                let byte = (error.utf8_error().valid_up_to() + 1).to_string();
                Err(self.fault(&format!("byte {byte}"), "it is not UTF-8: save it as UTF-8"))
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), Failure> {
        loop {
            let buffer = self.input.fill_buf()?;
            let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(used);
            if ended {
                return Ok(());
            }
        }
    }

    /// What can be seen without the server.
    fn check(&mut self, person: pb::ImportedPerson) -> Result<Row, (String, String)> {
        let at = |column: &str, why: String| (column.to_owned(), why);
        let entity: EntityId = person.entity_id.parse().map_err(|e| at("entity_id", format!("{e}")))?;
        person.relation.parse::<Relation>().map_err(|e| at("relation", e.to_string()))?;
        if !person.relation_until.is_empty() {
            person.relation_until.parse::<Timestamp>().map_err(|e| at("relation_until", e.to_string()))?;
        }
        let (key, looks) = match (person.reference.as_str(), person.subject_id.as_str()) {
            ("", "") => return Err(at("reference", "it is empty, and so is subject_id".to_owned())),
            ("", subject) => {
                let id: SubjectId = subject.parse().map_err(|e| at("subject_id", format!("{e}")))?;
                (Digest::of(&id.to_bytes()), Digest::of(&id.to_bytes()))
            }
            (reference, "") => {
                check_reference(reference).map_err(|why| at("reference", why))?;
                let looks: String = skeleton(reference).collect();
                (reference_digest(entity, reference), reference_digest(entity, &looks))
            }
            _ => return Err(at("subject_id", "either it or reference is needed, not both".to_owned())),
        };
        let place = if self.allow_alike { key } else { looks };
        match self.seen.insert(place, (key, self.line)) {
            Some((same, line)) if same == key => {
                Err(at("reference", format!("the same person is in line {line}")))
            }
            Some((_, line)) => Err(at(
                "reference",
                format!("it looks like the one in line {line}; --allow-alike when both are right"),
            )),
            None => Ok(Row { line: self.line, person }),
        }
    }

    fn row_fault(&self, column: &str, why: String) -> RowFault {
        RowFault { line: self.line, column: column.to_owned(), why }
    }

    /// What is wrong with the file as a whole.
    fn fault(&self, column: &str, why: &str) -> Failure {
        let place = match (self.line, column) {
            (0, _) => String::new(),
            (line, "") => format!("line {line}: "),
            (line, column) => format!("line {line}, column {column}: "),
        };
        Failure(format!("{}: {place}{why}", self.name))
    }
}

fn check_reference(reference: &str) -> Result<(), String> {
    if is_reference(reference) {
        return Ok(());
    }
    match reference.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
        Some((at, c)) => {
            let looks: String = skeleton(c.encode_utf8(&mut [0; 4])).filter(char::is_ascii_graphic).collect();
            let looks = if looks.is_empty() { String::new() } else { format!(", which looks like {looks}") };
            Err(format!(
                "character {} is U+{:04X}{looks}; only printable ASCII without spaces is allowed",
                reference.get(..at).unwrap_or_default().chars().count() + 1,
                u32::from(c)
            ))
        }
        None => Err("it is longer than 64 characters".to_owned()),
    }
}

fn column_named(name: &str) -> Result<&'static str, String> {
    if let Some(known) = COLUMNS.iter().find(|known| **known == name) {
        return Ok(known);
    }
    let shown = name.escape_unicode().take(256).collect::<String>();
    let shown = if name.is_ascii() { name.escape_debug().take(64).collect() } else { shown };
    let looks: String = skeleton(&name.trim().to_lowercase()).collect();
    match COLUMNS.iter().find(|known| skeleton(known).eq(looks.chars())) {
        Some(known) => Err(format!("the column {shown} only looks like {known}")),
        None => Err(format!("the column {shown} is unknown; known are {}", COLUMNS.join(", "))),
    }
}

fn split(text: &str) -> Result<csv::StringRecord, (String, String)> {
    if text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1 {
        return Err(("1".to_owned(), "a quote is not closed on its line".to_owned()));
    }
    // CSV ends a record at it, so whatever follows on the line would be left away without a word.
    if text.contains('\r') {
        let why = "a carriage return is within the line: lines end with LF, or with CR and LF";
        return Err(("1".to_owned(), why.to_owned()));
    }
    let mut record = csv::StringRecord::new();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(LINE_LEN_MAX)
        .from_reader(text.as_bytes());
    reader.read_record(&mut record).map_err(|e| ("1".to_owned(), e.to_string()))?;
    Ok(record)
}

fn csv_fields(columns: &[&'static str], text: &str) -> Result<pb::ImportedPerson, (String, String)> {
    let record = split(text)?;
    if record.len() != columns.len() {
        let column = record.len().min(columns.len()) + 1;
        let why = format!("the line has {} fields, the header {}", record.len(), columns.len());
        return Err((column.to_string(), why));
    }
    let mut person = pb::ImportedPerson::default();
    for (column, field) in columns.iter().zip(&record) {
        put(&mut person, column, field);
    }
    Ok(person)
}

fn put(person: &mut pb::ImportedPerson, column: &str, value: &str) {
    let field = match column {
        "entity_id" => &mut person.entity_id,
        "reference" => &mut person.reference,
        "subject_id" => &mut person.subject_id,
        "relation" => &mut person.relation,
        // Columns are of the list above.
        _ => &mut person.relation_until,
    };
    value.clone_into(field);
}

/// The fields of a line of JSON; whatever else is there is refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    entity_id: String,
    #[serde(default)]
    reference: String,
    #[serde(default)]
    subject_id: String,
    relation: String,
    #[serde(default)]
    relation_until: String,
}

fn json_fields(text: &str) -> Result<pb::ImportedPerson, (String, String)> {
    let row: JsonRow = serde_json::from_str(text).map_err(|e| {
        let why = e.to_string();
        // The line is ours to count, and it is given beside.
        let why = why.split(" at line ").next().unwrap_or_default().to_owned();
        (e.column().to_string(), why)
    })?;
    let JsonRow { entity_id, reference, subject_id, relation, relation_until } = row;
    Ok(pb::ImportedPerson { entity_id, reference, subject_id, relation, relation_until })
}
