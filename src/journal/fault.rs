//! A disk in memory that fails on command: power cuts, write and sync errors, short writes, a full disk.
//!
//! Its model: what was synced stays; of what was not, each 512-byte sector is kept, lost or garbled; directory
//! changes that were not synced survive as a prefix. After a failed sync the pages look clean and are not on the disk.
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile, Mode};
use crate::env::{Entropy, SeededEntropy};

const SECTOR: usize = 512;

#[derive(Default)]
struct File {
    /// What a process sees.
    seen: Vec<u8>,
    /// What survives.
    durable: Vec<u8>,
    /// The ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

enum DirOp {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
struct World {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<DirOp>,
    /// Bytes the disk holds, if it is bounded.
    capacity: Option<usize>,
    fail_write_in: Option<u32>,
    fail_sync_in: Option<u32>,
    short_writes: bool,
    halt_in: Option<u32>,
    halted: bool,
    syncs: u32,
    writes: u32,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct FaultDisk(Arc<Mutex<World>>);

impl FaultDisk {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// The write after `after` more ones fails, having written half.
    pub(super) fn fail_write(&self, after: u32) {
        self.with(|world| world.fail_write_in = Some(after));
    }

    /// The sync after `after` more ones fails.
    pub(super) fn fail_sync(&self, after: u32) {
        self.with(|world| world.fail_sync_in = Some(after));
    }

    /// The machine dies after so many more changes and syncs: everything fails until the power is cut.
    pub(super) fn halt(&self, after: u32) {
        self.with(|world| world.halt_in = Some(after));
    }

    pub(super) fn short_writes(&self) {
        self.with(|world| world.short_writes = true);
    }

    /// Leaves this many bytes free; `None`: no bound.
    pub(super) fn leave_free(&self, free: Option<usize>) {
        self.with(|world| world.capacity = free.map(|free| world.used() + free));
    }

    /// Writes and syncs so far.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.with(|world| (world.writes, world.syncs))
    }

    pub(super) fn contents(&self, path: &Path) -> Vec<u8> {
        self.with(|world| world.files[world.names[path]].seen.clone())
    }

    /// Replaces a file, durably.
    pub(super) fn plant(&self, path: &Path, bytes: &[u8]) {
        self.with(|world| {
            let id = world.names[path];
            world.files[id] = File { seen: bytes.to_vec(), durable: bytes.to_vec(), dirty: Vec::new() };
        });
    }

    /// The machine loses power and starts again.
    pub(super) fn cut_power(&self, seed: u64) {
        let entropy = SeededEntropy::new(seed);
        let random = || u64::from_be_bytes(entropy.bytes16()[..8].try_into().unwrap());
        self.with(|world| {
            let kept = usize::try_from(random()).unwrap() % (world.pending.len() + 1);
            for op in world.pending.drain(..).take(kept).collect::<Vec<_>>() {
                match op {
                    DirOp::Link(path, id) => drop(world.durable_names.insert(path, id)),
                    DirOp::Rename(from, to) => {
                        let id = world.durable_names.remove(&from).unwrap();
                        world.durable_names.insert(to, id);
                    }
                    DirOp::Remove(path) => drop(world.durable_names.remove(&path)),
                }
            }
            world.names = world.durable_names.clone();
            world.files.iter_mut().for_each(|file| file.cut_power(&random));
            (world.fail_write_in, world.fail_sync_in, world.halt_in) = (None, None, None);
            world.halted = false;
        });
    }
}

impl File {
    fn cut_power(&mut self, random: &dyn Fn() -> u64) {
        for (from, until) in std::mem::take(&mut self.dirty) {
            let mut at = from;
            while at < until {
                let end = ((at / SECTOR + 1) * SECTOR).min(until).min(self.seen.len());
                if end <= at {
                    break;
                }
                let fate = random() % 4;
                if fate < 3 && self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                match fate {
                    0 | 1 => self.durable[at..end].copy_from_slice(&self.seen[at..end]),
                    2 => self.durable[at..end].iter_mut().for_each(|byte| *byte = random().to_be_bytes()[0]),
                    _ => {}
                }
                at = end;
            }
        }
        self.seen = self.durable.clone();
    }
}

impl World {
    /// Called before each change and sync.
    fn step(&mut self) -> io::Result<()> {
        self.halted |= due(&mut self.halt_in);
        if self.halted { Err(io::Error::other("the machine is dead")) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        self.names.values().map(|id| self.files[*id].seen.len()).sum()
    }
}

fn due(counter: &mut Option<u32>) -> bool {
    match counter {
        Some(0) => counter.take().is_some(),
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

struct Handle(FaultDisk, usize);

impl DiskFile for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.with(|world| {
            world.step()?;
            world.writes += 1;
            let failing = due(&mut world.fail_write_in);
            let from = usize::try_from(offset).unwrap();
            let mut len = bytes.len();
            if (failing || world.short_writes) && len > 1 {
                len /= 2;
            }
            let room = world.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(world.used()));
            let file = &mut world.files[self.1];
            len = len.min(file.seen.len().saturating_sub(from).saturating_add(room));
            if len == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            if file.seen.len() < from + len {
                file.seen.resize(from + len, 0);
            }
            file.seen[from..from + len].copy_from_slice(&bytes[..len]);
            file.dirty.push((from, from + len));
            if failing { Err(io::Error::other("injected write error")) } else { Ok(len) }
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.with(|world| {
            let seen = &world.files[self.1].seen;
            let from = usize::try_from(offset).unwrap().min(seen.len());
            let len = bytes.len().min(seen.len() - from);
            bytes[..len].copy_from_slice(&seen[from..from + len]);
            Ok(len)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.0.with(|world| {
            world.step()?;
            world.syncs += 1;
            let failing = due(&mut world.fail_sync_in);
            let file = &mut world.files[self.1];
            let dirty = std::mem::take(&mut file.dirty);
            if failing {
                return Err(io::Error::other("injected sync error"));
            }
            // Only what was written since: pages that a failed sync left clean are not written again.
            file.durable.resize(file.seen.len(), 0);
            for (from, until) in dirty {
                let until = until.min(file.seen.len());
                if from < until {
                    file.durable[from..until].copy_from_slice(&file.seen[from..until]);
                }
            }
            Ok(())
        })
    }

    fn settle(&self) -> io::Result<()> {
        self.sync()?;
        self.0.with(|world| {
            let file = &mut world.files[self.1];
            file.seen = file.durable.clone();
        });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.with(|world| world.files[self.1].seen.resize(usize::try_from(len).unwrap(), 0));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.with(|world| world.files[self.1].seen.len() as u64))
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let id = self.with(|world| match (world.names.get(path).copied(), mode) {
            (Some(id), Mode::Read | Mode::Write) => Ok(id),
            (None, Mode::Read | Mode::Write) => Err(io::Error::from(ErrorKind::NotFound)),
            (_, Mode::Create) => {
                world.files.push(File::default());
                let id = world.files.len() - 1;
                world.names.insert(path.into(), id);
                world.pending.push(DirOp::Link(path.into(), id));
                Ok(id)
            }
        })?;
        Ok(Box::new(Handle(self.clone(), id)))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(self.with(|world| world.names.keys().filter(|path| path.starts_with(dir)).map(name).collect()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|world| {
            world.step()?;
            let id = world.names.remove(from).ok_or(ErrorKind::NotFound)?;
            world.names.insert(to.into(), id);
            world.pending.push(DirOp::Rename(from.into(), to.into()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|world| {
            world.step()?;
            world.names.remove(path).ok_or(ErrorKind::NotFound)?;
            world.pending.push(DirOp::Remove(path.into()));
            Ok(())
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.with(|world| {
            world.step()?;
            world.syncs += 1;
            if due(&mut world.fail_sync_in) {
                return Err(io::Error::other("injected sync error"));
            }
            world.pending.clear();
            world.durable_names = world.names.clone();
            Ok(())
        })
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.with(|world| world.capacity.map_or(u64::MAX, |cap| cap.saturating_sub(world.used()) as u64)))
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}
