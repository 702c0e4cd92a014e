//! A token that several threads use, each with a session of its own, and that is connected to anew when it was away.
//!
//! Whoever asks waits no longer than the deadline, whatever the token does. A thread that hangs in the vendor's library is
//! lost until it returns; the others go on. A refused PIN ends it: nothing is tried again before a restart.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use cryptoki::session::Session;

use super::fault::TokenFault;
use super::link::{Link, TokenSettings};
use super::work::{Done, Work, carry_out};

/// How much may wait for the token: what a second of a fast one does. What is above is refused at once.
const WAITING_MAX: usize = 1_024;
/// How often a token that is away is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How often one thing is tried: a second time after a connection that was made anew. The bytes that are signed are the
/// same, so a signature that was made and lost does no harm.
const TRIES: u32 = 2;

/// How it stands with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Open,
    Gone(String),
    Locked(String),
}

struct Job {
    work: Work,
    answer: SyncSender<Result<Done, TokenFault>>,
    /// Whoever asked waits no more: nothing is signed for nobody.
    is_given_up: Arc<AtomicBool>,
}

/// Counts connections: a session of an earlier one is no session any more.
type Generation = u64;

struct Shared {
    settings: TokenSettings,
    /// Read while in a call, written while the module is taken down and up.
    link: RwLock<(Generation, Option<Link>)>,
    standing: Mutex<Standing>,
}

/// A token, open until it is dropped.
pub(super) struct Token {
    shared: Arc<Shared>,
    /// None: it is being dropped.
    jobs: Option<SyncSender<Job>>,
    /// Without a sender when all threads have ended.
    ended: Mutex<Receiver<Infallible>>,
}

impl Drop for Token {
    /// Waits for its threads, no longer than the deadline: one that closes its session while the process ends would meet the
    /// vendor's library half taken down.
    fn drop(&mut self) {
        self.jobs = None;
        let deadline = Duration::from_millis(u64::from(self.shared.settings.timeout_ms));
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a thread hangs in the token's library");
        }
    }
}

impl Token {
    /// Connects.
    ///
    /// # Errors
    /// The token is not there, or its PIN was refused: it was tried once.
    pub(super) fn open(settings: TokenSettings) -> Result<Self, TokenFault> {
        let threads = settings.sessions.max(1);
        let link = Link::open(&settings)?;
        let shared = Arc::new(Shared {
            settings,
            link: RwLock::new((1, Some(link))),
            standing: Mutex::new(Standing::Open),
        });
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let (alive, ended) = sync_channel(1);
        for _ in 0..threads {
            let (shared, waiting, alive) = (Arc::clone(&shared), Arc::clone(&waiting), alive.clone());
            let run = move || {
                serve(&shared, &waiting);
                drop((shared, waiting, alive));
            };
            std::thread::Builder::new()
                .name("pkcs11".to_owned())
                .spawn(run)
                .map_err(|e| TokenFault::Gone(format!("no thread for the token: {e}")))?;
        }
        Ok(Self { shared, jobs: Some(jobs), ended: Mutex::new(ended) })
    }

    /// Why nothing can be asked of it now, if so.
    pub(super) fn check(&self) -> Result<(), TokenFault> {
        match &*self.shared.standing() {
            Standing::Open => Ok(()),
            Standing::Gone(why) => Err(TokenFault::Gone(why.clone())),
            Standing::Locked(why) => Err(TokenFault::Locked(why.clone())),
        }
    }

    /// Has something done, within the deadline.
    pub(super) fn ask(&self, work: Work) -> Result<Done, TokenFault> {
        self.check()?;
        let (answer, answered) = sync_channel(1);
        let is_given_up = Arc::new(AtomicBool::new(false));
        let job = Job { work, answer, is_given_up: Arc::clone(&is_given_up) };
        let Some(jobs) = &self.jobs else { return Err(TokenFault::Gone("it is being closed".to_owned())) };
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => TokenFault::Gone(format!("{WAITING_MAX} calls wait for it already")),
            TrySendError::Disconnected(_) => TokenFault::Gone("its threads have ended".to_owned()),
        })?;
        let deadline = Duration::from_millis(u64::from(self.shared.settings.timeout_ms));
        answered.recv_timeout(deadline).unwrap_or_else(|_| {
            is_given_up.store(true, Ordering::Relaxed);
            Err(TokenFault::Gone(format!("no answer in {} ms", self.shared.settings.timeout_ms)))
        })
    }
}

impl Shared {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one thing, a second time if the connection had to be made anew.
    fn carry_out(&self, own: &mut Option<(Generation, Session)>, work: &Work) -> Result<Done, TokenFault> {
        let mut last = TokenFault::Gone("it was not tried".to_owned());
        for _ in 0..TRIES {
            let (generation, outcome) = self.try_once(own, work);
            match outcome {
                Err(TokenFault::Gone(why)) => {
                    last = TokenFault::Gone(why.clone());
                    self.connect(generation, &why)?;
                }
                done => return done,
            }
        }
        Err(last)
    }

    fn try_once(
        &self,
        own: &mut Option<(Generation, Session)>,
        work: &Work,
    ) -> (Generation, Result<Done, TokenFault>) {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        let (generation, Some(link)) = &*link else {
            return (link.0, Err(TokenFault::Gone("it is not connected".to_owned())));
        };
        let held = own.take().filter(|(of, _)| of == generation);
        let session = match held {
            Some((_, session)) => session,
            None => match link.session() {
                Ok(session) => session,
                Err(fault) => return (*generation, Err(fault)),
            },
        };
        let outcome = carry_out(&session, work);
        *own = Some((*generation, session));
        (*generation, outcome)
    }

    /// Connects anew, unless somebody did since that generation.
    fn connect(&self, since: Generation, why: &str) -> Result<(), TokenFault> {
        let mut link = self.link.write().unwrap_or_else(PoisonError::into_inner);
        if let Standing::Locked(why) = &*self.standing() {
            return Err(TokenFault::Locked(why.clone()));
        }
        if link.0 != since {
            return if link.1.is_some() { Ok(()) } else { Err(TokenFault::Gone("it is away".to_owned())) };
        }
        link.0 += 1;
        if let Some(last) = link.1.take() {
            tracing::warn!(token = %self.settings.token, why, "the token is connected to anew");
            last.close();
        }
        match Link::open(&self.settings) {
            Ok(new) => {
                link.1 = Some(new);
                let before = std::mem::replace(&mut *self.standing(), Standing::Open);
                if before != Standing::Open {
                    tracing::info!(token = %self.settings.token, "the token is back");
                }
                Ok(())
            }
            Err(fault) => {
                self.stand_by(&fault);
                Err(fault)
            }
        }
    }

    /// Says once what is wrong.
    fn stand_by(&self, fault: &TokenFault) {
        let next = match fault {
            TokenFault::Locked(why) => Standing::Locked(why.clone()),
            TokenFault::Gone(why) | TokenFault::Refused(why) | TokenFault::Key(why) => {
                Standing::Gone(why.clone())
            }
        };
        let mut standing = self.standing();
        let is_news = std::mem::discriminant(&*standing) != std::mem::discriminant(&next);
        *standing = next;
        drop(standing);
        if is_news {
            tracing::error!(token = %self.settings.token, %fault, "nothing is signed with the keys on the token");
        }
    }

    /// Looks whether a token that was away is back.
    fn look(&self) {
        let is_gone = matches!(&*self.standing(), Standing::Gone(_));
        if is_gone {
            let generation = self.link.read().unwrap_or_else(PoisonError::into_inner).0;
            // What comes of it is in the standing.
            let _ = self.connect(generation, "it was away");
        }
    }
}

/// What one thread does until the token is dropped.
fn serve(shared: &Shared, waiting: &Mutex<Receiver<Job>>) {
    let mut own = None;
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK);
        match next {
            Ok(job) if job.is_given_up.load(Ordering::Relaxed) => {}
            Ok(job) => {
                let outcome = shared.carry_out(&mut own, &job.work);
                // Whoever asked may have gone.
                let _ = job.answer.send(outcome);
            }
            Err(RecvTimeoutError::Timeout) => shared.look(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
