//! What the service does by itself: watch the clock, keep blocks of ordinals ahead, note instants, take snapshots.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::automation::Automation;
use super::error::Error;
use super::screening::screenings;
use super::view::Follower;
use super::{App, Caller, store};
use crate::domain::announcement::ANNOUNCED_MAX;
use crate::domain::certificate::BLOCK_LEN;
use crate::domain::enforce::ParticipantId;
use crate::domain::event::Event;
use crate::domain::id::{Ordinal, Seq};
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// A snapshot after this many records: recovery then applies at most that many.
const SNAPSHOT_RECORDS: u64 = 250_000;
/// And one a day when anything was recorded.
const SNAPSHOT_MS: i64 = 86_400_000;
/// How often the ends of roots and of their lists are looked at.
const ROOTS_MS: i64 = 86_400_000;
/// Markers in one tick: as many as there can be announcements.
const MARKERS_MAX: usize = ANNOUNCED_MAX;
/// The most blocks that are prepared at once: a day's worth of the fastest issuance is far less.
const BLOCKS_AHEAD_MAX: u64 = 1_000;

/// The tasks, ended and joined by [`stop`](Upkeep::stop).
pub struct Upkeep {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    follower: Option<Follower>,
}

impl Upkeep {
    /// Starts them.
    pub fn start(app: &Arc<App>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(screenings(Arc::clone(app), stopped.clone())),
            tokio::spawn(ticks(Arc::clone(app), stopped.clone())),
            tokio::spawn(rotations(Arc::clone(app), stopped.clone())),
            tokio::spawn(blocks(Arc::clone(app), stopped.clone())),
            tokio::spawn(calls(Arc::clone(app), stopped.clone())),
            tokio::spawn(decisions(Arc::clone(app), stopped)),
        ];
        let started = Follower::start(Arc::clone(&app.journal), Arc::clone(&app.certificates));
        let follower = started.map_err(|e| tracing::error!(%e, "no thread for the certificate index")).ok();
        Self { stop, tasks, follower }
    }

    /// Ends them and waits until they have.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if task.await.is_err() {
                tracing::error!("an upkeep task ended in a panic");
            }
        }
        if let Some(follower) = self.follower
            && tokio::task::spawn_blocking(move || follower.stop()).await.is_err()
        {
            tracing::error!("the view thread was not joined");
        }
    }
}

async fn ticks(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut snapshot_at = (app.state().position.seq, app.now());
    let mut instant_seen = app.now();
    let mut roots_seen = app.now();
    app.warn_of_roots();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        app.engine.tick();
        app.close_lapsed().await;
        app.close_recoveries().await;
        let now = app.now();
        let state = app.state();
        if let Some(at) = state.bundle().next_instant_after(instant_seen)
            && at <= now
        {
            instant_seen = at;
            app.note(Event::InstantPassed(at));
        }
        if now.millis() - roots_seen.millis() > ROOTS_MS {
            roots_seen = now;
            app.warn_of_roots();
        }
        app.note_passed(&state, now).await;
        app.remove_decisions().await;
        let records = state.position.seq.0 - snapshot_at.0.0;
        let due = records > 0 && now.millis() - snapshot_at.1.millis() > SNAPSHOT_MS;
        if records >= SNAPSHOT_RECORDS || due {
            snapshot_at = (state.position.seq, now);
            app.take_snapshot().await;
        }
    }
}

/// Rotates by itself what officers permitted.
async fn rotations(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut automation = Automation::default();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        app.rotate(&mut automation).await;
    }
}

/// Writes the audit of calls.
async fn calls(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let writing = Arc::clone(&app);
        if tokio::task::spawn_blocking(move || writing.write_calls(false)).await.is_err() {
            tracing::error!("writing the audit of calls ended in a panic");
        }
    }
}

/// Writes the record of decisions.
async fn decisions(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = app.decisions_due() => {}
        }
        let writing = Arc::clone(&app);
        if tokio::task::spawn_blocking(move || writing.write_decisions()).await.is_err() {
            tracing::error!("writing the record of decisions ended in a panic");
        }
    }
}

/// Announces the next block at half use, waits until every gateway that can hold a lease knows of it, and opens it.
async fn blocks(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut minute = (app.now(), app.ordinals.next());
    loop {
        let prepared = app.prepare_blocks(&mut minute).await;
        if let Err(error) = &prepared {
            tracing::warn!(%error, "the next block of ordinals is not open yet");
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = app.ordinals.low(), if prepared.is_ok() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

impl App {
    /// Records something that nobody waits for and that changes nothing. A full disk loses it.
    pub(super) fn note(&self, event: Event) {
        self.engine.note(Caller::default().entry(event));
    }

    /// Records that instants of announced revocations passed. What cannot be recorded now is tried again: nothing waits for it.
    async fn note_passed(&self, state: &State, now: Timestamp) {
        for id in state.unnoted(now).take(MARKERS_MAX) {
            match self.record(Caller::default().entry(Event::AnnouncementPassed(id))).await {
                Ok(_) => {
                    tracing::info!(announcement.id = %id, "the instant of an announced revocation passed")
                }
                Err(error) => {
                    tracing::debug!(announcement.id = %id, %error, "its instant passed, which is not on record yet");
                    return;
                }
            }
        }
    }

    async fn prepare_blocks(&self, minute: &mut (Timestamp, Ordinal)) -> Result<(), Error> {
        let state = self.state();
        if !self.shared.is_writable() {
            return Ok(());
        }
        let next = self.ordinals.next();
        let announced = state.enforcement.ceiling;
        if announced > state.opened {
            // Announced before a restart, or just now: wait for the gateways.
            return self.open_block(announced).await;
        }
        if !self.ordinals.is_low(state.opened) {
            return Ok(());
        }
        // As many blocks as the last minute used, so that gateways that cannot be reached delay no issuance.
        let now = self.now();
        let used = next.0.saturating_sub(minute.1.0);
        if now.millis() - minute.0.millis() > 60_000 {
            *minute = (now, next);
        }
        let ahead = (1 + used / BLOCK_LEN).min(BLOCKS_AHEAD_MAX);
        let ceiling = Ordinal(announced.0 + ahead * BLOCK_LEN);
        self.record(Caller::default().entry(Event::CeilingAnnounced(ceiling))).await?;
        self.open_block(ceiling).await
    }

    async fn open_block(&self, ceiling: Ordinal) -> Result<(), Error> {
        let position = self.state().position;
        let report = self.feed.wait_enforced(position, self.clock.boot_ms(), None).await;
        // Without a deadline the wait ends enforced, at the bound, or with the service. An answer of this server that
        // somebody does not read is no gateway: it cannot meet a certificate of a block that is not open yet.
        if self.feed.is_draining()
            || report.pending.iter().any(|participant| *participant != ParticipantId::Server)
        {
            return Err(Error::Unavailable("gateways have not taken the announcement".to_owned()));
        }
        self.record(Caller::default().entry(Event::BlockOpened(ceiling))).await?;
        Ok(())
    }

    /// Stores a snapshot of the current state and records its digest. A failure is logged; the journal is the truth.
    pub async fn take_snapshot(&self) {
        let (state, head) = (self.state(), self.journal.head());
        if head.seq != state.position.seq {
            return;
        }
        let snapshots = self.snapshots.clone();
        let at: Seq = state.position.seq;
        let stored =
            tokio::task::spawn_blocking(move || store::snapshot(&snapshots, &state, head.root)).await;
        let (id, hash) = match stored {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                tracing::warn!(%error, "no snapshot was stored");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "taking a snapshot ended in a panic");
                return;
            }
        };
        let recorded = match self.heads.sign_snapshot(at, &hash) {
            Ok(signature) => {
                let event = Event::SnapshotTaken { at, hash, signature };
                self.record(Caller::default().entry(event)).await.map(|_| ())
            }
            Err(error) => Err(error),
        };
        // One that the record does not name is never used; it must not push out one that is.
        let snapshots = self.snapshots.clone();
        let tidied = tokio::task::spawn_blocking(move || match recorded {
            Ok(()) => snapshots.prune(),
            Err(error) => {
                tracing::warn!(%error, "a snapshot was not recorded, and is removed");
                snapshots.remove(&id)
            }
        });
        match tidied.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "snapshots were not tidied up"),
            Err(error) => tracing::error!(%error, "tidying up snapshots ended in a panic"),
        }
    }
}
