//! A list as a file: CSV with a header, or one JSON object a line. Every line is looked at by itself and is never longer
//! than a row can be, so a file that is something else is found early and costs no memory.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use unicode_security::skeleton;

use crate::cli::Failure;

/// The longest line: a few short fields need some 200 bytes.
const LINE_LEN_MAX: usize = 4 << 10;
/// The most rows of one file: ten times what is expected at once.
const ROWS_MAX: u64 = 1_000_000;

/// The columns that a file may have, and those that it must have: one of each group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) known: &'static [&'static str],
    pub(super) needed: &'static [&'static [&'static str]],
}

/// The fields of one row; what is not there is empty.
#[derive(Debug)]
pub(super) struct Fields {
    columns: &'static [&'static str],
    values: Vec<String>,
}

impl Fields {
    fn none(columns: &'static [&'static str]) -> Self {
        Self { columns, values: vec![String::new(); columns.len()] }
    }

    pub(super) fn of(&self, column: &str) -> &str {
        let at = self.columns.iter().position(|known| *known == column);
        at.and_then(|at| self.values.get(at)).map_or("", String::as_str)
    }

    fn put(&mut self, column: &str, value: String) {
        let at = self.columns.iter().position(|known| *known == column);
        if let Some(place) = at.and_then(|at| self.values.get_mut(at)) {
            *place = value;
        }
    }
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

/// The rows of a file, in order.
pub(super) struct Table {
    input: BufReader<File>,
    name: String,
    columns: Columns,
    format: Format,
    line: u64,
    rows: u64,
}

impl Table {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path, columns: Columns) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Failure(format!("{name}: {e}")))?;
        let (input, format) = (BufReader::new(file), Format::JsonLines);
        let mut table = Self { input, name, columns, format, line: 0, rows: 0 };
        table.check_encoding()?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl") => {}
            Some("csv") => table.format = Format::Csv(table.read_header()?),
            Some(_) | None => return Err(table.fault("", "its name must end with .csv or .jsonl")),
        }
        Ok(table)
    }

    /// The line that was read last.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The next row; none: the file ends.
    pub(super) fn next(&mut self) -> Result<Option<Result<Fields, RowFault>>, Failure> {
        loop {
            let Some(read) = self.next_line()? else { return Ok(None) };
            let text = match read {
                Ok(text) if text.is_empty() => continue,
                Ok(text) => text,
                Err(why) => return Ok(Some(Err(self.row_fault("1", why)))),
            };
            self.rows += 1;
            if self.rows > ROWS_MAX {
                return Err(self.fault("", "it has more than a million rows: split it"));
            }
            let fields = match &self.format {
                Format::Csv(columns) => csv_fields(self.columns, columns, &text),
                Format::JsonLines => json_fields(self.columns, &text),
            };
            return Ok(Some(fields.map_err(|(column, why)| self.row_fault(&column, why))));
        }
    }

    pub(super) fn row_fault(&self, column: &str, why: String) -> RowFault {
        RowFault { line: self.line, column: column.to_owned(), why }
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
            let column = column_named(self.columns, name).map_err(|why| self.fault(&at, &why))?;
            if columns.contains(&column) {
                return Err(self.fault(&at, &format!("the column {column} is there twice")));
            }
            columns.push(column);
        }
        match missing(self.columns, |needed| columns.contains(&needed)) {
            Some(missing) => Err(self.fault("", &format!("the column {missing} is missing"))),
            None => Ok(columns),
        }
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

/// The first column that is needed and not there.
fn missing(columns: Columns, is_there: impl Fn(&str) -> bool) -> Option<String> {
    let group = columns.needed.iter().find(|group| !group.iter().any(|column| is_there(column)))?;
    match group.split_first()? {
        (first, []) => Some((*first).to_owned()),
        (first, others) => Some(format!("{first} (or {})", others.join(", "))),
    }
}

fn column_named(columns: Columns, name: &str) -> Result<&'static str, String> {
    if let Some(known) = columns.known.iter().find(|known| **known == name) {
        return Ok(known);
    }
    let shown = name.escape_unicode().take(256).collect::<String>();
    let shown = if name.is_ascii() { name.escape_debug().take(64).collect() } else { shown };
    let looks: String = skeleton(&name.trim().to_lowercase()).collect();
    match columns.known.iter().find(|known| skeleton(known).eq(looks.chars())) {
        Some(known) => Err(format!("the column {shown} only looks like {known}")),
        None => Err(format!("the column {shown} is unknown; known are {}", columns.known.join(", "))),
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

fn csv_fields(known: Columns, columns: &[&'static str], text: &str) -> Result<Fields, (String, String)> {
    let record = split(text)?;
    if record.len() != columns.len() {
        let column = record.len().min(columns.len()) + 1;
        let why = format!("the line has {} fields, the header {}", record.len(), columns.len());
        return Err((column.to_string(), why));
    }
    let mut fields = Fields::none(known.known);
    for (column, field) in columns.iter().zip(&record) {
        fields.put(column, field.to_owned());
    }
    Ok(fields)
}

fn json_fields(columns: Columns, text: &str) -> Result<Fields, (String, String)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Object(columns).deserialize(&mut reader).and_then(|fields| reader.end().map(|()| fields));
    read.map_err(|e| {
        let why = e.to_string();
        // The line is ours to count, and it is given beside.
        let why = why.split(" at line ").next().unwrap_or_default().to_owned();
        (e.column().to_string(), why)
    })
}

/// An object with these fields and no others, none of them twice.
struct Object(Columns);

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Fields;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Fields, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut fields, mut there) = (Fields::none(self.0.known), Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            let column = column_named(self.0, &name)
                .map_err(|why| A::Error::custom(why.replace("the column", "the field")))?;
            if there.contains(&column) {
                return Err(A::Error::custom(format!("the field {column} is there twice")));
            }
            there.push(column);
            fields.put(column, map.next_value::<Scalar>()?.0);
        }
        match missing(self.0, |needed| there.contains(&needed)) {
            Some(missing) => Err(A::Error::custom(format!("the field {missing} is missing"))),
            None => Ok(fields),
        }
    }
}

/// A text, or a number as one.
#[derive(serde::Deserialize)]
#[serde(from = "Value")]
struct Scalar(String);

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(u64),
}

impl From<Value> for Scalar {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self(text),
            Value::Number(number) => Self(number.to_string()),
        }
    }
}
