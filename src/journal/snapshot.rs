//! Snapshot files: opaque bytes of a state, named by the place in the journal that they reflect.
//!
//! A snapshot only shortens start-up; the journal is the truth. So a damaged one is refused with its reason, and the
//! caller opens the journal with the position of the one it uses, which compares the root, and compares the bytes with
//! the digest on record. Used by `app` only.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use super::Position;
use super::record::Fields;
use crate::domain::id::{Digest, Epoch, Seq};

/// How many snapshots are kept: the newest, and one more should it be damaged.
pub const SNAPSHOTS_KEPT: usize = 2;
/// The longest snapshot: ten million records of 200 bytes; it is read into memory whole.
pub const SNAPSHOT_LEN_MAX: u64 = 2 << 30;

const MAGIC: &[u8; 8] = b"CSJRNSNP";
const VERSION: u16 = 1;
/// Magic, version, epoch, sequence number, root, length, SHA-256 of the bytes.
const HEADER_LEN: usize = 8 + 2 + 8 + 8 + 32 + 8 + 32;
const CRC_LEN: usize = 4;

/// Which state a snapshot holds. Ordered from old to new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The epoch of the last record it reflects.
    pub epoch: Epoch,
    /// The last record it reflects.
    pub seq: Seq,
    /// The Merkle tree hash over records 1 to `seq`.
    pub root: Digest,
}

impl SnapshotId {
    /// What to open the journal with.
    pub const fn position(&self) -> Position {
        Position { seq: self.seq, root: self.root }
    }

    fn file_name(&self) -> String {
        format!("state-{:010}-{:020}-{}.snap", self.epoch.0, self.seq.0, self.root)
    }

    fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("state-")?.strip_suffix(".snap")?.split('-');
        let epoch = Epoch(parts.next()?.parse().ok()?);
        let seq = Seq(parts.next()?.parse().ok()?);
        let id = Self { epoch, seq, root: parts.next()?.parse().ok()? };
        (id.file_name() == name).then_some(id)
    }
}

/// Why a snapshot could not be stored or loaded.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file system failed.
    #[error("cannot {what} snapshot {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not what was stored.
    #[error("snapshot {} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: &'static str,
    },
    /// Longer than a snapshot may be.
    #[error("a snapshot of {len} bytes is longer than {SNAPSHOT_LEN_MAX}")]
    TooLong {
        /// Its length.
        len: u64,
    },
}

/// A directory of snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    dir: PathBuf,
}

impl SnapshotStore {
    /// A directory that is there, to read from.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Opens or makes the directory, and removes what a crash left unfinished.
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))?;
        let store = Self { dir: dir.to_path_buf() };
        for name in store.names()?.iter().filter(|name| name.ends_with(".snap.new")) {
            let path = dir.join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(store)
    }

    /// Stores a snapshot durably; returns the digest of its bytes.
    pub fn store(&self, id: &SnapshotId, bytes: &[u8]) -> Result<Digest, SnapshotError> {
        let len = bytes.len() as u64;
        if len > SNAPSHOT_LEN_MAX {
            return Err(SnapshotError::TooLong { len });
        }
        let hash = Digest::of(bytes);
        let path = self.dir.join(id.file_name());
        let unfinished = path.with_extension("snap.new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&unfinished).and_then(|mut file| {
            file.write_all(&header(id, len, &hash))?;
            file.write_all(bytes)?;
            file.sync_all()
        });
        if let Err(source) = written {
            // Must not keep the space; should it stay, the next open removes it.
            drop(fs::remove_file(&unfinished));
            return Err(SnapshotError::Io { what: "write", path, source });
        }
        fs::rename(&unfinished, &path).map_err(failed("name", &path))?;
        self.sync_dir()?;
        Ok(hash)
    }

    /// Removes all but the newest two.
    pub fn prune(&self) -> Result<(), SnapshotError> {
        self.list()?.iter().skip(SNAPSHOTS_KEPT).try_for_each(|old| self.remove(old))
    }

    /// Removes one.
    pub fn remove(&self, id: &SnapshotId) -> Result<(), SnapshotError> {
        let path = self.dir.join(id.file_name());
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// The snapshots, newest first.
    pub fn list(&self) -> Result<Vec<SnapshotId>, SnapshotError> {
        let mut ids: Vec<_> =
            self.names()?.iter().filter_map(|name| SnapshotId::from_file_name(name)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// The bytes of a snapshot, with their digest.
    pub fn load(&self, id: &SnapshotId) -> Result<(Bytes, Digest), SnapshotError> {
        let path = self.dir.join(id.file_name());
        let limit = SNAPSHOT_LEN_MAX + (HEADER_LEN + CRC_LEN) as u64 + 1;
        let read = File::open(&path).and_then(|file| {
            let len = file.metadata()?.len().min(limit);
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let bytes = read.map_err(failed("read", &path))?;
        let hash = check(id, &bytes).map_err(|why| SnapshotError::Damaged { path, why })?;
        // A part of what was read, not a copy: it is as long as the state.
        Ok((Bytes::from(bytes).split_off(HEADER_LEN + CRC_LEN), hash))
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let names = fs::read_dir(&self.dir).and_then(|entries| entries.map(name).collect());
        names.map_err(failed("list", &self.dir))
    }

    fn sync_dir(&self) -> Result<(), SnapshotError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::Io { what, path, source }
}

fn header(id: &SnapshotId, len: u64, hash: &Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + CRC_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&id.epoch.0.to_be_bytes());
    out.extend_from_slice(&id.seq.0.to_be_bytes());
    out.extend_from_slice(&id.root.0);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&hash.0);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// The digest of what was stored.
fn check(id: &SnapshotId, bytes: &[u8]) -> Result<Digest, &'static str> {
    let mut fields = Fields(bytes);
    let covered = fields.bytes(HEADER_LEN).ok_or("it is cut off")?;
    let crc = fields.u32().ok_or("it is cut off")?;
    let body = fields.0;
    // Before the checksum: a newer format may keep it elsewhere.
    let version = covered.get(8..10).ok_or("it is cut off")?;
    if !covered.starts_with(MAGIC) {
        return Err("it does not begin with the magic of a snapshot");
    }
    if version > VERSION.to_be_bytes().as_slice() {
        return Err("it is of a newer format");
    }
    if crc32c::crc32c(covered) != crc {
        return Err("the checksum of its header is wrong");
    }
    let hash = Digest::of(body);
    if header(id, body.len() as u64, &hash).get(..HEADER_LEN) == Some(covered) {
        Ok(hash)
    } else {
        Err("its length, digest or name is not that of what was stored")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> SnapshotId {
        SnapshotId { epoch: Epoch(1 + seq / 100), seq: Seq(seq), root: Digest::of(&seq.to_be_bytes()) }
    }

    fn store() -> (tempfile::TempDir, SnapshotStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(&dir.path().join("snapshots")).unwrap();
        (dir, store)
    }

    #[test]
    fn newest_two_are_kept() {
        let (_dir, store) = store();
        assert_eq!(store.list().unwrap(), []);
        for seq in [5, 50, 9, 101] {
            store.store(&id(seq), &seq.to_be_bytes()).unwrap();
        }
        assert_eq!(store.list().unwrap(), [101, 50, 9, 5].map(id));
        store.prune().unwrap();
        assert_eq!(store.list().unwrap(), [id(101), id(50)]);
        let bytes = 101_u64.to_be_bytes();
        assert_eq!(store.load(&id(101)).unwrap(), (Bytes::copy_from_slice(&bytes), Digest::of(&bytes)));
    }

    #[test]
    fn damaged_snapshot_is_not_given() {
        let (_dir, store) = store();
        store.store(&id(2), b"new").unwrap();
        let path = store.dir.join(id(2).file_name());
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for bytes in [&flipped[..], &good[..at], &[&good[..], b"x"].concat()] {
                fs::write(&path, bytes).unwrap();
                assert!(matches!(store.load(&id(2)), Err(SnapshotError::Damaged { .. })), "{at}");
            }
        }
    }

    #[test]
    fn snapshot_under_another_name_is_not_believed() {
        let (_dir, store) = store();
        store.store(&id(1), b"old").unwrap();
        fs::rename(store.dir.join(id(1).file_name()), store.dir.join(id(2).file_name())).unwrap();
        assert!(matches!(store.load(&id(2)), Err(SnapshotError::Damaged { .. })));
    }

    #[test]
    fn unfinished_snapshot_is_removed_at_open() {
        let (_dir, store) = store();
        let path = store.dir.join(id(1).file_name()).with_extension("snap.new");
        fs::write(&path, b"half").unwrap();
        assert!(SnapshotStore::open(&store.dir).unwrap().list().unwrap().is_empty());
        assert!(!path.exists());
    }
}
