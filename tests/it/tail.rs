//! Backups with a broken, truncated or forged end: each is refused with words that say where, or what a crash left there is
//! dropped and that is said. What a signed head covers is never less, and never something else.

use std::path::{Path, PathBuf};

use countersign::app::backup::{Restored, restore};
use countersign::domain::approval::SignedMandate;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::event::{Entry, Event};
use countersign::domain::head::SignedHead;
use countersign::domain::id::{BootId, Seq};
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::journal::file::{FileJournal, Options};
use countersign::journal::{Batch, Draft, Journal as _, Outcome};
use tempfile::TempDir;

use crate::cli::Desk;
use crate::cli_served::Served;
use crate::world::copy_tree;

/// Behind the header of a segment; its frames begin with eight bytes that the header has at 10.
const HEADER_LEN: usize = 4_096;

/// A backup of a service, the one before it, and what stands beside them.
struct Kept {
    served: Served,
}

impl Kept {
    fn path(&self, name: &str) -> PathBuf {
        self.served.desk.path(name)
    }

    /// The newest backup, to be spoiled.
    fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        copy_tree(&self.path("backup"), folder.path());
        Copy { folder }
    }

    fn head(&self) -> SignedHead {
        from_bytes(&std::fs::read(self.path("backup/head.cbor")).unwrap()).unwrap()
    }
}

fn kept() -> Kept {
    let served = Served::start();
    let apply = |name: &str| {
        served.by("alice", &["entity", "apply", "--name", name, "--organisation", "US"]).done();
    };
    apply("Applicant 1");
    served.by("alice", &["backup", "--to", "earlier"]).done();
    // Each backup adds a frame.
    for number in 2..=8 {
        apply(&format!("Applicant {number}"));
        served.by("alice", &["backup", "--to", "backup"]).done();
    }
    Kept { served }
}

struct Copy {
    folder: TempDir,
}

impl Copy {
    fn segment(&self) -> PathBuf {
        let names = std::fs::read_dir(self.folder.path().join("journal")).unwrap();
        let mut found: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        assert_eq!(found.len(), 1, "a short record has one segment");
        found.remove(0)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.segment()).unwrap()
    }

    /// Restores these bytes, with or without a head.
    fn restored(&self, bytes: &[u8], head: Option<&SignedHead>) -> Result<Restored, String> {
        std::fs::write(self.segment(), bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        // Small, for it is done hundreds of times.
        let options = Options { grow_len: 64 << 10, low_water: 0, ..Options::new(SystemEntropy.bytes16()) };
        let now = SystemClock.now();
        let run = (BootId::from_parts(now, SystemEntropy.bytes16()), now);
        restore((self.folder.path(), &to.path().join("data")), &options, run, head, &mut |_| ())
            .map_err(|error| error.to_string())
    }
}

/// Where the frames begin, and where the last one ends.
fn frames(bytes: &[u8]) -> (Vec<usize>, usize) {
    let marker = &bytes[10..18];
    let found = bytes[HEADER_LEN..].windows(8).enumerate().filter(|(_, window)| *window == marker);
    let starts: Vec<_> = found.map(|(at, _)| HEADER_LEN + at).collect();
    // The last body ends with something else than a zero, or a test below would say so.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(starts.len() > 5, "{} frames", starts.len());
    (starts, end)
}

/// It names a record, a byte or a segment.
#[track_caller]
fn says_where(why: &str) {
    assert!(["record ", "segment", "tree at"].iter().any(|word| why.contains(word)), "{why}");
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_refused_and_without_a_head_what_is_torn_is_dropped_and_said() {
    let kept = kept();
    let (copy, head) = (kept.copy(), kept.head());
    let whole = copy.bytes();
    let (starts, end) = frames(&whole);
    assert_eq!(copy.restored(&whole, Some(&head)).unwrap().torn, None);
    for (index, start) in starts.iter().copied().enumerate() {
        let next = starts.get(index + 1).copied().unwrap_or(end);
        for cut in [start, start + 1, start + 20, usize::midpoint(start, next), next - 1] {
            for is_short in [true, false] {
                if whole[cut..next].iter().all(|byte| *byte == 0) {
                    // A frame that ends with a zero is still whole.
                    continue;
                }
                let mut bytes = whole.clone();
                bytes[cut..].fill(0);
                if is_short {
                    bytes.truncate(cut);
                }
                let why = copy.restored(&bytes, Some(&head)).unwrap_err();
                says_where(&why);
                let unsealed = copy.restored(&bytes, None);
                if index == 0 {
                    // Nothing is left of the record.
                    unsealed.unwrap_err();
                    continue;
                }
                let Restored { from, torn, .. } = unsealed.unwrap();
                assert!(from.seq < head.seq, "cut at {cut}");
                match torn {
                    Some(torn) => {
                        assert_eq!((torn.offset, torn.seq), (start as u64, from.seq.next()), "cut at {cut}")
                    }
                    None => assert!(cut == start, "cut at {cut}, and nothing is said of it"),
                }
            }
        }
    }
}

#[test]
fn no_flipped_bit_of_a_backup_is_restored() {
    let kept = kept();
    let (copy, head) = (kept.copy(), kept.head());
    let whole = copy.bytes();
    let (starts, end) = frames(&whole);
    // The header of the segment, then heads, headers and bodies of all frames.
    let in_header = [0, 9, 10, 18, 26, 34, 4_095];
    let in_frames = (HEADER_LEN..end).step_by(113);
    let mut dropped = 0;
    let in_heads = starts.iter().flat_map(|start| (*start..start + 28).step_by(5));
    for at in in_header.into_iter().chain(in_frames).chain(in_heads) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        match copy.restored(&bytes, Some(&head)) {
            Err(why) => says_where(&why),
            Ok(_) => panic!("byte {at} was changed, and the backup was restored"),
        }
        // Nothing vouches for the end: a last frame that does not hold looks like one that a crash tore, and is named.
        match copy.restored(&bytes, None) {
            Err(why) => says_where(&why),
            Ok(restored) => {
                let torn = restored.torn.unwrap_or_else(|| panic!("byte {at}: dropped without a word"));
                assert!(
                    at >= *starts.last().unwrap() && torn.offset == *starts.last().unwrap() as u64,
                    "byte {at}"
                );
                dropped += 1;
            }
        }
    }
    assert!(dropped > 0, "the last frame was among them");
}

#[test]
fn records_that_changed_places_are_refused() {
    let kept = kept();
    let (copy, head) = (kept.copy(), kept.head());
    let whole = copy.bytes();
    let (starts, end) = frames(&whole);
    let len = |index: usize| starts.get(index + 1).copied().unwrap_or(end) - starts[index];
    let mut pairs = 0;
    for index in 0..starts.len() - 1 {
        let (first, second) = (starts[index], starts[index + 1]);
        let (one, other) = (len(index), len(index + 1));
        let mut bytes = whole.clone();
        bytes[first..first + other].copy_from_slice(&whole[second..second + other]);
        bytes[first + other..first + other + one].copy_from_slice(&whole[first..first + one]);
        assert_ne!(bytes, whole);
        for vouched in [Some(&head), None] {
            match copy.restored(&bytes, vouched) {
                Err(why) => says_where(&why),
                // The last two: the first of them is not there, and the rest looks torn.
                Ok(restored) => assert!(vouched.is_none() && restored.torn.is_some(), "frames {index}"),
            }
        }
        pairs += 1;
    }
    assert!(pairs > 4);
}

/// Appends entries to what is left of a copy, as somebody would who can write files and has no key.
fn append(folder: &Path, entries: &[Event]) {
    let (journal, _) =
        FileJournal::open(&folder.join("journal"), &Options::new(SystemEntropy.bytes16()), None).unwrap();
    for event in entries {
        let entry = Entry { event: event.clone(), by: None, request: None };
        let time = SystemClock.now();
        let drafts = vec![Draft { kind: event.number(), body: to_bytes(&entry) }];
        let writer = BootId::from_parts(time, SystemEntropy.bytes16());
        let batch = Batch { writer, nonce: 1, time, drafts, restricting: false };
        let next = journal.head().seq.next();
        assert!(matches!(journal.append(next, &batch), Outcome::Done(_)));
    }
}

#[test]
fn an_end_that_somebody_wrote_anew_without_the_log_key_is_refused() {
    let kept = kept();
    let (copy, head) = (kept.copy(), kept.head());
    let mut bytes = copy.bytes();
    let (starts, _) = frames(&bytes);
    let cut = starts[starts.len() - 3];
    bytes[cut..].fill(0);
    std::fs::write(copy.segment(), &bytes).unwrap();
    // As many records, in good form, with checksums, digests and a tree of their own.
    append(copy.folder.path(), &[1, 2, 3].map(|ms| Event::InstantPassed(SystemClock.now().plus_ms(ms))));
    let bytes = copy.bytes();
    let why = copy.restored(&bytes, Some(&head)).unwrap_err();
    assert!(
        why.contains(&format!("the tree at record {}", head.seq)) && why.contains("vouched for"),
        "{why}"
    );
    // One record more than the head covers.
    append(copy.folder.path(), &[Event::InstantPassed(SystemClock.now())]);
    let bytes = copy.bytes();
    let why = copy.restored(&bytes, Some(&head)).unwrap_err();
    assert!(why.contains("covers it only up to"), "{why}");
    // A command that no officer signed is refused whatever vouches for it.
    let signed = SignedMandate { bytes: b"?".to_vec(), approvals: Vec::new() };
    append(copy.folder.path(), &[Event::Enacted { signed, proposal: None }]);
    let bytes = copy.bytes();
    let why = copy.restored(&bytes, None).unwrap_err();
    assert!(why.contains(&format!("record {}", head.seq.0 + 2)), "{why}");
}

/// `restore begin` from this folder into a fresh one.
fn begin(desk: &Desk, from: &Path, key: &Path) -> crate::cli::Ended {
    let to = tempfile::tempdir().unwrap();
    let (from, to, key) = (from.to_str().unwrap(), to.path().join("data"), key.to_str().unwrap());
    desk.run(&["restore", "begin", "--from", from, "--data", to.to_str().unwrap(), "--log-key", key])
}

#[test]
fn a_head_of_another_service_an_older_one_and_none_at_all_are_refused() {
    let kept = kept();
    let desk = &kept.served.desk;
    let key = kept.path("alice/log-key.pem");
    begin(desk, kept.copy().folder.path(), &key).done();
    let other = Served::start();
    other.by("alice", &["backup", "--to", "backup"]).done();
    let with = |head: &Path| {
        let copy = kept.copy();
        std::fs::copy(head, copy.folder.path().join("head.cbor")).unwrap();
        copy
    };
    let foreign = with(&other.desk.path("backup/head.cbor"));
    begin(desk, foreign.folder.path(), &key).fails(&["key"]);
    // Whose key vouches is the officer's to say: the other's refuses this one.
    begin(desk, kept.copy().folder.path(), &other.desk.path("alice/log-key.pem")).fails(&["key"]);
    begin(desk, foreign.folder.path(), &other.desk.path("alice/log-key.pem")).fails(&["record"]);
    let older = with(&kept.path("earlier/head.cbor"));
    begin(desk, older.folder.path(), &key)
        .fails(&["covers it only up to", "nothing vouches for what follows"]);
    let earlier: SignedHead = from_bytes(&std::fs::read(kept.path("earlier/head.cbor")).unwrap()).unwrap();
    // The other way round: the newest head on what was there before.
    let before = tempfile::tempdir().unwrap();
    copy_tree(&kept.path("earlier"), before.path());
    std::fs::copy(kept.path("backup/head.cbor"), before.path().join("head.cbor")).unwrap();
    let need = format!("ends at record {}, but record {}", earlier.seq, kept.head().seq);
    begin(desk, before.path(), &key).fails(&[&need, "is known to have existed"]);
    std::fs::write(older.folder.path().join("head.cbor"), b"?").unwrap();
    begin(desk, older.folder.path(), &key).fails(&["is not a signed head"]);
    std::fs::remove_file(older.folder.path().join("head.cbor")).unwrap();
    begin(desk, older.folder.path(), &key).fails(&["head.cbor"]);
    assert!(earlier.seq > Seq(1));
}

#[test]
fn a_torn_frame_that_is_dropped_is_said_on_the_command_line() {
    let kept = kept();
    let copy = kept.copy();
    let mut bytes = copy.bytes();
    let (starts, _) = frames(&bytes);
    bytes[starts.last().unwrap() + 20..].fill(0);
    std::fs::write(copy.segment(), bytes).unwrap();
    let to = tempfile::tempdir().unwrap();
    let (from, to) = (copy.folder.path().to_str().unwrap(), to.path().join("data"));
    let ended = kept.served.desk.run(&[
        "restore",
        "begin",
        "--from",
        from,
        "--data",
        to.to_str().unwrap(),
        "--unsealed",
    ]);
    let ended = ended.done();
    assert!(ended.out.contains("DROPPED: a torn frame after the last record"), "{}", ended.out);
}
