//! The one writer: admit (pure) -> append + fsync -> apply (pure) -> publish -> answer.
//!
//! A thread of its own takes entries from a bounded mailbox and commits as many as are waiting with one append. Nothing
//! is visible before it is durable. Restrictions go in a batch of their own, so that a full disk cannot hold them up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use tokio::sync::{mpsc, oneshot};

use super::calls::Recorded;
use super::error::Error;
use super::failure::AppendFailure;
use super::group::Group;
use super::held::{self, Held};
use super::shared::{Guard, Shared};
use crate::domain::command::Command;
use crate::domain::enforce::Position;
use crate::domain::event::{Entry, Event};
use crate::domain::id::BootId;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::env::Clock;
use crate::feed::Feed;
use crate::journal::file::RESERVE_LEN;
use crate::journal::{Batch, Condition, Journal, Outcome, Refusal};
use crate::metrics::Stopwatch;

/// Entries that wait for the writer; when it is full, callers get LIMIT. Two group commits' worth.
const MAILBOX_LEN: usize = 2_048;
/// Entries in one group commit: more would only lengthen the wait of the first.
const GROUP_LEN_MAX: usize = 1_024;
/// Restrictions that are held in memory because they cannot be written; further ones are refused, while everything is
/// denied anyway.
const HELD_MAX: usize = 10_000;
/// A group commit of as many entries or more shows that several callers are waiting at once...
const BUSY_LEN: usize = 2;
/// ...and then the next one gathers for so long: a few large groups cost much less than many small ones. A caller that is
/// alone never waits for others, and a restriction ends the wait.
const GATHER: std::time::Duration = std::time::Duration::from_millis(1);
/// Entries that nobody waits for, until they are recorded with others; further ones are lost.
const NOTES_MAX: usize = 1_024;
/// How long a caller should wait when the mailbox is full.
const RETRY_AFTER_MS: u32 = 100;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The record, or the last one when it could not be written.
    pub position: Position,
    /// When it was durable, in milliseconds of the boot clock.
    pub boot_ms: u64,
    /// False: a restriction that could not be written. Until it is, nothing is permitted and no lease is granted.
    pub durable: bool,
}

enum Message {
    Record(Box<Job>),
    /// Entries of one caller that become one group, as far as the journal takes it.
    Records(Vec<Job>),
    /// Once a second: look at the clock, try again to write what is held.
    Tick,
    Stop,
}

/// Entries that nobody waits for. They go with the next group or the next tick, so that no restriction waits for their
/// sync, and no answer for their wake-up.
type Notes = Arc<Mutex<Vec<Entry>>>;

struct Job {
    entry: Entry,
    restricting: bool,
    reply: oneshot::Sender<Result<Committed, Error>>,
}

/// A handle on the writer.
pub(super) struct Engine {
    mailbox: mpsc::Sender<Message>,
    /// Wakes the writer while it gathers a group.
    gathering: Thread,
    notes: Notes,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer works with.
pub(super) struct Parts {
    /// Where records go.
    pub journal: Arc<dyn Journal>,
    /// Shared with readers.
    pub shared: Arc<Shared>,
    /// Who is told of each record.
    pub feed: Feed,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This run.
    pub boot: BootId,
}

impl Engine {
    /// Starts the writer.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(parts: Parts) -> std::io::Result<Self> {
        let (mailbox, inbox) = mpsc::channel(MAILBOX_LEN);
        let notes = Notes::default();
        let guard = Guard::new(Arc::clone(&parts.shared), parts.feed.clone());
        let writer =
            Writer { parts, nonce: 0, held: Vec::new(), after_held: None, notes: Arc::clone(&notes) };
        let run = move || {
            let _guard = guard;
            writer.run(inbox);
        };
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(run)?;
        let gathering = thread.thread().clone();
        Ok(Self { mailbox, gathering, notes, thread: Mutex::new(Some(thread)) })
    }

    /// Records an entry and waits until it is durable.
    ///
    /// # Errors
    /// Why it was not recorded.
    pub(super) async fn record(&self, entry: Entry, restricting: bool) -> Result<Committed, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Message::Record(Box::new(Job { entry, restricting, reply }));
        match self.mailbox.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) if restricting => {
                // A restriction waits for its place instead of being refused.
                self.mailbox.send(job).await.map_err(|_| draining())?;
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Error::Limit { retry_after_ms: RETRY_AFTER_MS });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(draining()),
        }
        if restricting {
            self.gathering.unpark();
        }
        let committed = answer.await.map_err(|_| draining())??;
        if committed.durable {
            Recorded::note(committed.position.seq);
        }
        Ok(committed)
    }

    /// Records entries together, none of which restricts, and waits until they are durable. Each has an outcome of its own.
    ///
    /// # Errors
    /// Why none was tried.
    pub(super) async fn record_all(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Result<Committed, Error>>, Error> {
        let (mut jobs, mut answers) = (Vec::new(), Vec::new());
        for entry in entries {
            let (reply, answer) = oneshot::channel();
            jobs.push(Job { entry, restricting: false, reply });
            answers.push(answer);
        }
        match self.mailbox.try_send(Message::Records(jobs)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Error::Limit { retry_after_ms: RETRY_AFTER_MS });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(draining()),
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(answer.await.map_err(|_| draining())?);
        }
        if let Some(Ok(last)) = outcomes.iter().rev().find(|outcome| outcome.is_ok()) {
            Recorded::note(last.position.seq);
        }
        Ok(outcomes)
    }

    /// Records an entry that nobody waits for, within the next second or so. When too many wait it is lost.
    pub(super) fn note(&self, entry: Entry) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX {
            notes.push(entry);
        }
    }

    /// Has the writer look at the clock and at what it holds.
    pub(super) fn tick(&self) {
        // A full mailbox means that the writer is about to look anyway.
        drop(self.mailbox.try_send(Message::Tick));
    }

    /// Commits what is waiting and ends the writer.
    pub(super) async fn stop(&self) {
        drop(self.mailbox.send(Message::Stop).await);
        self.gathering.unpark();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && tokio::task::spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::error!("the writer ended in a panic");
        }
    }
}

fn draining() -> Error {
    Error::Unavailable("the service is shutting down".to_owned())
}

struct Writer {
    parts: Parts,
    nonce: u64,
    held: Vec<Held>,
    /// The state as it will be when all of them are written; none: to be worked out.
    after_held: Option<State>,
    notes: Notes,
}

impl Writer {
    fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut is_busy = false;
        while let Some(first) = inbox.blocking_recv() {
            if is_busy && !matches!(&first, Message::Record(job) if job.restricting) {
                std::thread::park_timeout(GATHER);
            }
            let mut jobs = Vec::new();
            let (mut stopping, mut ticked) = (false, false);
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Record(job) => jobs.push(*job),
                    Message::Records(several) => jobs.extend(several),
                    Message::Tick => {
                        self.tick();
                        ticked = true;
                    }
                    Message::Stop => stopping = true,
                }
                next = if jobs.len() < GROUP_LEN_MAX { inbox.try_recv().ok() } else { None };
            }
            let (restricting, mut ordinary): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| job.restricting);
            is_busy = ordinary.len() >= BUSY_LEN;
            // Not with the start of a run, which may have to go where nothing else may.
            if self.parts.shared.has_started() && (ticked || stopping || !ordinary.is_empty()) {
                ordinary.extend(self.take_notes());
            }
            self.commit(restricting, true);
            self.commit(ordinary, false);
            if stopping {
                self.give_up_held();
                return;
            }
        }
    }

    fn take_notes(&self) -> impl Iterator<Item = Job> + use<> {
        let notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        notes.into_iter().map(|entry| Job { entry, restricting: false, reply: oneshot::channel().0 })
    }

    fn tick(&mut self) {
        let clock = &self.parts.clock;
        // Its outcome is kept in the watch itself and judged by every decision.
        drop(self.parts.shared.time.check(clock.as_ref()));
        self.write_held();
    }

    /// Commits jobs in groups that the journal takes. Nothing overtakes a restriction that is held and can be written, and
    /// nothing ordinary one that cannot.
    fn commit(&mut self, jobs: Vec<Job>, restricting: bool) {
        let mut jobs: VecDeque<Job> = jobs.into();
        if !jobs.is_empty() {
            self.write_held();
        }
        while !jobs.is_empty() {
            if !restricting && !self.held.is_empty() {
                let why = held::refusal(&self.held);
                for job in jobs.drain(..) {
                    drop(job.reply.send(Err(Error::Unavailable(why.clone()))));
                }
                return;
            }
            self.commit_group(&mut jobs, restricting);
        }
    }

    fn commit_group(&mut self, jobs: &mut VecDeque<Job>, restricting: bool) {
        let clock = Arc::clone(&self.parts.clock);
        let clock_fault = self.parts.shared.time.check(clock.as_ref()).err();
        let (wall, boot_ms) = (clock.now(), clock.boot_ms());
        let state = self.parts.shared.state.load_full();
        // Ordinary entries go one by one meanwhile: only what accepts the clock, by two, carries its time.
        let accepts = jobs.front().is_some_and(|job| !restricting && enacts_clock(&state, &job.entry));
        let doubtful = clock_fault.is_some();
        let now = self.time_of(doubtful && restricting, wall, boot_ms);
        let room = if doubtful && !restricting { 1 } else { usize::MAX };
        let mut group = Group::new(State::clone(&state), now);
        group.recorded = self.time_of(doubtful && !accepts, wall, boot_ms);
        let mut waiting = Vec::new();
        for _ in 0..room {
            let Some(job) = (if group.is_full() { None } else { jobs.pop_front() }) else { break };
            if let (Some(why), false) = (&clock_fault, restricting)
                && !is_of_clock(&group.state, &job.entry)
            {
                drop(job.reply.send(Err(Error::Unavailable(format!("the clock is not trusted: {why}")))));
                continue;
            }
            match group.add(&job.entry) {
                Ok(()) => waiting.push(job),
                Err(error) => drop(job.reply.send(Err(error))),
            }
        }
        if group.is_broken {
            for job in waiting {
                drop(
                    job.reply
                        .send(Err(Error::Internal("another entry of the group does not apply".to_owned()))),
                );
            }
            return;
        }
        if waiting.is_empty() {
            return;
        }
        let (seqs, accepts_clock) = (group.seqs.clone(), group.accepts_clock);
        match self.append(group, restricting) {
            Ok(()) => {
                if accepts_clock {
                    self.parts.shared.time.accept(wall, boot_ms);
                }
                let boot_ms = clock.boot_ms();
                let epoch = self.parts.shared.state.load().position.epoch;
                for (job, seq) in waiting.into_iter().zip(seqs) {
                    let position = Position { epoch, seq };
                    drop(job.reply.send(Ok(Committed { position, boot_ms, durable: true })));
                }
            }
            Err(failure) => self.fail(waiting, restricting, &failure),
        }
    }

    /// Writes a group, then makes it visible.
    fn append(&mut self, group: Group, restricting: bool) -> Result<(), AppendFailure> {
        self.nonce += 1;
        let Group { state, recorded, drafts, records, first, .. } = group;
        let time = recorded.max(self.parts.shared.state.load().time);
        let restricting =
            restricting || records.iter().all(|record| record.starts_run) && self.spares_reserve();
        let batch = Batch { writer: self.parts.boot, nonce: self.nonce, time, drafts, restricting };
        let since = Stopwatch::start();
        let outcome = self.parts.journal.append(first, &batch);
        match outcome {
            Outcome::Done(last) if last == state.position.seq => {
                self.parts.shared.metrics.appended(batch.drafts.len(), since);
                self.parts.shared.time.recorded(recorded);
                if records.iter().any(|record| record.starts_run) {
                    self.parts.shared.begin();
                }
                let state = Arc::new(state);
                self.parts.shared.state.store(Arc::clone(&state));
                self.parts.feed.publish(state, records.into_iter().map(|record| record.published).collect());
                Ok(())
            }
            Outcome::Done(last) => {
                Err(AppendFailure::Closed(format!("the journal is at {last} unexpectedly")))
            }
            Outcome::Refused(Refusal::NoSpace(space)) => Err(AppendFailure::NoSpace(space.free)),
            Outcome::Refused(Refusal::Invalid { why }) => Err(AppendFailure::TooLarge(why)),
            Outcome::Refused(refusal) => Err(AppendFailure::Closed(refusal.to_string())),
            Outcome::Unknown(why) => Err(AppendFailure::Closed(why)),
        }
    }

    /// May the start of a run be written where a restriction would be? Then a service under the low-water mark comes up,
    /// to decide and to restrict. Half of the reserve stays for restrictions: a crash loop cannot use up what stops need.
    fn spares_reserve(&self) -> bool {
        match self.parts.journal.condition() {
            Condition::Open(space) => space.reserve >= RESERVE_LEN / 2,
            Condition::Closed(_) => false,
        }
    }

    fn fail(&mut self, waiting: Vec<Job>, restricting: bool, failure: &AppendFailure) {
        self.parts.shared.metrics.not_appended(failure.reason());
        let closed = match failure {
            // With TooLarge the journal is well; what was asked for does not fit into it.
            AppendFailure::NoSpace(_) | AppendFailure::TooLarge(_) => false,
            AppendFailure::Closed(why) => {
                tracing::error!(why, "the journal cannot be written; nothing is permitted until a restart");
                true
            }
        };
        let is_lost = restricting && !matches!(failure, AppendFailure::TooLarge(_));
        if closed || is_lost {
            self.parts.shared.close();
            self.parts.feed.close("the record cannot be written");
        }
        for job in waiting {
            let answer = if is_lost { self.hold(job.entry, failure) } else { Err(failure.into()) };
            drop(job.reply.send(answer));
        }
    }

    /// Holds a restriction that could not be written. One that contradicts what is held already would never be writable.
    fn hold(&mut self, entry: Entry, failure: &AppendFailure) -> Result<Committed, Error> {
        let position = self.parts.shared.state.load().position;
        let boot_ms = self.parts.clock.boot_ms();
        let held = Committed { position, boot_ms, durable: false };
        if self.holds(&entry) {
            return Ok(held);
        }
        if self.held.len() >= HELD_MAX {
            return Err(failure.into());
        }
        let mut group = match self.after_held.take() {
            Some(state) => Group::new(state, self.believed_now()),
            None => {
                let mut group =
                    Group::new(State::clone(&self.parts.shared.state.load()), self.believed_now());
                for before in &self.held {
                    group.now = before.at;
                    if let Err(fault) = group.add(&before.entry)
                        && group.is_broken
                    {
                        return Err(fault);
                    }
                }
                group.now = self.believed_now();
                group
            }
        };
        let (admitted, at) = (group.add(&entry), group.now);
        if !group.is_broken {
            self.after_held = Some(group.state);
        }
        admitted?;
        self.held.push(Held::new(entry, at));
        Ok(held)
    }

    /// Is the same restriction held? Whoever repeats one because it was not durable must not have it wait twice.
    fn holds(&self, entry: &Entry) -> bool {
        let state = self.parts.shared.state.load();
        // A command that is signed anew is another event.
        let command = command_of(&state, entry);
        self.held
            .iter()
            .map(|held| &held.entry)
            .any(|held| held.event == entry.event || command.is_some() && command_of(&state, held) == command)
    }

    /// The time that a restriction carries if it is recorded now.
    fn believed_now(&self) -> Timestamp {
        let clock = self.parts.clock.as_ref();
        let doubtful = self.parts.shared.time.check(clock).is_err();
        self.time_of(doubtful, clock.now(), clock.boot_ms())
    }

    /// The time that records carry: the wall time, or under a clock that is not trusted the time that was last believed.
    fn time_of(&self, doubtful: bool, wall: Timestamp, boot_ms: u64) -> Timestamp {
        if doubtful { wall.min(self.parts.shared.time.believed(boot_ms)) } else { wall }
    }

    /// Rung 2 of a stop: what could not be written is tried again every second, one by one, so that what fits into the
    /// reserve gets there; until all of it is durable everything is denied.
    fn write_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let now = self.believed_now();
        self.after_held = None;
        let mut kept = Vec::new();
        let mut waiting = std::mem::take(&mut self.held).into_iter();
        for mut held in waiting.by_ref() {
            // It was answered already; its request id must not stand in the way of being written.
            held.entry.request = None;
            let mut group = Group::new(State::clone(&self.parts.shared.state.load()), now);
            group.now = held.at;
            match group.add(&held.entry) {
                // Somebody else's same restriction is on record.
                Err(Error::Exists(_)) => {}
                Err(error) => kept.push(self.found_contradicting(held, &error)),
                Ok(()) => {
                    if let Err(failure) = self.append(group, true) {
                        self.parts.shared.metrics.not_appended(failure.reason());
                        kept.push(held);
                        break;
                    }
                }
            }
        }
        kept.extend(waiting);
        self.held = kept;
        let is_open = match self.parts.journal.condition() {
            Condition::Open(_) => true,
            Condition::Closed(_) => false,
        };
        if self.held.is_empty() && is_open {
            self.parts.shared.reopen();
            self.parts.feed.reopen();
            tracing::warn!("restrictions that were held in memory are durable now");
        }
    }

    /// Said once, and not each second.
    fn found_contradicting(&self, held: Held, error: &Error) -> Held {
        let fault = Some(error.to_string());
        if held.fault != fault {
            let restriction = self.words(&held.entry);
            tracing::error!(
                restriction,
                %error,
                "a restriction that is held contradicts the record: nothing is permitted; restart, and enter it anew"
            );
        }
        Held { fault, ..held }
    }

    /// The last try before the process ends. What is lost then is named, to be entered again.
    fn give_up_held(&mut self) {
        self.write_held();
        for Held { entry, .. } in &self.held {
            let restriction = self.words(entry);
            tracing::error!(restriction, by = ?entry.by, "LOST: a restriction was never written; enter it again");
        }
    }

    /// A restriction in words, for who has to enter it again.
    fn words(&self, entry: &Entry) -> String {
        command_of(&self.parts.shared.state.load(), entry)
            .map_or_else(|| format!("{:?}", entry.event), |command| format!("{command:?}"))
    }
}

/// Is it about the clock, and so recorded also while the clock is not trusted?
fn is_of_clock(state: &State, entry: &Entry) -> bool {
    matches!(command_of(state, entry), Some(Command::AcceptClock(_)))
}

/// Does it accept the clock, and not only propose that?
fn enacts_clock(state: &State, entry: &Entry) -> bool {
    matches!(entry.event, Event::Enacted { .. }) && is_of_clock(state, entry)
}

/// The command that an entry carries out or proposes.
fn command_of(state: &State, entry: &Entry) -> Option<Command> {
    match &entry.event {
        Event::Enacted { signed, .. } | Event::Proposed { signed, .. } => {
            signed.mandate(&state.settings.trust_domain).ok().map(|mandate| mandate.command)
        }
        _ => None,
    }
}
