//! The certificate index in memory, for tests and simulation, and for a server whose view directory cannot be used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::fold::{self, Key};
use super::{CertificateIndex, CertificateRow, LOOKUP_ROWS_MAX, ViewError};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::event::Entry;
use crate::domain::id::{EntityId, Ordinal, Seq, SubjectId};

/// An index in memory. It begins empty.
#[derive(Debug, Default)]
pub struct MemoryIndex(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    applied: Seq,
    rows: BTreeMap<Key, CertificateRow>,
    serials: HashMap<Serial, Key>,
    subjects: BTreeSet<(SubjectId, Ordinal)>,
    entities: BTreeSet<(EntityId, Ordinal)>,
}

impl MemoryIndex {
    /// An index without certificates.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, key: Key, row: CertificateRow) {
        self.serials.insert(row.serial, key);
        self.subjects.extend(row.subject.map(|subject| (subject, row.ordinal)));
        self.entities.extend(row.entity.map(|entity| (entity, row.ordinal)));
        self.rows.insert(key, row);
    }

    fn list<T: Ord + Copy>(
        &self,
        set: &BTreeSet<(T, Ordinal)>,
        of: T,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Vec<CertificateRow> {
        let Some(from) = after.map_or(Some(0), |after| after.0.checked_add(1)) else { return Vec::new() };
        set.range((of, Ordinal(from))..=(of, Ordinal(u64::MAX)))
            .take(limit.min(LOOKUP_ROWS_MAX))
            .filter_map(|(_, ordinal)| self.rows.get(&(AuthorityKind::Access, *ordinal)).cloned())
            .collect()
    }
}

impl CertificateIndex for MemoryIndex {
    fn applied_seq(&self) -> Seq {
        self.read().applied
    }

    fn apply(&self, entries: &[(Seq, Entry)]) -> Result<(), ViewError> {
        let mut inner = self.write();
        let changes = fold::fold(inner.applied, entries, |key| Ok(inner.rows.get(&key).cloned()))?;
        for (key, change) in changes.rows {
            inner.put(key, change.after);
        }
        inner.applied = changes.last;
        Ok(())
    }

    fn by_ordinal(
        &self,
        authority: AuthorityKind,
        ordinal: Ordinal,
    ) -> Result<Option<CertificateRow>, ViewError> {
        Ok(self.read().rows.get(&(authority, ordinal)).cloned())
    }

    fn by_serial(&self, serial: &Serial) -> Result<Option<CertificateRow>, ViewError> {
        let inner = self.read();
        Ok(inner.serials.get(serial).and_then(|key| inner.rows.get(key)).cloned())
    }

    fn by_subject(
        &self,
        subject: SubjectId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        let inner = self.read();
        Ok(inner.list(&inner.subjects, subject, after, limit))
    }

    fn by_entity(
        &self,
        entity: EntityId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        let inner = self.read();
        Ok(inner.list(&inner.entities, entity, after, limit))
    }

    fn by_shard(&self, authority: AuthorityKind, shard: u64) -> Result<Vec<CertificateRow>, ViewError> {
        let (first, last) = super::shard_ordinals(shard);
        let inner = self.read();
        Ok(inner.rows.range((authority, first)..=(authority, last)).map(|(_, row)| row.clone()).collect())
    }

    fn check(&self, _stop: &AtomicBool) -> Result<(), ViewError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), ViewError> {
        *self.write() = Inner::default();
        Ok(())
    }
}
