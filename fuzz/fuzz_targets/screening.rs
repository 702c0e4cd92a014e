//! A screening list as it is uploaded: CSV, TSV or JSON. However it arrives in pieces it is the same list, its entries are what
//! was promised of them, and every name of it can be looked up.
#![no_main]

use std::io::Read;

use countersign_fuzz::service::screening::{
    ALT_NAMES_MAX, ListEntry, ListFault, ListSummary, NAME_LEN_MAX, NameIndex, Query, read_list,
};

/// More would be looked up for longer than they are read.
const ENTRIES_MAX: usize = 32;
const SCORE_MIN: u8 = 50;

/// Gives its bytes one by one.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

fn read(input: impl Read) -> (Result<ListSummary, ListFault>, Vec<ListEntry>) {
    let mut entries = Vec::new();
    let read = read_list(input, |entry| {
        entries.push(entry);
        Ok(())
    });
    (read, entries)
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (summary, entries) = read(data);
    let (slow, slow_entries) = read(Slow(data));
    assert!(entries == slow_entries, "other entries in other pieces");
    let summary = match (summary, slow) {
        (Ok(summary), Ok(slow)) => {
            assert!(summary == slow);
            summary
        }
        (Err(fault), Err(slow)) => return assert_eq!(fault.to_string(), slow.to_string()),
        (summary, slow) => panic!("{summary:?}, and in pieces {slow:?}"),
    };
    assert_eq!(usize::try_from(summary.entries).ok(), Some(entries.len()));
    assert_eq!(summary.by_source.values().sum::<u32>(), summary.entries);
    for entry in &entries {
        assert!(!entry.name.is_empty() && entry.alt_names.len() <= ALT_NAMES_MAX);
        assert!(std::iter::once(&entry.name).chain(&entry.alt_names).all(|name| name.len() <= NAME_LEN_MAX));
    }
    if entries.len() > ENTRIES_MAX {
        return;
    }
    let mut index = NameIndex::new();
    for entry in &entries {
        // So much fits into no file that libFuzzer makes.
        index.add(entry.clone()).unwrap();
    }
    for entry in &entries {
        let query = Query { name: &entry.name, country: None, score_min: SCORE_MIN };
        for hit in index.find(query) {
            assert!((SCORE_MIN..=100).contains(&hit.score) && !hit.explanation.is_empty());
        }
    }
});
