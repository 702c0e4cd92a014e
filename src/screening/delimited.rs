//! The CSV and TSV: one header line with the published columns, one record for each entry.

use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use csv::{ByteRecord, Error, ErrorKind, ReaderBuilder};

use super::entry::{ListEntry, Published};
use super::fault::{COLUMNS, ListFault};
use super::guard::Counts;
use super::read::Sink;

pub(super) fn read(
    input: impl Read,
    delimiter: u8,
    counts: &Rc<Counts>,
    sink: &mut Sink<'_>,
) -> Result<(), ListFault> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(input);
    let header = reader.byte_headers().map_err(|e| row_fault(0, e))?.clone();
    let columns = columns(&header)?;
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|e| row_fault(sink.row(), e))? {
        counts.record_ends();
        let published = published(sink.row(), &record, &columns)?;
        let entry = ListEntry::new(sink.row(), published)?;
        sink.take(entry)?;
    }
    // A record cut within its last field has as many fields as a whole one.
    if counts.has_open_quote() {
        let why = format!("entry {} ends within quotes", sink.row().saturating_sub(1));
        return Err(ListFault::Truncated { why });
    }
    if !counts.ends_with_newline() {
        let why = format!("entry {} has no end of line", sink.row().saturating_sub(1));
        return Err(ListFault::Truncated { why });
    }
    Ok(())
}

fn row_fault(row: u32, error: Error) -> ListFault {
    let text = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) => ListFault::Io(error),
        ErrorKind::UnequalLengths { expected_len, len, .. } if len < expected_len => {
            ListFault::Truncated { why: format!("entry {row} has {len} of {expected_len} fields") }
        }
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            ListFault::Row { row, why: format!("it has {len} fields, not {expected_len}") }
        }
        _ => ListFault::Row { row, why: text },
    }
}

/// Where each published column stands.
fn columns(header: &ByteRecord) -> Result<HashMap<&'static str, usize>, ListFault> {
    let mut columns = HashMap::new();
    for (at, name) in header.iter().enumerate() {
        let shown = String::from_utf8_lossy(name).chars().take(40).collect::<String>();
        let Some(known) = COLUMNS.iter().find(|column| column.as_bytes() == name) else {
            return Err(ListFault::Header { why: format!("has the unknown column {shown:?}") });
        };
        if columns.insert(*known, at).is_some() {
            return Err(ListFault::Header { why: format!("has the column {known} twice") });
        }
    }
    match COLUMNS.iter().find(|column| !columns.contains_key(*column)) {
        Some(missing) => Err(ListFault::Header { why: format!("lacks the column {missing}") }),
        None => Ok(columns),
    }
}

fn published(
    row: u32,
    record: &ByteRecord,
    columns: &HashMap<&'static str, usize>,
) -> Result<Published, ListFault> {
    // All of it, also what is not read: a file in another encoding is not the published one.
    let fields = record.iter().map(std::str::from_utf8).collect::<Result<Vec<_>, _>>();
    let fields = fields.map_err(|_| ListFault::Encoding { row })?;
    let field = |name| columns.get(name).and_then(|at| fields.get(*at)).copied().unwrap_or_default();
    let list = |name| split(field(name)).map(str::to_owned).collect::<Vec<_>>();
    let of_address = |address: &str| address.rsplit(',').next().unwrap_or_default().trim().to_owned();
    let mut countries: Vec<_> = split(field("addresses")).map(of_address).collect();
    countries.extend(list("nationalities").into_iter().chain(list("citizenships")));
    Ok(Published {
        id: field("_id").to_owned(),
        source: field("source").to_owned(),
        kind: field("type").to_owned(),
        name: field("name").to_owned(),
        alt_names: list("alt_names"),
        countries,
        programs: list("programs"),
        start_date: field("start_date").to_owned(),
        end_date: field("end_date").to_owned(),
    })
}

/// Lists within a field are separated by semicolons.
fn split(field: &str) -> impl Iterator<Item = &str> {
    field.split(';').map(str::trim).filter(|part| !part.is_empty())
}
