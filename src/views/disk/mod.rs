//! The certificate index on disk, in sled. It is opened, or it is made anew; it never stops a start-up.
//!
//! The directory holds a lock of our own and one database in a numbered directory. Emptying it makes the next number and
//! then removes the old one, so that a database that is stuck in sled can be left behind. Nothing else in the directory is
//! touched.

mod layout;
mod store;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::fold;
use super::{CertificateIndex, CertificateRow, LOOKUP_ROWS_MAX, ViewError};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::event::Entry;
use crate::domain::id::{EntityId, Ordinal, Seq, SubjectId};
use crate::env::FileLock;

use store::Store;

pub use layout::Origin;

const LOCK_NAME: &str = "lock";
const STORE_PREFIX: &str = "certificates-";

/// The index on disk. Dropping it syncs it.
pub struct DiskIndex {
    dir: PathBuf,
    origin: Origin,
    store: ArcSwap<Store>,
    /// Held while something is applied, checked or emptied; it guards the number of the database.
    writer: Mutex<u64>,
    /// Last, so that it is released after the store is closed.
    _lock: FileLock,
}

/// What was found when an index was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    Fresh,
    /// It was kept, and is so many records behind the journal.
    Behind {
        /// How many; 0: it is up to date.
        records: u64,
    },
    /// It was emptied.
    Rebuilt {
        /// What was wrong with it.
        why: String,
    },
}

impl DiskIndex {
    /// Opens the index in `dir` for the journal of this origin, whose head is `head`. One that is missing, damaged, of
    /// another history or ahead of the journal begins empty. Only a directory that cannot be used is an error.
    pub fn open(dir: &Path, origin: Origin, head: Seq) -> Result<(Self, Opened), ViewError> {
        if !dir.is_dir() {
            // What it holds are opaque identifiers; still nobody else's business.
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
            dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)?;
        }
        let lock = lock(dir)?;
        let numbers = store_numbers(dir)?;
        let newest = numbers.last().copied().unwrap_or(0);
        let kept = match numbers.is_empty() {
            true => Err(Opened::Fresh),
            false => keep(&store_dir(dir, newest), origin, head),
        };
        let (store, number, opened) = match kept {
            Ok((store, opened)) => (store, newest, opened),
            Err(opened) => (Store::create(&store_dir(dir, newest + 1), origin)?, newest + 1, opened),
        };
        remove_others(dir, number)?;
        let (store, writer) = (ArcSwap::from_pointee(store), Mutex::new(number));
        Ok((Self { dir: dir.to_owned(), origin, store, writer, _lock: lock }, opened))
    }

    fn writer(&self) -> MutexGuard<'_, u64> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(
        &self,
        key: impl Fn(Ordinal) -> Vec<u8>,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        let Some(from) = after.map_or(Some(0), |after| after.0.checked_add(1)) else { return Ok(Vec::new()) };
        let (from, to) = (key(Ordinal(from)), key(Ordinal(u64::MAX)));
        self.store.load().scan(&from, &to, limit.min(LOOKUP_ROWS_MAX))
    }
}

impl CertificateIndex for DiskIndex {
    fn applied_seq(&self) -> Seq {
        self.store.load().applied()
    }

    fn apply(&self, entries: &[(Seq, Entry)]) -> Result<(), ViewError> {
        let _writer = self.writer();
        let store = self.store.load();
        let stored = |(authority, ordinal)| store.row(&layout::row_key(authority, ordinal));
        let changes = fold::fold(store.applied(), entries, stored)?;
        match entries.is_empty() {
            true => Ok(()),
            false => store.put(self.origin, &changes),
        }
    }

    fn by_ordinal(
        &self,
        authority: AuthorityKind,
        ordinal: Ordinal,
    ) -> Result<Option<CertificateRow>, ViewError> {
        self.store.load().row(&layout::row_key(authority, ordinal))
    }

    fn by_serial(&self, serial: &Serial) -> Result<Option<CertificateRow>, ViewError> {
        self.store.load().pointed(&layout::serial_key(serial))
    }

    fn by_subject(
        &self,
        subject: SubjectId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        self.list(|ordinal| layout::subject_key(subject.to_bytes(), ordinal), after, limit)
    }

    fn by_entity(
        &self,
        entity: EntityId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        self.list(|ordinal| layout::entity_key(entity.to_bytes(), ordinal), after, limit)
    }

    fn by_shard(&self, authority: AuthorityKind, shard: u64) -> Result<Vec<CertificateRow>, ViewError> {
        let (first, last) = super::shard_ordinals(shard);
        self.store.load().rows(&layout::row_key(authority, first), &layout::row_key(authority, last))
    }

    fn check(&self, stop: &AtomicBool) -> Result<(), ViewError> {
        let _writer = self.writer();
        self.store.load().check(self.origin, stop)
    }

    fn clear(&self) -> Result<(), ViewError> {
        let mut number = self.writer();
        let next = store_numbers(&self.dir)?.last().copied().unwrap_or(0).max(*number) + 1;
        let store = Store::create(&store_dir(&self.dir, next), self.origin)?;
        // Whoever is still reading the old one holds it open until done.
        self.store.store(Arc::new(store));
        *number = next;
        remove_others(&self.dir, next)
    }
}

/// The database in `dir`, if it can be used; else why not.
fn keep(dir: &Path, origin: Origin, head: Seq) -> Result<(Store, Opened), Opened> {
    let (store, mark) = Store::open(dir).map_err(|error| Opened::Rebuilt { why: error.to_string() })?;
    let why = if mark.origin.genesis != origin.genesis {
        "it was made from another journal".to_owned()
    } else if mark.origin.epoch != origin.epoch {
        format!("it was made in epoch {}, the journal is in epoch {}", mark.origin.epoch, origin.epoch)
    } else if mark.applied > head {
        format!("it reflects record {}, the journal ends at {head}", mark.applied)
    } else {
        return Ok((store, Opened::Behind { records: head.0 - mark.applied.0 }));
    };
    Err(Opened::Rebuilt { why })
}

/// The lock that shows that no other process has the directory. sled's own lies in what may be removed.
fn lock(dir: &Path) -> Result<FileLock, ViewError> {
    let path = dir.join(LOCK_NAME);
    FileLock::take(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ViewError::InUse { dir: dir.to_owned() },
        _ => io_error("lock", &path)(error),
    })
}

fn store_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{STORE_PREFIX}{number}"))
}

/// The numbers of the databases in the directory, ascending. There are two only after a crash.
fn store_numbers(dir: &Path) -> Result<Vec<u64>, ViewError> {
    let mut numbers = Vec::new();
    for item in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = item.map_err(io_error("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(STORE_PREFIX)?.parse().ok());
        // Only as we write it, and never the last number: the next one must exist.
        let own = number.filter(|number| *number < u64::MAX && store_dir(dir, *number).ends_with(&name));
        numbers.extend(own);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove_others(dir: &Path, kept: u64) -> Result<(), ViewError> {
    for number in store_numbers(dir)?.into_iter().filter(|number| *number != kept) {
        let path = store_dir(dir, number);
        fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), ViewError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("sync", dir))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ViewError {
    let path = path.to_owned();
    move |source| ViewError::Io { what, path, source }
}
