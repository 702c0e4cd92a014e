//! A list of people: who is nominated, or attested anew.

use std::collections::HashMap;
use std::path::Path;

use unicode_security::skeleton;

use super::table::{Columns, Fields, RowFault, Table};
use crate::cli::Failure;
use crate::domain::id::{Digest, EntityId, SubjectId};
use crate::domain::person::Relation;
use crate::domain::subject::{is_reference, reference_digest};
use crate::domain::time::Timestamp;
use crate::pb;

const COLUMNS: Columns = Columns {
    known: &["entity_id", "reference", "subject_id", "relation", "relation_until"],
    needed: &[&["entity_id"], &["relation"], &["reference", "subject_id"]],
};

/// One person, and where the file says so.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) person: pb::ImportedPerson,
}

/// The people of a file, in order.
pub(super) struct People {
    table: Table,
    allow_alike: bool,
    /// Who was seen, by what the reference looks like: the reference, and the line.
    seen: HashMap<Digest, (Digest, u64)>,
}

impl People {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path, allow_alike: bool) -> Result<Self, Failure> {
        Ok(Self { table: Table::open(path, COLUMNS)?, allow_alike, seen: HashMap::new() })
    }

    /// The next person; none: the file ends.
    pub(super) fn next(&mut self) -> Result<Option<Result<Row, RowFault>>, Failure> {
        let Some(fields) = self.table.next()? else { return Ok(None) };
        let row = fields.and_then(|fields| {
            self.check(person(&fields)).map_err(|(column, why)| self.table.row_fault(&column, why))
        });
        Ok(Some(row))
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
        match self.seen.insert(place, (key, self.table.line())) {
            Some((same, line)) if same == key => {
                Err(at("reference", format!("the same person is in line {line}")))
            }
            Some((_, line)) => Err(at(
                "reference",
                format!("it looks like the one in line {line}; --allow-alike when both are right"),
            )),
            None => Ok(Row { line: self.table.line(), person }),
        }
    }
}

fn person(fields: &Fields) -> pb::ImportedPerson {
    let of = |column| fields.of(column).to_owned();
    pb::ImportedPerson {
        entity_id: of("entity_id"),
        reference: of("reference"),
        subject_id: of("subject_id"),
        relation: of("relation"),
        relation_until: of("relation_until"),
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
