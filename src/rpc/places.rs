//! Places for what goes on for a while: bounded for each caller, so that none takes all of them, and for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

use super::buckets::Key;
use super::status::status;
use crate::app::Error;

/// How long who asks for one more should wait.
const RETRY_AFTER_MS: u32 = 1_000;

/// The places that are taken, by caller.
#[derive(Debug)]
pub(super) struct Places {
    each_max: usize,
    all_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_caller: HashMap<Key, usize>,
    all: usize,
}

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let left = taken.by_caller.get_mut(&self.caller).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            taken.by_caller.remove(&self.caller);
        }
    }
}

/// The place of a call, which whoever carries out a part of it elsewhere holds as well.
#[derive(Debug, Clone)]
pub(super) struct Held {
    _place: Arc<Place>,
}

impl From<Place> for Held {
    fn from(place: Place) -> Self {
        Self { _place: Arc::new(place) }
    }
}

/// Makes a page beside the threads that answer. The thread goes on when the caller is gone, and so does the place: who resets
/// a call and makes another has two.
pub(super) async fn make_page<T: Send + 'static>(
    held: Option<Held>,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let made = tokio::task::spawn_blocking(move || {
        let _held = held;
        make()
    });
    made.await.map_err(|e| status(Error::Internal(e.to_string())))
}

impl Places {
    /// So many for each caller, and for all together.
    pub(super) fn new(each_max: usize, all_max: usize) -> Self {
        Self { each_max, all_max, taken: Mutex::default() }
    }

    /// Takes one, now or not at all.
    pub(super) fn enter(self: &Arc<Self>, caller: impl Into<Key>) -> Result<Place, Error> {
        let caller = caller.into();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_caller.get(&caller).copied().unwrap_or_default();
        if own >= self.each_max || taken.all >= self.all_max {
            return Err(Error::Limit { retry_after_ms: RETRY_AFTER_MS });
        }
        taken.by_caller.insert(caller.clone(), own + 1);
        taken.all += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), caller })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PrincipalId;

    #[test]
    fn places_are_bounded_for_one_caller_and_for_all_and_come_back() {
        let places = Arc::new(Places::new(8, 64));
        let caller = |n: usize| -> PrincipalId { format!("officer-{n}").parse().unwrap() };
        let mut held: Vec<_> = (0..8).map(|_| places.enter(caller(0)).unwrap()).collect();
        assert!(matches!(places.enter(caller(0)), Err(Error::Limit { .. })));
        for n in 1..8 {
            held.extend((0..8).map(|_| places.enter(caller(n)).unwrap()));
        }
        assert!(matches!(places.enter(caller(99)), Err(Error::Limit { .. })), "all places are taken");
        held.pop();
        held.push(places.enter(caller(99)).unwrap());
        drop(held);
        assert!(places.taken.lock().unwrap().by_caller.is_empty(), "nobody is remembered who holds none");
    }

    #[tokio::test]
    async fn a_page_has_its_place_until_it_is_made_also_when_its_caller_is_gone() {
        let places = Arc::new(Places::new(1, 1));
        let caller: PrincipalId = "officer-1".parse().unwrap();
        let held = Held::from(places.enter(caller.clone()).unwrap());
        let (begin, begun) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let page = tokio::spawn(make_page(Some(held), move || {
            begin.send(()).unwrap();
            gone.recv().unwrap_err();
        }));
        tokio::task::yield_now().await;
        begun.recv().unwrap();
        page.abort();
        assert!(page.await.unwrap_err().is_cancelled());
        assert!(places.enter(caller.clone()).is_err(), "the page is still being made");
        drop(go);
        while places.enter(caller.clone()).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
