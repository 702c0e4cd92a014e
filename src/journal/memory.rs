//! The journal in memory, for tests and simulation: the same port, nothing durable, and failures on request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::merkle::Frontier;
use super::record::{self, Record};
use super::{
    Batch, Condition, Head, Journal, JournalError, Outcome, READ_BYTES_MAX, READ_RECORDS_MAX, Refusal, Space,
};
use crate::domain::id::{Epoch, Seq};
use crate::domain::time::Timestamp;

/// What the next append meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is stored, but the answer is lost; the journal closes.
    UnknownStored,
    /// It is not stored, and nobody knows; the journal closes.
    UnknownLost,
    /// The disk is under its low-water mark: ordinary batches are refused until the fault is changed.
    LowWater,
    /// The disk and the reserve are full: every batch is refused until the fault is changed.
    Full,
}

/// A journal in memory. [`MemoryJournal::reopen`] gives the journal that a restarted process would find.
#[derive(Debug)]
pub struct MemoryJournal {
    inner: Mutex<Inner>,
    head: watch::Sender<Head>,
}

#[derive(Debug, Clone)]
struct Inner {
    records: Vec<Arc<Record>>,
    frontier: Frontier,
    head: Head,
    fault: Fault,
    closed: Option<String>,
}

impl MemoryJournal {
    /// A journal without records.
    pub fn new(epoch: Epoch) -> Self {
        let frontier = Frontier::default();
        let head = Head { epoch, seq: Seq(0), root: frontier.root(), time: Timestamp::default() };
        Self::with(Inner { records: Vec::new(), frontier, head, fault: Fault::None, closed: None })
    }

    /// What a restart finds: every stored record, no fault, open.
    pub fn reopen(&self) -> Self {
        Self::with(Inner { fault: Fault::None, closed: None, ..self.inner().clone() })
    }

    /// Sets what appends meet from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.inner().fault = fault;
    }

    /// The tree at the head.
    pub fn frontier(&self) -> Frontier {
        self.inner().frontier.clone()
    }

    fn with(inner: Inner) -> Self {
        let (head, _) = watch::channel(inner.head);
        Self { inner: Mutex::new(inner), head }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn space(&self) -> Space {
        match self.fault {
            Fault::None | Fault::UnknownStored | Fault::UnknownLost => {
                Space { free: u64::MAX, low_water: 0, reserve: u64::MAX }
            }
            Fault::LowWater => Space { free: 0, low_water: 1, reserve: u64::MAX },
            Fault::Full => Space { free: 0, low_water: 1, reserve: 0 },
        }
    }

    fn admit(&self, expected_next: Seq, batch: &Batch) -> Result<(), Refusal> {
        if let Some(why) = &self.closed {
            return Err(Refusal::Closed { why: why.clone() });
        }
        if self.head.seq.next() != expected_next {
            return Err(Refusal::Moved(self.head));
        }
        record::check(batch)?;
        let space = self.space();
        let refused = space.is_low() && (!batch.restricting || space.reserve == 0);
        if refused { Err(Refusal::NoSpace(space)) } else { Ok(()) }
    }

    fn store(&mut self, batch: &Batch) {
        let headers = record::headers(batch, self.head.epoch, self.head.seq.next());
        for (header, draft) in headers.into_iter().zip(&batch.drafts) {
            self.frontier.push(header.leaf());
            self.records.push(Arc::new(Record { header, body: Some(draft.body.clone()) }));
        }
        let seq = Seq(self.frontier.size());
        self.head = Head { epoch: self.head.epoch, seq, root: self.frontier.root(), time: batch.time };
    }
}

impl Journal for MemoryJournal {
    fn append(&self, expected_next: Seq, batch: &Batch) -> Outcome {
        let mut inner = self.inner();
        if let Err(refusal) = inner.admit(expected_next, batch) {
            return Outcome::Refused(refusal);
        }
        let fault = inner.fault;
        if fault != Fault::UnknownLost {
            inner.store(batch);
        }
        if matches!(fault, Fault::UnknownStored | Fault::UnknownLost) {
            let why = "injected fault".to_owned();
            inner.closed = Some(why.clone());
            return Outcome::Unknown(why);
        }
        self.head.send_replace(inner.head);
        Outcome::Done(inner.head.seq)
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<Record>, JournalError> {
        let last = self.head().seq;
        let inner = self.inner();
        let skipped = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let within = |record: &&Arc<Record>| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += record.body.as_ref().map_or(0, Vec::len);
            fits && record.header.seq <= last
        };
        let wanted = inner.records.iter().skip(skipped).take(limit.min(READ_RECORDS_MAX)).take_while(within);
        Ok(wanted.map(|record| Record::clone(record)).collect())
    }

    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn condition(&self) -> Condition {
        let inner = self.inner();
        inner.closed.clone().map_or_else(|| Condition::Open(inner.space()), Condition::Closed)
    }
}
