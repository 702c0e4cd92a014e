//! The JSON: one object with `results`, read entry by entry without holding all of it.

use std::fmt;
use std::io::Read;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::entry::{ListEntry, Published};
use super::fault::ListFault;
use super::guard::Counts;
use super::read::Sink;

/// What else the object may hold beside `results`.
const TOP: [&str; 7] = ["total", "offset", "size", "sources", "sources_used", "search_performed_at", "query"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every published field is named, so that another format is refused")]
struct Row {
    #[serde(alias = "_id")]
    id: Option<String>,
    source: Option<String>,
    entity_number: Option<Scalar>,
    r#type: Option<String>,
    programs: Option<Vec<String>>,
    name: Option<String>,
    title: Option<IgnoredAny>,
    addresses: Option<Vec<Address>>,
    federal_register_notice: Option<IgnoredAny>,
    start_date: Option<String>,
    end_date: Option<String>,
    standard_order: Option<IgnoredAny>,
    license_requirement: Option<IgnoredAny>,
    license_policy: Option<IgnoredAny>,
    call_sign: Option<IgnoredAny>,
    vessel_type: Option<IgnoredAny>,
    gross_tonnage: Option<IgnoredAny>,
    gross_registered_tonnage: Option<IgnoredAny>,
    vessel_flag: Option<IgnoredAny>,
    vessel_owner: Option<IgnoredAny>,
    remarks: Option<IgnoredAny>,
    source_list_url: Option<IgnoredAny>,
    alt_names: Option<Vec<String>>,
    citizenships: Option<Vec<String>>,
    dates_of_birth: Option<IgnoredAny>,
    nationalities: Option<Vec<String>>,
    places_of_birth: Option<IgnoredAny>,
    source_information_url: Option<IgnoredAny>,
    ids: Option<IgnoredAny>,
    country: Option<String>,
}

/// Written as a number or as text.
#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its type is looked at")]
enum Scalar {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every published field is named, so that another format is refused")]
struct Address {
    address: Option<IgnoredAny>,
    city: Option<IgnoredAny>,
    state: Option<IgnoredAny>,
    postal_code: Option<IgnoredAny>,
    country: Option<String>,
}

impl From<Row> for Published {
    fn from(row: Row) -> Self {
        let addresses = row.addresses.unwrap_or_default().into_iter().filter_map(|a| a.country);
        let more = [row.nationalities, row.citizenships].into_iter().flatten().flatten();
        Self {
            id: row.id.unwrap_or_default(),
            source: row.source.unwrap_or_default(),
            kind: row.r#type.unwrap_or_default(),
            name: row.name.unwrap_or_default(),
            alt_names: row.alt_names.unwrap_or_default(),
            countries: addresses.chain(more).chain(row.country).collect(),
            programs: row.programs.unwrap_or_default(),
            start_date: row.start_date.unwrap_or_default(),
            end_date: row.end_date.unwrap_or_default(),
        }
    }
}

pub(super) fn read(input: impl Read, counts: &Rc<Counts>, sink: &mut Sink<'_>) -> Result<(), ListFault> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(input));
    let top = Top { counts, sink, fault: &mut fault };
    let read = json.deserialize_map(top).and_then(|()| json.end());
    match (fault, read) {
        (Some(fault), _) => Err(fault),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(match error.classify() {
            Category::Io => ListFault::Io(error.into()),
            Category::Eof => ListFault::Truncated { why: format!("the JSON does not end: {error}") },
            Category::Syntax if error.to_string().contains("invalid unicode") => {
                ListFault::Encoding { row: sink.row() }
            }
            Category::Syntax | Category::Data => ListFault::Row { row: sink.row(), why: error.to_string() },
        }),
    }
}

struct Top<'a, 'b> {
    counts: &'a Rc<Counts>,
    sink: &'a mut Sink<'b>,
    fault: &'a mut Option<ListFault>,
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the published object with `results`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_found = false;
        while let Some(key) = map.next_key::<String>()? {
            self.counts.record_ends();
            if key == "results" && !is_found {
                is_found = true;
                map.next_value_seed(Results(&mut self))?;
            } else if TOP.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                let key: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format!(
                    "the object has {key:?}, which the published one does not have, or has once"
                )));
            }
        }
        match is_found {
            true => Ok(()),
            false => Err(A::Error::custom("the object has no `results`")),
        }
    }
}

struct Results<'a, 'b, 'c>(&'a mut Top<'b, 'c>);

impl<'de> DeserializeSeed<'de> for Results<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Results<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let Top { counts, sink, fault } = self.0;
        while let Some(row) = rows.next_element::<Row>()? {
            counts.record_ends();
            let taken = ListEntry::new(sink.row(), row.into()).and_then(|entry| sink.take(entry));
            if let Err(why) = taken {
                **fault = Some(why);
                return Err(A::Error::custom("an entry does not hold"));
            }
        }
        Ok(())
    }
}
