//! The disk of this machine, failing as a test says: no room, a sync that fails, a sync that takes long.
//!
//! Compiled in with the feature `faults` only, never in a shipped binary. A test asks for the switches of a journal's
//! directory; every journal that is opened there afterwards obeys them.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile, Mode, RealDisk, write_zeros};

/// The switches of every directory that a test asked for.
static SWITCHES: Mutex<BTreeMap<PathBuf, Arc<DiskFaults>>> = Mutex::new(BTreeMap::new());

/// What a test does to the disk under a journal.
#[derive(Debug, Default)]
pub struct DiskFaults {
    plan: Mutex<Plan>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    /// Bytes that files may still grow by; none: as many as the machine has.
    free: Option<u64>,
    fail_sync: bool,
    /// Syncs that still pass before the next one waits; none: all.
    syncs: Option<u32>,
    /// Syncs that wait now.
    waiting: u32,
}

impl DiskFaults {
    /// The switches of a journal's directory.
    pub fn at(dir: &Path) -> Arc<Self> {
        let mut all = SWITCHES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(dir.to_path_buf()).or_default())
    }

    /// Files may grow by so many bytes from now on, and what they have may be overwritten; none: as the machine allows.
    pub fn leave_free(&self, bytes: Option<u64>) {
        self.plan().free = bytes;
    }

    /// The next sync fails, and half of what was written last is lost.
    pub fn fail_sync(&self) {
        self.plan().fail_sync = true;
    }

    /// So many more syncs pass and the next one waits; none: nothing waits.
    pub fn let_syncs(&self, count: Option<u32>) {
        self.plan().syncs = count;
        self.moved.notify_all();
    }

    /// Does a sync wait now?
    pub fn waits(&self) -> bool {
        self.plan().waiting > 0
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut plan = self.plan();
        if let Some(free) = plan.free {
            plan.free = Some(free.checked_sub(bytes).ok_or(ErrorKind::StorageFull)?);
        }
        Ok(())
    }

    fn give(&self, bytes: u64) {
        let mut plan = self.plan();
        plan.free = plan.free.map(|free| free.saturating_add(bytes));
    }

    /// Waits for its turn; true when this sync fails.
    fn syncs(&self) -> bool {
        let mut plan = self.plan();
        plan.waiting += 1;
        let plan = self.moved.wait_while(plan, |plan| plan.syncs == Some(0));
        let mut plan = plan.unwrap_or_else(PoisonError::into_inner);
        plan.waiting -= 1;
        plan.syncs = plan.syncs.map(|left| left.saturating_sub(1));
        std::mem::take(&mut plan.fail_sync)
    }
}

/// The disk of this machine under a directory's switches.
pub(super) struct FaultyDisk(Arc<DiskFaults>);

impl FaultyDisk {
    pub(super) fn at(dir: &Path) -> Self {
        Self(DiskFaults::at(dir))
    }
}

struct FaultyFile {
    file: Box<dyn DiskFile>,
    faults: Arc<DiskFaults>,
    /// The range of the last write.
    last: Mutex<(u64, u64)>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        Ok(Box::new(FaultyFile { file, faults: Arc::clone(&self.0), last: Mutex::default() }))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let len = RealDisk.open(path, Mode::Read)?.len()?;
        RealDisk.remove(path)?;
        self.0.give(len);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let free = self.0.plan().free;
        free.map_or_else(|| RealDisk.free(dir), Ok)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let end = offset + bytes.len() as u64;
        self.faults.take(end.saturating_sub(self.file.len()?))?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (offset, end);
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.faults.syncs() {
            return self.file.sync();
        }
        let (from, until) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        write_zeros(self.file.as_ref(), from.midpoint(until), until)?;
        Err(io::Error::other("injected sync error"))
    }

    fn settle(&self) -> io::Result<()> {
        self.file.settle()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.file.set_len(len)?;
        self.faults.give(before.saturating_sub(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
