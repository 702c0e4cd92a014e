//! The index on disk: the contract, and every way in which what is found at start-up can be wrong.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::super::contract::{self, History, Subject};
use super::super::{Ended, rebuild};
use super::*;
use crate::domain::id::{Digest, Epoch};
use crate::env::{Entropy, SeededEntropy};

const ORIGIN: Origin = Origin { genesis: Digest([7; 32]), epoch: Epoch(1) };
static NEVER: AtomicBool = AtomicBool::new(false);

struct OnDisk {
    dir: TempDir,
    index: DiskIndex,
}

impl Subject for OnDisk {
    fn index(&self) -> &dyn CertificateIndex {
        &self.index
    }

    fn reopen(self: Box<Self>, head: Seq) -> Box<dyn Subject> {
        let Self { dir, index } = *self;
        let applied = index.applied_seq();
        drop(index);
        let (index, opened) = DiskIndex::open(dir.path(), ORIGIN, head).unwrap();
        assert_eq!(opened, Opened::Behind { records: head.0 - applied.0 });
        assert_eq!(index.applied_seq(), applied);
        Box::new(Self { dir, index })
    }
}

/// A history that takes several of sled's segments, and a directory with all of it; tests copy the directory.
fn filled() -> &'static (History, TempDir) {
    static FILLED: OnceLock<(History, TempDir)> = OnceLock::new();
    FILLED.get_or_init(|| {
        let (history, dir) = (History::of(900), tempfile::tempdir().unwrap());
        let (index, _) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
        history.rebuild(&index);
        drop(index);
        (history, dir)
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy(&item.path(), &target),
            false => drop(fs::copy(item.path(), target).unwrap()),
        }
    }
}

/// Opens a copy of the filled directory after it was damaged, and shows that it comes to hold everything.
fn opened_after(damage: impl FnOnce(&Path)) -> Opened {
    let (history, template) = filled();
    let dir = tempfile::tempdir().unwrap();
    copy(template.path(), dir.path());
    damage(&dir.path().join("certificates-1"));
    let (index, opened) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    history.rebuild(&index);
    history.holds(&index);
    drop(index);
    let (index, again) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    assert_eq!(again, Opened::Behind { records: 0 });
    index.check(&NEVER).unwrap();
    opened
}

fn truncate(path: &Path, keep: impl FnOnce(u64) -> u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(keep(file.metadata().unwrap().len())).unwrap();
}

fn rebuilt(opened: &Opened) -> bool {
    matches!(opened, Opened::Rebuilt { why } if !why.is_empty())
}

#[test]
fn disk_index_keeps_the_contract() {
    contract::holds(&|| {
        let dir = tempfile::tempdir().unwrap();
        let (index, opened) = DiskIndex::open(dir.path(), ORIGIN, Seq(0)).unwrap();
        assert_eq!(opened, Opened::Fresh);
        Box::new(OnDisk { dir, index })
    });
}

#[test]
fn a_missing_directory_is_made_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("views/certificates");
    let (_index, opened) = DiskIndex::open(&dir, ORIGIN, Seq(9)).unwrap();
    assert_eq!(opened, Opened::Fresh);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let result = DiskIndex::open(&file.path().join("views"), ORIGIN, Seq(0));
    assert!(matches!(result.err(), Some(ViewError::Io { .. })));
}

#[test]
fn an_index_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = DiskIndex::open(dir.path(), ORIGIN, Seq(0)).unwrap();
    let history = History::of(5);
    history.rebuild(&index);
    let second = DiskIndex::open(dir.path(), ORIGIN, Seq(0));
    assert!(matches!(second.err(), Some(ViewError::InUse { .. })));
    history.holds(&index);
}

#[test]
fn an_index_that_is_behind_is_kept_and_caught_up() {
    let (history, dir) = (History::of(50), tempfile::tempdir().unwrap());
    let (index, _) = DiskIndex::open(dir.path(), ORIGIN, Seq(0)).unwrap();
    index.apply(&history.entries[..80]).unwrap();
    drop(index);
    let (index, opened) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    assert_eq!(opened, Opened::Behind { records: history.head().0 - 80 });
    assert_eq!(history.rebuild(&index), Ended::AtHead { cleared: false });
    history.holds(&index);
}

#[test]
fn an_index_of_another_history_begins_empty() {
    let history = History::of(20);
    let fork = Origin { epoch: Epoch(2), ..ORIGIN };
    let other = Origin { genesis: Digest([8; 32]), ..ORIGIN };
    let behind = Seq(history.head().0 - 1);
    for (origin, head, word) in [
        (ORIGIN, behind, "ends at"),
        (fork, history.head(), "epoch"),
        (other, history.head(), "another journal"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = DiskIndex::open(dir.path(), ORIGIN, Seq(0)).unwrap();
        history.rebuild(&index);
        drop(index);
        let (index, opened) = DiskIndex::open(dir.path(), origin, head).unwrap();
        assert!(matches!(&opened, Opened::Rebuilt { why } if why.contains(word)), "{opened:?}");
        assert_eq!(index.applied_seq(), Seq(0));
        drop(index);
        let (_, opened) = DiskIndex::open(dir.path(), origin, head).unwrap();
        assert_eq!(opened, Opened::Behind { records: head.0 });
    }
}

#[test]
fn only_our_own_directories_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["certificates-0", "certificates-3", "certificates-03", "certificates-x", "notes"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let (_index, opened) = DiskIndex::open(dir.path(), ORIGIN, Seq(0)).unwrap();
    assert!(rebuilt(&opened), "{opened:?}");
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["certificates-03", "certificates-4", "certificates-x", "lock", "notes"]);
}

#[test]
fn a_missing_or_emptied_file_means_a_rebuild() {
    for name in ["db", "conf"] {
        assert!(rebuilt(&opened_after(|dir| fs::remove_file(dir.join(name)).unwrap())), "{name}");
        assert!(rebuilt(&opened_after(|dir| truncate(&dir.join(name), |_| 0))), "{name}");
    }
}

#[test]
fn a_file_of_zeros_means_a_rebuild() {
    for name in ["db", "conf"] {
        let zero = |dir: &Path| {
            let len = fs::metadata(dir.join(name)).unwrap().len();
            fs::write(dir.join(name), vec![0; usize::try_from(len).unwrap()]).unwrap();
        };
        assert!(rebuilt(&opened_after(zero)), "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_survived() {
    let entropy = SeededEntropy::new(11);
    opened_after(|dir| truncate(&dir.join("db"), |len| len / 2));
    for _ in 0..20 {
        let at = random(&entropy);
        opened_after(|dir| truncate(&dir.join("db"), |len| at % len));
    }
}

#[test]
fn flipped_bytes_anywhere_are_survived() {
    let entropy = SeededEntropy::new(12);
    for round in 0..8 {
        opened_after(|dir| {
            let file = OpenOptions::new().read(true).write(true).open(dir.join("db")).unwrap();
            let len = file.metadata().unwrap().len();
            for _ in 0..1 << round {
                let at = random(&entropy) % len;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x41], at).unwrap();
            }
        });
    }
}

#[test]
fn damage_that_sled_does_not_see_is_found_by_the_check() {
    let (history, template) = filled();
    let row = history.rows.values().find(|row| row.entity.is_some() && row.hash.is_some()).unwrap();
    let other = history.rows.values().rfind(|row| row.entity.is_some()).unwrap();
    let key = layout::row_key(row.authority, row.ordinal);
    let serial = layout::serial_key(&row.serial);
    let damages: [(&[u8], Option<Vec<u8>>); 6] = [
        (&key, None),
        (&key, Some(vec![1, 2, 3])),
        (&key, Some(layout::row_to_value(&CertificateRow { issued: None, hash: None, ..row.clone() }))),
        (&serial, None),
        (&serial, Some(layout::row_key(other.authority, other.ordinal))),
        (b"x", Some(vec![])),
    ];
    for (key, value) in damages {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let db = sled::open(dir.path().join("certificates-1")).unwrap();
        match value {
            Some(value) => drop(db.insert(key, value).unwrap()),
            None => drop(db.remove(key).unwrap()),
        }
        drop(db);
        let (index, opened) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
        assert_eq!(opened, Opened::Behind { records: 0 });
        assert!(matches!(index.check(&NEVER), Err(ViewError::Damaged { .. })));
        assert_eq!(history.rebuild(&index), Ended::AtHead { cleared: true });
        history.holds(&index);
    }
}

#[test]
fn a_lookup_that_meets_damage_says_so_and_stops_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::of(10);
    let (index, _) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    index.apply(&history.entries[..20]).unwrap();
    drop(index);
    let db = sled::open(dir.path().join("certificates-1")).unwrap();
    db.insert(layout::row_key(AuthorityKind::Access, Ordinal(1)), b"no row").unwrap();
    drop(db);
    let (index, _) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    let error = index.by_ordinal(AuthorityKind::Access, Ordinal(1)).unwrap_err();
    assert!(matches!(error, ViewError::Damaged { .. }), "{error}");
    assert!(matches!(index.apply(&history.entries[20..]), Err(ViewError::Damaged { .. })));
    assert!(index.by_ordinal(AuthorityKind::Access, Ordinal(2)).unwrap().is_some());
    let read = |from, limit| history.read(from, limit);
    let ended = rebuild(&index, read, history.head(), &NEVER).unwrap();
    assert_eq!(ended, Ended::AtHead { cleared: true });
    history.holds(&index);
}

#[test]
fn a_file_that_is_damaged_while_it_is_open_is_survived() {
    let (history, template) = filled();
    let dir = tempfile::tempdir().unwrap();
    copy(template.path(), dir.path());
    let (index, _) = DiskIndex::open(dir.path(), ORIGIN, history.head()).unwrap();
    let db = OpenOptions::new().write(true).open(dir.path().join("certificates-1/db")).unwrap();
    let len = db.metadata().unwrap().len();
    db.write_all_at(&vec![0; usize::try_from(len).unwrap()], 0).unwrap();
    let failures = history.rows.keys().filter(|key| index.by_ordinal(key.0, key.1).is_err()).count();
    assert!(failures > 100, "{failures}");
    assert_eq!(history.rebuild(&index), Ended::AtHead { cleared: true });
    history.holds(&index);
}

fn random(entropy: &SeededEntropy) -> u64 {
    u64::from_le_bytes(*entropy.bytes16().first_chunk().unwrap())
}
