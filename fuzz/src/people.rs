//! A list of people as a file (src/cli/import/read.rs and table.rs), as it is shipped.

#[path = "../../src/cli/import/read.rs"]
mod read;
#[path = "../../src/cli/import/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use self::read::{People, Row};
use self::table::RowFault;
use crate::cli::Failure;
use crate::domain::id::{EntityId, SubjectId};

/// What an input is written to: a file is read twice, as the command does.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder").keep())
}

/// Reads a file: the first byte says which kind it is, and whether references may look alike. Whatever is in it, it ends; a
/// line gives at most one person, and a person is one that the server could take, once.
pub fn read(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let path = folder().join(if kind & 1 == 0 { "people.csv" } else { "people.jsonl" });
    std::fs::write(&path, text).expect("written");
    let allow_alike = kind & 2 != 0;
    let first = all(&path, allow_alike);
    let again = all(&path, allow_alike);
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    let Ok(rows) = first else { return };
    let (mut last, mut seen) = (0, BTreeSet::new());
    for row in rows {
        let line = match &row {
            Ok(row) => row.line,
            Err(fault) => fault.line,
        };
        assert!(line > last, "line {line} after {last}");
        last = line;
        match row {
            Ok(row) => check(row, (kind & 1 == 0).then_some(text), &mut seen),
            Err(RowFault { column, why, .. }) => assert!(!column.is_empty() && !why.is_empty()),
        }
    }
}

fn all(path: &std::path::Path, allow_alike: bool) -> Result<Vec<Result<Row, RowFault>>, Failure> {
    let mut people = People::open(path, allow_alike)?;
    let mut rows = Vec::new();
    while let Some(row) = people.next()? {
        rows.push(row);
    }
    Ok(rows)
}

fn check(Row { line, person }: Row, csv: Option<&[u8]>, seen: &mut BTreeSet<String>) {
    assert!(person.entity_id.parse::<EntityId>().is_ok());
    let (reference, subject) = (&person.reference, &person.subject_id);
    assert!(reference.is_empty() != subject.is_empty(), "one of both");
    assert!(subject.is_empty() || subject.parse::<SubjectId>().is_ok());
    assert!(reference.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@'), "{reference:?}");
    let who = if subject.is_empty() { format!("{} {reference}", person.entity_id) } else { subject.clone() };
    assert!(seen.insert(who), "line {line}: the same person again");
    let Some(text) = csv else { return };
    let line = usize::try_from(line - 1).expect("a small number");
    let line = text.split(|byte| *byte == b'\n').nth(line).expect("a line");
    // Everything on the line is in the row: nothing of it was taken for another line and left away.
    let line = line.trim_ascii_end();
    assert!(!line.contains(&b'\r'), "{:?}", String::from_utf8_lossy(line));
}
