//! Where a service keeps what it knows: opens or makes the journal, and recovers State from the newest good snapshot and
//! the records after it.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::calls::{CallLog, CallsVerified};
use crate::decisions::DecisionLog;
use crate::decisions::record::{self, DecisionRecord, DecisionsVerified};
use crate::domain::call::SealedCalls;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::decided::SealedDecisions;
use crate::domain::event::{Entry, Event, SNAPSHOT_TAKEN};
use crate::domain::head::{PUBLIC_KEY_LEN, is_snapshot_signed};
use crate::domain::id::{BootId, Digest, Epoch, Seq};
use crate::domain::state::{ApplyFault, State};
use crate::domain::time::Timestamp;
use crate::journal::file::{FileJournal, OpenReport, Options, VerifyReport, verify};
use crate::journal::snapshot::{SnapshotError, SnapshotId, SnapshotStore};
use crate::journal::{Batch, Draft, Journal, JournalError, Outcome, Record};
use crate::screening::ListFiles;
use crate::views::{CertificateIndex, DiskIndex, Opened, Origin, ViewError};

/// Why a data directory cannot be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The journal cannot be opened, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The certificate index cannot be kept.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Snapshots cannot be kept.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A record does not follow from those before it.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
    /// A record's body cannot be read.
    #[error("record {seq}: {why}")]
    Body {
        /// Which record.
        seq: Seq,
        /// What is wrong with it.
        why: String,
    },
    /// The journal has no genesis.
    #[error("{} has a journal without genesis; run `countersign init` again", .0.display())]
    Empty(PathBuf),
    /// The audit of calls cannot be read.
    #[error("the audit of calls cannot be read: {0}")]
    Calls(std::io::Error),
    /// The record of decisions cannot be read.
    #[error("the record of decisions cannot be read: {0}")]
    Decisions(std::io::Error),
    /// The first record of a journal, or of an epoch, could not be written.
    #[error("the first record could not be written: {0}")]
    Genesis(String),
}

/// An opened data directory.
pub struct Store {
    /// The journal.
    pub journal: FileJournal,
    /// The state as of its last record.
    pub state: State,
    /// Certificates, looked up. Follows the journal in the background.
    pub certificates: std::sync::Arc<dyn CertificateIndex>,
    /// Where snapshots are kept.
    pub snapshots: SnapshotStore,
    /// What gateways reported.
    pub decisions: DecisionLog,
    /// Every decision.
    pub record: DecisionRecord,
    /// The files of screening lists.
    pub lists: ListFiles,
    /// The audit of calls.
    pub calls: CallLog,
    /// What opening found.
    pub report: OpenReport,
    /// Records that were applied after the snapshot.
    pub replayed: u64,
}

/// What an offline verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What the journal says.
    pub journal: VerifyReport,
    /// The head after replaying every record and checking every signature.
    pub state: Option<Seq>,
    /// The audit of calls, against what the record says of it.
    pub calls: CallsVerified,
    /// The record of decisions, likewise.
    pub decisions: DecisionsVerified,
}

/// The segments beside the journal that its records seal.
#[derive(Default)]
struct Seals {
    calls: Vec<SealedCalls>,
    decisions: Vec<SealedDecisions>,
    /// Up to which segment decisions were removed after their time.
    removed: u64,
}

pub(super) fn journal_dir(data: &Path) -> PathBuf {
    data.join("journal")
}

fn calls_dir(data: &Path) -> PathBuf {
    data.join("calls")
}

fn record_dir(data: &Path) -> PathBuf {
    data.join("decided")
}

impl Seals {
    /// Notes which segments a record seals. A restored record begins new ones: a backup has neither calls nor decisions.
    fn note(&mut self, record: &Record) {
        match entry_of(record) {
            Ok(Entry { event: Event::CallsSealed(sealed), .. }) => self.calls.push(*sealed),
            Ok(Entry { event: Event::DecisionsSealed(sealed), .. }) => self.decisions.push(*sealed),
            Ok(Entry { event: Event::DecisionsRemoved(removed), .. }) => {
                self.removed = self.removed.max(removed.last);
            }
            Ok(Entry { event: Event::Restored, .. }) => *self = Self::default(),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Decodes a record's body.
///
/// # Errors
/// A body that was purged or is not an entry.
pub fn entry_of(record: &Record) -> Result<Entry, StoreError> {
    let seq = record.header.seq;
    let body = record.body.as_deref();
    let body = body.ok_or_else(|| StoreError::Body { seq, why: "its body was purged".to_owned() })?;
    from_bytes(body).map_err(|e| StoreError::Body { seq, why: e.to_string() })
}

/// Makes a journal whose first record is this genesis.
///
/// # Errors
/// A directory that holds one already, or a genesis that its officers did not sign.
pub fn create(
    data: &Path,
    options: &Options,
    genesis: &Entry,
    boot: BootId,
    now: Timestamp,
) -> Result<(), StoreError> {
    // Signatures are checked before anything is written.
    State::genesis(Epoch(1), now, genesis)?;
    let journal = FileJournal::create(&journal_dir(data), Epoch(1), options)?;
    let drafts = vec![Draft { kind: genesis.event.number(), body: to_bytes(genesis) }];
    let batch = Batch { writer: boot, nonce: 1, time: now, drafts, restricting: false };
    match journal.append(Seq(1), &batch) {
        Outcome::Done(_) => Ok(()),
        outcome => Err(StoreError::Genesis(format!("{outcome:?}"))),
    }
}

/// Opens a data directory: newest good snapshot, then every record after it.
///
/// # Errors
/// Damage, with segment, offset and record; another process that has it open; a record that nobody signed.
pub fn open(data: &Path, options: &Options) -> Result<Store, StoreError> {
    let snapshots = SnapshotStore::open(&data.join("snapshots"))?;
    let Recovered { journal, report, state, replayed } = recover(data, options, &snapshots)?;
    let state = state.ok_or_else(|| StoreError::Empty(data.to_owned()))?;
    let genesis = journal.read(Seq(1), 1)?.first().map(|record| record.header.body);
    let origin = Origin { genesis: genesis.unwrap_or_default(), epoch: report.head.epoch };
    let (index, opened) = DiskIndex::open(&data.join("views"), origin, report.head.seq)?;
    if let Opened::Rebuilt { why } = &opened {
        tracing::warn!(why, "the certificate index is built anew from the journal");
    }
    let certificates = std::sync::Arc::new(index);
    let decisions = DecisionLog::open(&data.join("decisions"));
    let lists = ListFiles::at(&data.join("screening"));
    let calls = CallLog::open(&calls_dir(data));
    let record = DecisionRecord::open(&record_dir(data));
    Ok(Store { journal, state, certificates, snapshots, decisions, record, lists, calls, report, replayed })
}

struct Recovered {
    journal: FileJournal,
    report: OpenReport,
    /// The state as of the last record; none: there is no record.
    state: Option<State>,
    /// Records after the snapshot that was used.
    replayed: u64,
}

/// Opens the journal with the newest snapshot that it vouches for: its root, and the digest that was recorded when it was
/// stored, signed by the log key that genesis names. A snapshot is only a short way to what the records say, so any doubt
/// about it means an older one, or every record; but one that reflects records that the journal does not have shows that
/// history was lost, and stops the start.
fn recover(data: &Path, options: &Options, snapshots: &SnapshotStore) -> Result<Recovered, StoreError> {
    let dir = journal_dir(data);
    // The first opening repairs a torn tail; later ones do not see it any more.
    let mut dropped = None;
    let mut open = |replay: &mut Replay, position| -> Result<(FileJournal, OpenReport), StoreError> {
        let visit = &mut |record: &Record| replay.visit(record);
        let (journal, mut report) = FileJournal::open_showing(&dir, options, position, visit)?;
        dropped = dropped.take().or(report.dropped.take());
        report.dropped.clone_from(&dropped);
        Ok((journal, report))
    };
    for id in snapshots.list()? {
        let (state, hash) = match loaded(snapshots, &id) {
            Ok(loaded) => loaded,
            Err(why) => {
                pass_over(&id, &why);
                continue;
            }
        };
        let mut replay = Replay { since: id.seq, state: Some(state), ..Replay::default() };
        let (journal, report) = open(&mut replay, Some(id.position()))?;
        match replay.vouch(&log_key(&journal)?, &hash) {
            Ok(()) => return replay.recovered(journal, report),
            Err(why) => pass_over(&id, why),
        }
    }
    let mut replay = Replay::default();
    let (journal, report) = open(&mut replay, None)?;
    replay.recovered(journal, report)
}

pub(super) fn loaded(snapshots: &SnapshotStore, id: &SnapshotId) -> Result<(State, Digest), String> {
    let (bytes, hash) = snapshots.load(id).map_err(|error| error.to_string())?;
    let state = from_bytes::<State>(&bytes).map_err(|_| "its format is another one")?;
    Ok((state, hash))
}

/// Folds records while they are checked, so that they are read once.
#[derive(Default)]
struct Replay {
    /// What the snapshot reflects; 0: there is none.
    since: Seq,
    state: Option<State>,
    /// The first record that does not follow.
    fault: Option<StoreError>,
    /// What the first record about the snapshot says: its digest, with a signature.
    stored: Option<(Digest, Vec<u8>)>,
    replayed: u64,
}

impl Replay {
    fn visit(&mut self, record: &Record) {
        if record.header.seq <= self.since || self.fault.is_some() {
            return;
        }
        self.stored = self.stored.take().or_else(|| snapshot_taken(record, self.since));
        self.fault = fold(&mut self.state, record).err();
        self.replayed += 1;
    }

    /// Does the record vouch for the snapshot with this digest?
    fn vouch(&self, key: &[u8; PUBLIC_KEY_LEN], found: &Digest) -> Result<(), &'static str> {
        match &self.stored {
            None => Err("the record does not say that it was stored"),
            Some((hash, _)) if hash != found => Err("it is not the one that the record names"),
            Some((hash, signature)) if !is_snapshot_signed(key, self.since, hash, signature) => {
                Err("the log key did not sign it")
            }
            Some(_) => Ok(()),
        }
    }

    fn recovered(self, journal: FileJournal, report: OpenReport) -> Result<Recovered, StoreError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Recovered { journal, report, state: self.state, replayed: self.replayed }),
        }
    }
}

/// The digest and signature of the snapshot as of a record, if this one says that it was stored.
pub(super) fn snapshot_taken(record: &Record, of: Seq) -> Option<(Digest, Vec<u8>)> {
    if record.header.kind != SNAPSHOT_TAKEN {
        return None;
    }
    // A body that was purged names nothing any more.
    match entry_of(record).ok()?.event {
        Event::SnapshotTaken { at, hash, signature } if at == of => Some((hash, signature)),
        _ => None,
    }
}

fn pass_over(id: &SnapshotId, why: &str) {
    tracing::warn!(seq = id.seq.0, why, "a snapshot is not used; an older one is, or every record");
}

/// The log key by genesis as its officers signed it.
pub(super) fn log_key(journal: &dyn Journal) -> Result<[u8; PUBLIC_KEY_LEN], StoreError> {
    let mut state = None;
    for record in journal.read(Seq(1), 1)? {
        fold(&mut state, &record)?;
    }
    let key = state.and_then(|state| state.settings.log_key.as_slice().try_into().ok());
    key.ok_or_else(|| StoreError::Body { seq: Seq(1), why: "it names no log key".to_owned() })
}

pub(super) fn fold(state: &mut Option<State>, record: &Record) -> Result<(), StoreError> {
    let header = &record.header;
    let entry = entry_of(record)?;
    match state {
        None => *state = Some(State::genesis(header.epoch, header.time, &entry)?),
        Some(state) => drop(state.apply(header.seq, header.time, &entry)?),
    }
    let epoch = state.as_ref().map(|state| state.position.epoch);
    if epoch != Some(header.epoch) {
        return Err(StoreError::Body {
            seq: header.seq,
            why: "its epoch is not the one that the records say".to_owned(),
        });
    }
    Ok(())
}

/// Verifies a data directory offline: every checksum and digest, the tree, and every record with its signatures.
///
/// # Errors
/// The first thing that does not hold, with its record.
pub fn verify_offline(data: &Path, progress: &mut dyn FnMut(Seq)) -> Result<Verified, StoreError> {
    let mut state: Option<State> = None;
    let mut fault = None;
    let mut seals = Seals::default();
    let mut visit = |record: &Record| {
        if fault.is_none() {
            fault = fold(&mut state, record).err();
            seals.note(record);
            progress(record.header.seq);
        }
    };
    let journal = verify(&journal_dir(data), Some(&mut visit))?;
    match fault {
        Some(fault) => Err(fault),
        None => {
            let calls = crate::calls::verify(&calls_dir(data), &seals.calls).map_err(StoreError::Calls)?;
            let decisions = record::verify(&record_dir(data), &seals.decisions, seals.removed);
            let decisions = decisions.map_err(StoreError::Decisions)?;
            Ok(Verified { journal, state: state.map(|state| state.position.seq), calls, decisions })
        }
    }
}

/// Stores a snapshot of a state and gives its name and digest.
///
/// # Errors
/// The file could not be written.
pub fn snapshot(
    snapshots: &SnapshotStore,
    state: &State,
    root: Digest,
) -> Result<(SnapshotId, Digest), SnapshotError> {
    let bytes = to_bytes(state);
    let id = SnapshotId { epoch: state.position.epoch, seq: state.position.seq, root };
    let hash = snapshots.store(&id, &bytes)?;
    Ok((id, hash))
}
