//! What an index takes, and that a hostile list takes no more.

use super::files::{EL, csv, entry, row};
use crate::screening::{ListFault, ListFiles, NameIndex, read_list};

const MIB: usize = 1 << 20;

/// Words that occur once: each costs a row, an entry of the table, and a pair with each neighbour.
fn words(n: usize, count: usize) -> String {
    let word = |i: usize| format!("{}{:05}", char::from(b'a' + u8::try_from(i % 26).unwrap()), n * count + i);
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// Adds until there is no room, and says how much was added.
fn fill(index: &mut NameIndex, name: impl Fn(usize) -> String) -> usize {
    let mut len = 0;
    for n in 0..1_000_000 {
        let name = name(n);
        len += name.len();
        match index.add(entry(&name, &[], "CN")) {
            Ok(()) => {}
            Err(ListFault::TooManyWords) => return len,
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("it takes everything")
}

#[test]
fn whatever_a_list_is_made_of_its_index_is_bounded() {
    let many = |n: usize| words(n, 40);
    let short = |n: usize| format!("{n}");
    let same = |_: usize| "Trading International".to_owned();
    let long = |n: usize| format!("{n}{}", "x".repeat(1_900));
    let names: [&dyn Fn(usize) -> String; 4] = [&many, &short, &same, &long];
    for (which, name) in names.into_iter().enumerate() {
        let mut index = NameIndex::within(4 * MIB);
        let len = fill(&mut index, name);
        let (held, counted) = (index.measured(), index.held());
        assert!(held <= counted, "{which}: it takes {held}, and counted {counted}");
        assert!(counted <= 4 * MIB + MIB, "{which}: {counted}");
        assert!(counted > len, "{which}: {len}");
    }
}

#[test]
fn a_list_as_large_as_the_published_one_takes_a_third_of_what_it_may() {
    let index = super::speed::published();
    println!("counted {} MiB, measured {} MiB", index.held() / MIB, index.measured() / MIB);
    assert!(index.held() < 512 * MIB / 3, "{}", index.held());
    assert!(index.measured() <= index.held());
}

#[test]
fn a_hostile_list_is_refused_and_says_what_to_do() {
    let rows: Vec<_> = (0..200).map(|n| row(&n.to_string(), EL, "Entity", &words(n, 40), "", "")).collect();
    let mut index = NameIndex::within(MIB);
    let fault = read_list(csv(&rows).as_bytes(), |entry| index.add(entry)).unwrap_err();
    assert!(matches!(fault, ListFault::TooManyWords), "{fault}");
    assert!(fault.to_string().contains("import the list as it was published"), "{fault}");
}

#[test]
fn an_upload_that_is_given_up_or_is_no_list_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("screening");
    let files = || std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    let lists = ListFiles::open(&dir);
    assert!(!dir.exists());
    let mut upload = lists.begin().unwrap();
    upload.write(b"half of a list").unwrap();
    assert_eq!(files(), ["upload.new"]);
    drop(upload);
    assert!(files().is_empty());
    let mut upload = lists.begin().unwrap();
    upload.write(b"<html>").unwrap();
    assert!(upload.finish().is_err());
    assert!(files().is_empty());
    let mut upload = lists.begin().unwrap();
    upload.write(csv(&[row("1", EL, "Entity", "Faraway", "", "")]).as_bytes()).unwrap();
    let loaded = upload.finish().unwrap();
    let kept = [std::ffi::OsString::from(format!("{}.list", loaded.summary.file))];
    assert_eq!(files(), kept);
    // Killed while it received one.
    let mut upload = lists.begin().unwrap();
    upload.write(b"half of a list").unwrap();
    std::mem::forget(upload);
    assert_eq!(files().len(), 2);
    drop(ListFiles::open(&dir));
    assert_eq!(files(), kept);
}
