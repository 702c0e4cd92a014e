//! One sled database: a tree with a prefix for each index, so that one batch changes all of them or none.
//!
//! sled 0.34 panics on much that a damaged file can hold, at open and at any later read: everything that enters it goes
//! through `guarded`. Its `flush` is no fsync (it issues sync_file_range), so the `db` file is synced beside it.
//! `transaction` and `flush_async` are never used: the one takes a lock of the whole process, the other deadlocks.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use sled::{Batch, Db};

use super::super::fold::Changes;
use super::super::{CertificateRow, ViewError};
use super::layout::{self, Mark, Origin};
use super::{io_error, sync_dir};
use crate::domain::id::Seq;

#[cfg(panic = "abort")]
compile_error!("the certificate index must be able to catch sled's panics: build with panic = \"unwind\"");

/// sled's cache, its default of 1 GiB being for a database that is the product; what is looked up is mostly recent.
const CACHE_BYTES: u64 = 64 << 20;
/// How long sled may take to open: 0.4 s for a million records on a slow host, a hundredfold of it, and a damaged file
/// must not hold up the rest for longer.
const OPEN_WAIT: Duration = Duration::from_secs(40);
/// How often an open waits for an earlier handle of this process to let go of sled's lock.
const LOCK_TRIES: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Synced after this many records: what a crash loses is read again from the journal in well under a second.
const FLUSH_RECORDS: u64 = 4096;
/// What is kept of the text of an error: sled prints whole pages into its panics.
const TEXT_CHARS_MAX: usize = 200;

/// An open database.
pub(super) struct Store {
    /// None only while it is dropped.
    db: Option<Db>,
    /// sled's own file, for the fsync that sled does not make.
    file: File,
    /// As in the stored mark; `apply` alone, under the writer's lock, changes them.
    applied: AtomicU64,
    rows: AtomicU64,
    sum: AtomicU64,
    /// Records since the last sync.
    unsynced: AtomicU64,
    /// Something was found damaged: nothing more is applied, and `check` says so.
    suspect: AtomicBool,
}

impl Store {
    /// Makes an empty database in a directory that does not exist, durably.
    pub(super) fn create(dir: &Path, origin: Origin) -> Result<Self, ViewError> {
        let (db, _) = open_db(dir)?;
        let mark = Mark::empty(origin);
        let store = Self::with(db, dir, &mark)?;
        store.guarded(|db| db.insert(layout::MARK_KEY, mark.to_value()).map_err(failed))?;
        store.sync()?;
        // sled makes `conf` without a sync: a power cut would leave it empty.
        let conf = dir.join("conf");
        File::open(&conf).and_then(|file| file.sync_all()).map_err(io_error("sync", &conf))?;
        sync_dir(dir)?;
        dir.parent().map_or(Ok(()), sync_dir)?;
        Ok(store)
    }

    /// Opens a database that exists, and reads its mark.
    pub(super) fn open(dir: &Path) -> Result<(Self, Mark), ViewError> {
        // sled would silently make what is missing.
        for name in ["db", "conf"] {
            let path = dir.join(name);
            let len =
                fs::metadata(&path).map_err(|error| ViewError::damaged(format!("{name}: {error}")))?.len();
            if len == 0 {
                return Err(ViewError::damaged(format!("{name} is empty")));
            }
        }
        let (db, mark) = open_db(dir)?;
        let mark = mark.ok_or_else(|| ViewError::damaged("its mark is missing"))?;
        match Mark::from_value(&mark) {
            Some(mark) => Ok((Self::with(db, dir, &mark)?, mark)),
            None => {
                abandon(db);
                Err(ViewError::damaged("its mark is not readable"))
            }
        }
    }

    fn with(db: Db, dir: &Path, mark: &Mark) -> Result<Self, ViewError> {
        let path = dir.join("db");
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let [applied, rows, sum] = [mark.applied.0, mark.rows, mark.sum].map(AtomicU64::new);
        let (unsynced, suspect) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { db: Some(db), file, applied, rows, sum, unsynced, suspect })
    }

    pub(super) fn applied(&self) -> Seq {
        Seq(self.applied.load(Ordering::Acquire))
    }

    /// Stores the changes and the mark in one batch. The caller holds the writer's lock.
    pub(super) fn put(&self, origin: Origin, changes: &Changes) -> Result<(), ViewError> {
        self.trusted()?;
        let mut mark = self.mark(origin);
        let mut batch = Batch::default();
        for change in changes.rows.values() {
            let value = layout::row_to_value(&change.after);
            mark.sum = mark.sum.wrapping_add(layout::row_sum(&value));
            let before = match &change.before {
                Some(before) => {
                    mark.sum = mark.sum.wrapping_sub(layout::row_sum(&layout::row_to_value(before)));
                    layout::index_keys(before)
                }
                None => {
                    mark.rows += 1;
                    Vec::new()
                }
            };
            let keys = layout::index_keys(&change.after);
            keys.iter().filter(|key| !before.contains(key)).for_each(|(key, value)| {
                batch.insert(key.as_slice(), value.as_slice());
            });
            batch.insert(layout::row_key(change.after.authority, change.after.ordinal), value);
        }
        let records = changes.last.0.saturating_sub(mark.applied.0);
        mark.applied = changes.last;
        batch.insert(layout::MARK_KEY, mark.to_value());
        self.guarded(|db| db.apply_batch(batch).map_err(failed))?;
        self.rows.store(mark.rows, Ordering::Relaxed);
        self.sum.store(mark.sum, Ordering::Relaxed);
        self.applied.store(mark.applied.0, Ordering::Release);
        if self.unsynced.fetch_add(records, Ordering::Relaxed) + records >= FLUSH_RECORDS {
            self.sync()?;
        }
        Ok(())
    }

    /// Everything up to here survives a power cut.
    pub(super) fn sync(&self) -> Result<(), ViewError> {
        self.guarded(|db| db.flush().map_err(failed))?;
        // A sync that failed is not tried again: the kernel may have dropped the pages that it could not write.
        self.file.sync_data().map_err(|error| self.suspected(format!("it cannot be synced: {error}")))?;
        self.unsynced.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The row under this key of the rows.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<CertificateRow>, ViewError> {
        let value = self.guarded(|db| db.get(key).map_err(failed))?;
        let Some(value) = value else { return Ok(None) };
        let row = layout::row_from_value(key, &value);
        row.map(Some).ok_or_else(|| self.suspected("a row is not readable".to_owned()))
    }

    /// The rows under the keys of a range of the rows.
    pub(super) fn rows(&self, from: &[u8], to: &[u8]) -> Result<Vec<CertificateRow>, ViewError> {
        let found: Vec<_> =
            self.guarded(|db| db.range(from..=to).collect::<Result<_, _>>().map_err(failed))?;
        let rows: Option<Vec<_>> =
            found.iter().map(|(key, value)| layout::row_from_value(key, value)).collect();
        rows.ok_or_else(|| self.suspected("a row is not readable".to_owned()))
    }

    /// The row that an index key points to.
    pub(super) fn pointed(&self, key: &[u8]) -> Result<Option<CertificateRow>, ViewError> {
        let pointer = self.guarded(|db| db.get(key).map_err(failed))?;
        pointer.map(|pointer| self.indexed(key, &pointer)).transpose()
    }

    /// The rows of the first `limit` index keys in a range.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        let found: Vec<_> =
            self.guarded(|db| db.range(from..=to).take(limit).collect::<Result<_, _>>().map_err(failed))?;
        found.iter().map(|(key, pointer)| self.indexed(key, pointer)).collect()
    }

    /// The row of an index key; one that does not say what the key says is damage.
    fn indexed(&self, key: &[u8], pointer: &[u8]) -> Result<CertificateRow, ViewError> {
        let row = self.row(pointer)?.filter(|row| layout::index_keys(row).iter().any(|(own, _)| own == key));
        row.ok_or_else(|| self.suspected("an index names a row that does not belong to it".to_owned()))
    }

    /// Compares everything that is stored with the mark, and the indexes with the rows.
    pub(super) fn check(&self, origin: Origin, stop: &AtomicBool) -> Result<(), ViewError> {
        self.trusted()?;
        let expected = self.mark(origin);
        let tally = self.guarded(|db| {
            let mut tally = layout::Tally::default();
            for item in db.iter() {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let (key, value) = item.map_err(failed)?;
                tally.add(&key, &value).map_err(ViewError::damaged)?;
            }
            Ok(Some(tally))
        })?;
        match tally.map_or(Ok(()), |tally| tally.compare(&expected)) {
            Ok(()) => Ok(()),
            Err(why) => Err(self.suspected(why.to_owned())),
        }
    }

    fn mark(&self, origin: Origin) -> Mark {
        let rows = self.rows.load(Ordering::Relaxed);
        Mark { origin, applied: self.applied(), rows, sum: self.sum.load(Ordering::Relaxed) }
    }

    fn trusted(&self) -> Result<(), ViewError> {
        match self.suspect.load(Ordering::Relaxed) {
            true => Err(ViewError::damaged("it failed before")),
            false => Ok(()),
        }
    }

    fn suspected(&self, why: String) -> ViewError {
        self.suspect.store(true, Ordering::Relaxed);
        ViewError::Damaged { why }
    }

    /// Runs sled, and takes a panic of it for damage.
    fn guarded<T>(&self, work: impl FnOnce(&Db) -> Result<T, ViewError>) -> Result<T, ViewError> {
        let Some(db) = &self.db else { return Err(ViewError::damaged("it is closed")) };
        let result = caught(|| work(db));
        if result.is_err() {
            self.suspect.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.suspect.load(Ordering::Relaxed) {
            // Nobody is left to hear of a failure; what is lost is read again from the journal.
            let _ = self.sync();
        }
        let Some(db) = self.db.take() else { return };
        match self.suspect.load(Ordering::Relaxed) {
            true => abandon(db),
            false => drop(caught(|| {
                drop(db);
                Ok(())
            })),
        }
    }
}

/// Drops a database on a thread of its own that nobody waits for: after a panic inside sled, its drop can wait for ever
/// for a flusher that is no longer there.
fn abandon(db: Db) {
    let work = move || {
        drop(caught(|| {
            drop(db);
            Ok(())
        }))
    };
    // Without a thread the closure, and with it the database, is dropped here.
    drop(thread::Builder::new().name("certificates-drop".to_owned()).spawn(work));
}

/// Opens or makes a database and reads its mark, on a thread that may panic or, in the worst case, never return.
fn open_db(dir: &Path) -> Result<(Db, Option<sled::IVec>), ViewError> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    // One result, which the receiver may no longer want: the send never waits.
    let (sender, receiver) = sync_channel(1);
    let work = move || {
        let result = caught(|| {
            let db = open_locked(&config)?;
            let mark = db.get(layout::MARK_KEY).map_err(failed)?;
            Ok((db, mark))
        });
        drop(sender.send(result));
    };
    let thread = thread::Builder::new().name("certificates-open".to_owned()).spawn(work);
    let thread = thread.map_err(io_error("start a thread to open", dir))?;
    match receiver.recv_timeout(OPEN_WAIT) {
        Ok(result) => {
            drop(thread.join());
            result
        }
        // Not joined: it hangs inside sled.
        Err(RecvTimeoutError::Timeout) => Err(ViewError::damaged("sled does not come back from opening it")),
        Err(RecvTimeoutError::Disconnected) => Err(ViewError::damaged("sled panicked while it opened it")),
    }
}

/// Opens a database, waiting for its lock: our own lock shows that only an earlier handle of this process, on its way
/// out, or a child that has not yet executed, can hold it.
fn open_locked(config: &sled::Config) -> Result<Db, ViewError> {
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().starts_with("could not acquire lock") => {
                thread::sleep(LOCK_PAUSE);
            }
            result => return result.map_err(failed),
        }
    }
    config.open().map_err(failed)
}

fn caught<T>(work: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
    // A panic leaves nothing of ours half done: the store is thrown away after it.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let text: String = text.unwrap_or("no text").chars().take(TEXT_CHARS_MAX).collect();
        Err(ViewError::damaged(format!("sled panicked: {text}")))
    })
}

fn failed(error: sled::Error) -> ViewError {
    let text: String = error.to_string().chars().take(TEXT_CHARS_MAX).collect();
    ViewError::damaged(format!("sled: {text}"))
}
