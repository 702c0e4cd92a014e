//! Places for what goes on for a while: bounded for each caller, so that none takes all of them, and for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::buckets::Key;
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
}
