//! What a call must pass beside its caller's role: how often, how many at once, by when, and by which clock.
//!
//! A call above a limit costs its caller nothing but the refusal. One that its caller may not make has a budget of its own, so
//! that who is refused again and again is told so less and less, and nobody locks himself out of what he may do.
//! Restrictions pass everything but the rate of all calls together: a stop must go through, also for an officer who has listed
//! too much, whose clock is wrong, or who waits no longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::buckets::{Buckets, Budget, Key};
use super::methods::Class;
use super::parse::invalid;
use super::places::{Place, Places};
use super::status::{DOMAIN, status};
use crate::app::{App, Error};
use crate::wire::{CLIENT_TIME, client_time};

/// Buckets that are kept at once: as many as a thousand strangers a second leave behind, in some ten MiB.
const BUCKETS_MAX: usize = 100_000;
/// Pages of one principal that are made at once: a few terminals and an export. Each may read from disk.
const LISTS_EACH_MAX: usize = 8;
/// Pages that are made at once: each may hold a thread, of which there are 512, and some MiB.
const LISTS_ALL_MAX: usize = 64;
/// Streams of one principal at once: the gates and workers of one machine, which share its name.
const STREAMS_EACH_MAX: usize = 1_024;
/// Streams of all principals at once: two for each connection that there may be.
pub const STREAMS_ALL_MAX: usize = 40_960;
/// Streams of one network without a certificate, or of one subject: a balancer that watches health, and its spare.
const WATCHES_EACH_MAX: usize = 16;
/// Streams of everybody without a principal's certificate.
const WATCHES_ALL_MAX: usize = 1_024;
/// How far a caller's clock may be off: what Kerberos takes (RFC 4120 section 3.1.3). A second is enough for leases, which
/// gateways check themselves; this is for who signs mandates and asks for certificates by a clock that is simply wrong.
pub const CLIENT_SKEW_MAX_MS: i64 = 300_000;
/// The longest headers of one call: ours are a few hundred bytes, those of Envoy and its tracing some thousand.
const HEADERS_LEN_MAX: usize = 16 << 10;
/// What a header counts beside its name and value (RFC 9113 section 10.5.1).
const HEADER_EXTRA: usize = 32;
/// Says when the answer must be there (gRPC over HTTP/2).
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// What is kept of a caller's deadline for the way back: a tenth, and no more than this.
const WAY_BACK_MAX: Duration = Duration::from_millis(10);

/// How many calls one caller may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second, in the long run.
    pub per_s: u32,
    /// Calls at once.
    pub burst: u32,
}

impl Rate {
    /// As many at once as in a second: a client that starts is not refused its first calls.
    pub const fn per_s(per_s: u32) -> Self {
        Self { per_s, burst: per_s }
    }
}

/// How many calls one caller may make, of all and of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// All calls of one principal.
    pub principals: Rate,
    /// All calls of one address without a certificate, of one subject, or of one certificate that is not accepted; of a
    /// principal those that it may not make.
    pub addresses: Rate,
    /// Reads of one principal.
    pub reads: Rate,
    /// Pages of one principal.
    pub lists: Rate,
    /// Changes of one principal.
    pub mutations: Rate,
    /// Mandates of one officer.
    pub mandates: Rate,
    /// Streams that one principal begins.
    pub streams: Rate,
}

impl Rates {
    /// Of principals. Decisions are as many as users have, and restrictions must go through: both are bounded by all calls.
    const fn of_class(&self, class: Class) -> Option<Rate> {
        match class {
            Class::Read => Some(self.reads),
            Class::List => Some(self.lists),
            Class::Mutation => Some(self.mutations),
            Class::Mandate => Some(self.mandates),
            Class::Stream => Some(self.streams),
            Class::Probe | Class::Decision | Class::Restriction => None,
        }
    }
}

/// All limits, with what is used of them.
pub(super) struct Limits {
    rates: Rates,
    buckets: Mutex<Buckets>,
    lists: Arc<Places>,
    streams: Arc<Places>,
    watches: Arc<Places>,
}

/// What a call that passed holds and has.
#[derive(Debug)]
pub(super) struct Passed {
    /// Given back when its answer is on its way; of a stream, when that ends.
    pub(super) place: Option<Place>,
    /// In how long it must be answered.
    pub(super) time_left: Duration,
}

impl Limits {
    pub(super) fn new(rates: Rates, streams_max: usize) -> Self {
        let places = |each, all| Arc::new(Places::new(each, all));
        Self {
            rates,
            buckets: Mutex::new(Buckets::new(BUCKETS_MAX)),
            lists: places(LISTS_EACH_MAX, LISTS_ALL_MAX),
            streams: places(STREAMS_EACH_MAX, streams_max),
            watches: places(WATCHES_EACH_MAX, WATCHES_ALL_MAX),
        }
    }

    /// Lets a call through or says why not.
    pub(super) fn pass(
        &self,
        app: &App,
        key: Key,
        class: Class,
        headers: &HeaderMap,
    ) -> Result<Passed, Status> {
        self.take(app, &key, class).map_err(status)?;
        check_clock(app, class, headers)?;
        let time_left = time_left(class, headers)?;
        let place = self.place(key, class).map_err(status)?;
        Ok(Passed { place, time_left })
    }

    fn take(&self, app: &App, key: &Key, class: Class) -> Result<(), Error> {
        if class == Class::Probe {
            return Ok(());
        }
        let now_ms = app.clock().boot_ms();
        let (all, of_class) = match key {
            Key::Principal(_) => (self.rates.principals, self.rates.of_class(class)),
            Key::Subject(_) | Key::Refused(..) | Key::Network(_) => (self.rates.addresses, None),
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // The narrower one first: who is over it has not used up what others of its calls need.
        if let Some(rate) = of_class {
            buckets.take((key.clone(), Budget::Of(class)), rate, now_ms)?;
        }
        buckets.take((key.clone(), Budget::All), all, now_ms)
    }

    /// What a call costs that its caller may not make: of a principal nothing of what it needs for others, of anybody else as
    /// much as one that it may make.
    pub(super) fn refuse(&self, app: &App, key: Key) -> Result<(), Error> {
        let budget = match key {
            Key::Principal(_) => Budget::Refused,
            Key::Subject(_) | Key::Refused(..) | Key::Network(_) => Budget::All,
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take((key, budget), self.rates.addresses, app.clock().boot_ms())
    }

    fn place(&self, key: Key, class: Class) -> Result<Option<Place>, Error> {
        let places = match (class, &key) {
            (Class::List, _) => &self.lists,
            (Class::Stream, Key::Principal(_)) => &self.streams,
            (Class::Stream, Key::Subject(_) | Key::Refused(..) | Key::Network(_)) => &self.watches,
            (
                Class::Probe
                | Class::Read
                | Class::Decision
                | Class::Mutation
                | Class::Mandate
                | Class::Restriction,
                _,
            ) => return Ok(None),
        };
        places.enter(key).map(Some)
    }
}

/// Refuses a call with headers that are too long. It is refused here, and not by HTTP/2, so that it is in the audit.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), Status> {
    let len: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_EXTRA).sum();
    if len > HEADERS_LEN_MAX {
        return Err(invalid("headers", &format!("{len} bytes, and {HEADERS_LEN_MAX} are the most")));
    }
    Ok(())
}

/// Refuses who says a time that is far from ours. Not while our own clock is not trusted: then officers, whose clocks are
/// right, must be able to say so.
fn check_clock(app: &App, class: Class, headers: &HeaderMap) -> Result<(), Status> {
    let Some(value) = headers.get(CLIENT_TIME) else { return Ok(()) };
    let theirs = value.to_str().ok().and_then(client_time);
    let theirs = theirs.ok_or_else(|| invalid(CLIENT_TIME, "milliseconds since 1970 are needed"))?;
    let Some(now) = app.trusted_now() else { return Ok(()) };
    let skew_ms = theirs.millis().saturating_sub(now.millis());
    app.metrics().client_skew(skew_ms);
    if skew_ms.abs() <= CLIENT_SKEW_MAX_MS || matches!(class, Class::Restriction | Class::Probe) {
        return Ok(());
    }
    let (seconds, word) = (skew_ms.unsigned_abs() / 1_000, if skew_ms > 0 { "ahead of" } else { "behind" });
    let text = format!("your clock is {seconds} s {word} the service's ({now}); set it right and call again");
    let facts = [("skew_ms".to_owned(), skew_ms.to_string()), ("server_time".to_owned(), now.to_string())];
    let details = ErrorDetails::with_error_info("CLOCK_SKEW", DOMAIN, HashMap::from(facts));
    Err(Status::with_error_details(Code::FailedPrecondition, text, details))
}

/// How long this call may take; a refusal when its caller will not wait long enough for what it asks.
fn time_left(class: Class, headers: &HeaderMap) -> Result<Duration, Status> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(class.time_max()) };
    let wanted = value.to_str().ok().and_then(timeout);
    let wanted =
        wanted.ok_or_else(|| invalid(GRPC_TIMEOUT, "at most 8 digits and one of HMSmun are needed"))?;
    let left = wanted.saturating_sub(WAY_BACK_MAX.min(wanted / 10));
    if left < class.time_min() {
        return Err(status(Error::Deadline));
    }
    Ok(left.min(class.time_max()))
}

/// A timeout as gRPC writes it: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(class: Class, text: &'static str) -> Result<Duration, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, text.parse().unwrap());
        time_left(class, &headers).map_err(|status| status.code())
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, ms) in [("1H", 3_600_000), ("2M", 120_000), ("3S", 3_000), ("40m", 40), ("5000u", 5)] {
            assert_eq!(timeout(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for text in ["", "1", "S", "1s", "123456789S", "-1S", "+1S", "1.5S", " 1S", "1SS", "1\u{fc}"] {
            assert_eq!(timeout(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_in_time_is_refused_and_nothing_takes_longer_than_its_class() {
        assert_eq!(left(Class::Mutation, "99m"), Err(Code::DeadlineExceeded));
        assert_eq!(left(Class::Mutation, "109m"), Err(Code::DeadlineExceeded));
        assert_eq!(left(Class::Mutation, "110m"), Ok(Duration::from_millis(100)));
        assert_eq!(left(Class::Decision, "20m"), Ok(Duration::from_millis(18)));
        assert_eq!(left(Class::Decision, "4m"), Err(Code::DeadlineExceeded));
        assert_eq!(left(Class::Read, "1H"), Ok(Duration::from_secs(10)));
        assert_eq!(left(Class::Restriction, "0m"), Ok(Duration::ZERO), "a stop is begun all the same");
        assert_eq!(left(Class::Read, "soon"), Err(Code::InvalidArgument));
        assert_eq!(time_left(Class::List, &HeaderMap::new()).unwrap(), Class::List.time_max());
    }
}
