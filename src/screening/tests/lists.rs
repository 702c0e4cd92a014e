use proptest::prelude::*;

use super::files::{EL, HEADER, SDN, csv, json, json_row, read, row};
use crate::domain::id::Digest;
use crate::screening::{EntryKind, Format, ListFault, RECORD_LEN_MAX, read_list};

fn sample() -> String {
    csv(&[
        row(
            "a1",
            EL,
            "",
            "Northwind Quantum, Ltd.",
            "NQL; Northwind \"Q\"",
            "1 Road, Town, CN; 2 Street, Port, HK",
        ),
        row("a2", SDN, "Individual", "DOE, Jane", "", "Town, RU"),
    ])
}

fn why(text: impl AsRef<[u8]>) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn a_published_csv_is_read_entry_by_entry() {
    let text = sample();
    let (summary, entries) = read(&text).unwrap();
    assert_eq!((summary.format, summary.entries), (Format::Csv, 2));
    assert_eq!(summary.file, Digest::of(text.as_bytes()));
    assert_eq!(
        summary.by_source.into_iter().collect::<Vec<_>>(),
        [("EL".to_owned(), 1), ("SDN".to_owned(), 1)]
    );
    let [first, second] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((first.id.as_str(), first.source.as_str(), first.kind), ("a1", "EL", EntryKind::Unknown));
    assert_eq!(first.alt_names, ["NQL", "Northwind \"Q\""]);
    assert_eq!(first.countries, ["CN", "HK"]);
    assert_eq!((second.kind, second.is_person()), (EntryKind::Individual, true));
}

#[test]
fn tsv_json_and_csv_of_one_version_hold_the_same_entries() {
    let csv = csv(&[row("a1", EL, "Entity", "Northwind Quantum, Ltd.", "NQL; Other", "1 Road, Town, CN")]);
    let tsv = csv
        .replace("\"1 Road, Town, CN\"", "1 Road; CN")
        .replace("\"Northwind Quantum, Ltd.\"", "Northwind Quantum§ Ltd.");
    let tsv = tsv.replace(',', "\t").replace('§', ",");
    let json = json(&[json_row("z9", EL, "Entity", "Northwind Quantum, Ltd.", &["NQL", "Other"], "CN")]);
    let read = |text: &str| read(text).unwrap();
    let ((csv, csv_entries), (tsv, tsv_entries), (json, json_entries)) =
        (read(&csv), read(&tsv), read(&json));
    assert_eq!([csv.format, tsv.format, json.format], [Format::Csv, Format::Tsv, Format::Json]);
    // The id differs, and nothing is recognised by it.
    assert_eq!(csv_entries[0].digest(), json_entries[0].digest());
    assert_eq!(csv_entries[0].digest(), tsv_entries[0].digest());
}

#[test]
fn a_byte_order_mark_is_no_other_format() {
    let (summary, _) = read(format!("\u{feff}{}", sample())).unwrap();
    assert_eq!(summary.entries, 2);
}

#[test]
fn another_format_is_refused_with_what_was_expected() {
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(sample().encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for (bytes, what) in [
        (b"<!DOCTYPE html><html>".to_vec(), "web page"),
        (b"PK\x03\x04....".to_vec(), "Excel"),
        (b"\x1f\x8b\x08...".to_vec(), "gzip"),
        (utf16, "UTF-16"),
        (b"[{\"name\":\"x\"}]".to_vec(), "array"),
        (b"".to_vec(), "empty"),
        (b"hello\nworld\n".to_vec(), "neither"),
    ] {
        let why = why(bytes);
        assert!(why.contains(what) && why.contains("consolidated.csv"), "{what}: {why}");
    }
    for (header, what) in [
        (HEADER.replace("name,title", "title"), "lacks the column name"),
        (HEADER.replace("title", "nickname"), "unknown column \"nickname\""),
        (HEADER.replace("title", "name"), "column name twice"),
        ("id,firstName,lastName".to_owned(), "unknown column \"id\""),
    ] {
        let why = why(format!("{header}\n"));
        assert!(why.contains(what) && why.contains("expected are the 29"), "{what}: {why}");
    }
    assert!(why("{\"data\":[]}").contains("\"data\""));
    assert!(why("{\"total\":0}").contains("no `results`"));
    assert!(why("{\"results\":[{\"name\":\"x\",\"score\":1}]}").contains("unknown field `score`"));
    assert!(matches!(read(format!("{HEADER}\n")), Err(ListFault::Empty)));
    assert!(matches!(read(json(&[])), Err(ListFault::Empty)));
}

#[test]
fn a_file_cut_anywhere_within_a_record_is_truncated() {
    let text = sample();
    let second = text.find("a2,").unwrap();
    for cut in (second + 1)..text.len() {
        let fault = read(&text[..cut]).unwrap_err();
        assert!(matches!(fault, ListFault::Truncated { .. }), "cut at {cut}: {fault}");
    }
    let text = json(&[
        json_row("a", EL, "Entity", "Northwind", &[], "CN"),
        json_row("b", EL, "Entity", "Südwind", &[], "CN"),
    ]);
    for cut in 1..text.len() {
        let fault = read(&text.as_bytes()[..cut]).unwrap_err();
        assert!(
            matches!(fault, ListFault::Truncated { .. } | ListFault::Encoding { .. }),
            "cut at {cut}: {fault}"
        );
    }
    assert!(why(format!("{text}x")).contains("trailing"));
}

#[test]
fn another_encoding_is_refused_with_its_entry() {
    let mut latin = sample().replace("DOE", "D?E").into_bytes();
    let at = latin.iter().position(|byte| *byte == b'?').unwrap();
    latin[at] = 0xd6;
    assert_eq!(why(latin), "entry 2 is not UTF-8; save the file as it was published");
    let mut latin = json(&[json_row("a", EL, "Entity", "N?rd", &[], "CN")]).into_bytes();
    let at = latin.iter().position(|byte| *byte == b'?').unwrap();
    latin[at] = 0xd6;
    assert!(matches!(read(latin), Err(ListFault::Encoding { row: 1 })));
}

#[test]
fn a_field_of_ten_megabytes_is_refused_before_it_is_held() {
    // Endless: it would never be refused if it were read to its end.
    let endless =
        |head: String| std::io::Read::chain(std::io::Cursor::new(head.into_bytes()), std::io::repeat(b'x'));
    let csv = format!("{}a3,{EL},7,Entity,EAR,", sample());
    let fault = read_list(endless(csv), |_| Ok(())).unwrap_err();
    assert!(matches!(fault, ListFault::RecordTooLong { row: 3 }), "{fault}");
    let fault = read_list(endless("{\"results\":[{\"name\":\"".to_owned()), |_| Ok(())).unwrap_err();
    assert!(matches!(fault, ListFault::RecordTooLong { row: 1 }), "{fault}");
    assert_eq!(RECORD_LEN_MAX, 1 << 20, "ten megabytes are more");
    let long = "x".repeat(3_000);
    assert!(why(csv_of(&long, "")).contains("name has more than 2000 bytes"));
    let many = vec!["n"; 501].join("; ");
    assert!(why(csv_of("n", &many)).contains("alt_names has more than 500"));
    assert!(why(csv_of(" ", "")).contains("entry 1: name is empty"));
}

fn csv_of(name: &str, alt: &str) -> String {
    csv(&[row("a1", EL, "Entity", name, alt, "CN")])
}

#[test]
fn a_record_with_more_fields_is_named() {
    let text = format!("{}{}", sample(), row("a3", EL, "Entity", "N", "", "CN").replace("2019", "20,19"));
    assert_eq!(why(text), "entry 3 cannot be read: it has 30 fields, not 29");
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_accepted_is_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = read(&bytes);
        let _ = read([HEADER.as_bytes(), b"\n", &bytes].concat());
        let _ = read([b"{\"results\":[{\"name\":\"", bytes.as_slice()].concat());
    }

    #[test]
    fn every_name_survives_both_formats(name in "[^\u{0}-\u{1f}\u{7f}-\u{9f};]{1,60}", alt in "[A-Za-z0-9 ,\"']{1,40}") {
        prop_assume!(!name.trim().is_empty() && !alt.trim().is_empty());
        let (_, csv) = read(csv_of(&name, &alt)).unwrap();
        let json = json(&[json_row("a1", EL, "Entity", &name, &[alt.trim()], "CN")]);
        let (_, json) = read(json).unwrap();
        prop_assert_eq!(&csv[0].name, &name.split_whitespace().collect::<Vec<_>>().join(" "));
        prop_assert_eq!(csv[0].digest(), json[0].digest());
    }

    #[test]
    fn a_changed_byte_never_passes_for_the_same_file(at in 0usize..2_000, to in any::<u8>()) {
        let text = sample();
        let mut bytes = text.clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok((summary, _)) = read(&bytes) {
            prop_assert_ne!(summary.file, Digest::of(text.as_bytes()));
        }
    }
}
