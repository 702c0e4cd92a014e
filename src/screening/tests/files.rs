//! Files as they are published, with invented entries.

use crate::screening::{EntryKind, ListEntry, ListFault, ListSummary, read_list};

pub(super) const HEADER: &str = "_id,source,entity_number,type,programs,name,title,addresses,federal_register_notice,\
    start_date,end_date,standard_order,license_requirement,license_policy,call_sign,vessel_type,gross_tonnage,\
    gross_registered_tonnage,vessel_flag,vessel_owner,remarks,source_list_url,alt_names,citizenships,dates_of_birth,\
    nationalities,places_of_birth,source_information_url,ids";

pub(super) const EL: &str = "Entity List (EL) - Bureau of Industry and Security";
pub(super) const SDN: &str = "Specially Designated Nationals (SDN) - Treasury Department";

/// A CSV of these rows.
pub(super) fn csv(rows: &[String]) -> String {
    format!("{HEADER}\n{}", rows.concat())
}

/// A record: id, source, kind, name, alternative names, addresses.
pub(super) fn row(id: &str, source: &str, kind: &str, name: &str, alt: &str, addresses: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    format!(
        "{id},{source},7,{kind},EAR,{},,{},84 FR 22961,2019-05-21,,,,,,,,,,,,https://example.gov/list,{},,,,,https://example.gov,\n",
        quoted(name),
        quoted(addresses),
        quoted(alt)
    )
}

/// The same record as JSON.
pub(super) fn json_row(
    id: &str,
    source: &str,
    kind: &str,
    name: &str,
    alt: &[&str],
    country: &str,
) -> String {
    serde_json::json!({
        "id": id, "source": source, "entity_number": 7, "type": kind, "programs": ["EAR"], "name": name,
        "title": null, "addresses": [{"address": "1 Road", "city": "Town", "state": null, "postal_code": null,
        "country": country}], "federal_register_notice": "84 FR 22961", "start_date": "2019-05-21", "end_date": null,
        "standard_order": null, "license_requirement": null, "license_policy": null, "remarks": null,
        "source_list_url": "https://example.gov/list", "alt_names": alt, "citizenships": [], "dates_of_birth": [],
        "nationalities": [], "places_of_birth": [], "source_information_url": "https://example.gov", "ids": []
    })
    .to_string()
}

pub(super) fn json(rows: &[String]) -> String {
    format!("{{\"search_performed_at\":\"2026-06-27\",\"results\":[{}]}}", rows.join(","))
}

/// All entries of a file.
pub(super) fn read(bytes: impl AsRef<[u8]>) -> Result<(ListSummary, Vec<ListEntry>), ListFault> {
    let mut entries = Vec::new();
    let summary = read_list(bytes.as_ref(), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((summary, entries))
}

/// An entry with names.
pub(super) fn entry(name: &str, alt_names: &[&str], country: &str) -> ListEntry {
    ListEntry {
        id: "1".to_owned(),
        source: "EL".to_owned(),
        kind: EntryKind::Entity,
        name: name.to_owned(),
        alt_names: alt_names.iter().map(|name| (*name).to_owned()).collect(),
        countries: vec![country.to_owned()],
        programs: Vec::new(),
        start_date: String::new(),
        end_date: String::new(),
    }
}
