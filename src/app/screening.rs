//! Screening: receives lists, and compares every entity with the newest one as soon as either is new.
//!
//! What a comparison finds is recorded without an officer, because it follows from what officers signed: the digest of the
//! list and the least score are in the command that made it the newest. Without its file nothing is compared, nobody new is
//! cleared, and who was goes stale. Called by `rpc` and by the upkeep.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};
use tokio::task::JoinSet;

use super::crl::blocking;
use super::error::Error;
use super::{App, Caller};
use crate::domain::entity::{Entity, EntityStatus};
use crate::domain::event::Event;
use crate::domain::id::{Digest, EntityId, Seq};
use crate::domain::screening::{EntityScreening, FOUND_MAX, MATCHES_MAX, ScreeningList, ScreeningMatch};
use crate::domain::state::State;
use crate::journal::{Condition, Journal};
use crate::metrics::ScreeningReading;
use crate::screening::{ListFault, ListFiles, ListSummary, Loaded, Query, Upload};

/// How often it looks for somebody to compare.
const TICK: Duration = Duration::from_secs(1);
/// How long it waits after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// Entities that are compared before their records are written together: one sync for all of them.
const BATCH: usize = 32;

/// Lists that are in memory: the newest on record, and the last one that was received.
pub(super) struct Lists {
    files: ListFiles,
    receiving: Arc<AsyncMutex<()>>,
    newest: Mutex<Option<Arc<Loaded>>>,
    received: Mutex<Option<Arc<Loaded>>>,
}

/// A list that is being received. Only one at a time. Whoever drops it gives up, and nothing of it stays.
pub struct Receiving {
    // Before its place is free, its file is gone.
    upload: Upload,
    journal: Arc<dyn Journal>,
    _place: OwnedMutexGuard<()>,
}

impl Receiving {
    /// Takes the next part. Blocks.
    ///
    /// # Errors
    /// It is too long, the disk is nearly full, or it fails.
    pub fn write(&mut self, part: &[u8]) -> Result<(), Error> {
        has_room(self.journal.as_ref(), part.len() as u64)?;
        self.upload.write(part).map_err(|fault| refused(&fault))
    }
}

/// What officers record comes first: a list takes none of the room that is kept for it.
fn has_room(journal: &dyn Journal, len: u64) -> Result<(), Error> {
    match journal.condition() {
        Condition::Open(space) if space.free < space.low_water.saturating_add(len) => {
            Err(Error::ReadOnly(format!(
                "the disk is almost full ({} bytes free); make room and import the list again",
                space.free
            )))
        }
        Condition::Open(_) | Condition::Closed(_) => Ok(()),
    }
}

impl Lists {
    pub(super) fn new(files: ListFiles) -> Self {
        Self { files, receiving: Arc::default(), newest: Mutex::new(None), received: Mutex::new(None) }
    }

    /// The list with this digest, if it is in memory.
    fn get(&self, file: Digest) -> Option<Arc<Loaded>> {
        let held = |slot: &Mutex<Option<Arc<Loaded>>>| lock(slot).clone();
        [held(&self.newest), held(&self.received)].into_iter().flatten().find(|l| l.summary.file == file)
    }

    /// The newest list, read from its file if it is not in memory. Blocks.
    fn load(&self, file: Digest) -> Result<Arc<Loaded>, ListFault> {
        let loaded = match self.get(file) {
            Some(loaded) => loaded,
            None => Arc::new(self.files.load(file)?),
        };
        *lock(&self.newest) = Some(Arc::clone(&loaded));
        Ok(loaded)
    }
}

fn lock<T>(slot: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(fault: &ListFault) -> Error {
    match fault {
        ListFault::Io(error) => Error::Internal(format!("screening list: {error}")),
        fault => Error::Invalid { field: "file", why: fault.to_string() },
    }
}

impl App {
    /// Begins to receive a list.
    ///
    /// # Errors
    /// Another one is being received, the disk is nearly full, or it fails.
    pub async fn receive_list(self: &Arc<Self>) -> Result<Receiving, Error> {
        let place = Arc::clone(&self.lists.receiving).try_lock_owned();
        let place = place.map_err(|_| Error::Limit { retry_after_ms: 1_000 })?;
        let app = Arc::clone(self);
        blocking(move || {
            has_room(app.journal.as_ref(), 0)?;
            let upload = app.lists.files.begin().map_err(|e| refused(&ListFault::Io(e)))?;
            Ok(Receiving { upload, journal: Arc::clone(&app.journal), _place: place })
        })
        .await
    }

    /// Reads what was received. It becomes the newest list when officers say so.
    ///
    /// # Errors
    /// It is no list.
    pub async fn take_list(self: &Arc<Self>, receiving: Receiving) -> Result<ListSummary, Error> {
        let app = Arc::clone(self);
        blocking(move || {
            let Receiving { upload, _place, .. } = receiving;
            let loaded = upload.finish().map_err(|fault| refused(&fault))?;
            let summary = loaded.summary.clone();
            *lock(&app.lists.received) = Some(Arc::new(loaded));
            let newest = app.state().screening_list.as_ref().map(|list| list.file);
            let kept: Vec<_> = newest.into_iter().chain([summary.file]).collect();
            if let Err(error) = app.lists.files.keep(&kept) {
                tracing::warn!(%error, "old screening lists were not removed");
            }
            tracing::info!(list.file = %summary.file, list.entries = summary.entries, "a screening list was received");
            Ok(summary)
        })
        .await
    }

    /// Is the file of this list here, and does it hold what the command says?
    pub(super) fn check_list(&self, list: &ScreeningList) -> Result<(), Error> {
        let loaded = self.lists.get(list.file).ok_or_else(|| {
            Error::WrongState(format!(
                "the file {} is not at this server; `countersign screening import` uploads it",
                list.file
            ))
        })?;
        match loaded.summary.entries == list.entries {
            true => Ok(()),
            false => Err(Error::Invalid {
                field: "entries",
                why: format!("the file has {}", loaded.summary.entries),
            }),
        }
    }

    /// The name of an entry of the newest list, as long as that says it: the record keeps none.
    pub fn listed_name(&self, entry: Digest) -> Option<String> {
        let list = self.state().screening_list.clone()?;
        self.lists.get(list.file)?.index.name_of(entry).map(str::to_owned)
    }

    /// How screening stands, for the metrics.
    pub fn screening_reading(&self, state: &State) -> ScreeningReading {
        let list = state.screening_list.as_ref();
        let waiting = list.map_or(0, |list| due(state, list).count());
        let open = |row: &Arc<EntityScreening>| row.matches.iter().filter(|m| m.resolution.is_none()).count();
        ScreeningReading {
            list_date_s: list.map_or(0, |list| list.date.seconds()),
            is_list_missing: list.is_some_and(|list| self.lists.get(list.file).is_none()),
            waiting: waiting as u64,
            open_matches: state.screenings.values().map(open).sum::<usize>() as u64,
        }
    }

    /// Compares whom is due, a batch at a time. True: there may be more.
    async fn screen_batch(self: &Arc<Self>, seen: &mut Seq) -> Result<bool, Error> {
        let state = self.state();
        let Some(list) = state.screening_list.clone() else { return Ok(false) };
        if state.position.seq == *seen || !self.shared.is_writable() {
            return Ok(false);
        }
        let rows: Vec<_> = due(&state, &list).take(BATCH).map(Arc::clone).collect();
        if rows.is_empty() && self.lists.get(list.file).is_some() {
            *seen = state.position.seq;
            return Ok(false);
        }
        let app = Arc::clone(self);
        let events = blocking(move || {
            let loaded = app.lists.load(list.file).map_err(|fault| {
                Error::Unavailable(format!(
                    "the file of the screening list {} cannot be used ({fault}); import it again",
                    list.version
                ))
            })?;
            let compared = rows.iter().map(|entity| {
                let held = state.screening_of(entity.card.id);
                compare(&loaded, &list, entity, &held)
            });
            Ok(compared.collect::<Vec<_>>())
        })
        .await?;
        let mut records = JoinSet::new();
        for event in events {
            let app = Arc::clone(self);
            records.spawn(async move { app.record(Caller::default().entry(event)).await.map(drop) });
        }
        while let Some(recorded) = records.join_next().await {
            match recorded.map_err(|e| Error::Internal(e.to_string()))? {
                // Who changed meanwhile is due again.
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Whom the list is still to be compared with.
fn due<'a>(state: &'a State, list: &'a ScreeningList) -> impl Iterator<Item = &'a Arc<Entity>> {
    state.entities.values().filter(move |entity| match entity.status {
        EntityStatus::Applicant | EntityStatus::Active => {
            let held = state.screenings.get(&entity.card.id);
            held.is_none_or(|held| held.is_due(list, entity.query()))
        }
        EntityStatus::Removed | EntityStatus::Rejected => false,
    })
}

/// What a comparison adds to the record: only what nobody knows of yet.
fn compare(loaded: &Loaded, list: &ScreeningList, entity: &Entity, held: &EntityScreening) -> Event {
    let (id, query): (EntityId, Digest) = (entity.card.id, entity.query());
    let look = Query { name: &entity.name, country: entity.country(), score_min: list.score_min };
    let mut seen = BTreeSet::new();
    let hits = loaded.index.find(look);
    let new = hits.into_iter().filter(|hit| !held.knows(hit.digest, query) && seen.insert(hit.digest));
    let mut found: Vec<_> = new
        .map(|hit| ScreeningMatch {
            entry: hit.digest,
            entry_id: hit.entry.id.clone(),
            source: hit.entry.source.clone(),
            score: hit.score,
            explanation: hit.explanation,
        })
        .collect();
    let room = FOUND_MAX.min(MATCHES_MAX.saturating_sub(held.matches.len()));
    let more = u32::try_from(found.len().saturating_sub(room)).unwrap_or(u32::MAX);
    found.truncate(room);
    Event::EntityScreened { entity: id, list: list.file, query, found, more }
}

/// Compares whoever is new, or everybody when the list is, for as long as the service runs.
pub(super) async fn screenings(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut seen = Seq::default();
    loop {
        let pause = match app.screen_batch(&mut seen).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => TICK,
            Err(error) => {
                tracing::warn!(%error, "entities are not compared with the screening list");
                RETRY
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
