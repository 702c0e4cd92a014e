//! Evaluate and Verify: no writer, no disk. One state is read, and the same `decide` runs as at a gateway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::App;
use super::decided::{Asking, Shown};
use super::error::Error;
use crate::domain::certificate::{Certificate, Facts, SystemFacts};
use crate::domain::decision::{CredentialFault, Decision, Denial, StateFault};
use crate::domain::enforce::{Chain, Position, Request, decide};
use crate::domain::id::{DecisionId, Digest, EntityId};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::domain::state::State;
use crate::domain::time::{Now, Timestamp};
use crate::feed::Guard;
use crate::x509::{CertificateFault, chain, check_validity};

/// How long a permit may be used before asking again: 250 ms, as "enforced at T" promises.
const PERMIT_USE_MS: i64 = 250;
/// Certificates whose signature was verified and whose facts were parsed; about 1 KiB each.
const CACHE_LEN_MAX: usize = 50_000;

/// A decision with its circumstances. Dropping it says that the answer has left.
pub struct Evaluation {
    /// The decision.
    pub answer: Answer,
    /// Held until the answer is handed to the transport: barriers wait for it.
    pub in_flight: Guard,
}

/// A decision with the state that it was made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its name in the record of decisions; none: there was no room to record it, and so it is a denial.
    pub id: Option<DecisionId>,
    /// The decision.
    pub decision: Decision,
    /// The state that was judged.
    pub as_of: Position,
    /// Until when a permit may be used.
    pub good_until: Timestamp,
    /// What is wrong with the certificate in detail, when the parser says.
    pub certificate_fault: Option<CertificateFault>,
}

/// What a certificate is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Its name in the record of decisions; none: there was no room to record it.
    pub id: Option<DecisionId>,
    /// What is wrong with it; none: it is good.
    pub fault: Option<(&'static str, String)>,
    /// The state that was judged.
    pub as_of: Position,
    /// The entity that it states, when it is a person's or workload's that can be read.
    pub of: Option<EntityId>,
}

/// Verified certificates by the hash of their exact bytes. Only facts that cannot change are kept; time, stops and
/// revocation are judged on every call.
#[derive(Default)]
pub(super) struct CertificateCache(Mutex<HashMap<Digest, Arc<Certificate>>>);

impl CertificateCache {
    fn get(&self, hash: &Digest) -> Option<Arc<Certificate>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(hash).cloned()
    }

    fn put(&self, certificate: &Arc<Certificate>) {
        let mut cache = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.len() >= CACHE_LEN_MAX {
            cache.clear();
        }
        cache.insert(certificate.hash, Arc::clone(certificate));
    }
}

impl App {
    /// Reads a certificate strictly and verifies its signature. Says nothing of time or revocation.
    ///
    /// # Errors
    /// Why it is not a certificate of this service.
    pub fn read_certificate(&self, der: &[u8]) -> Result<Arc<Certificate>, CertificateFault> {
        let hash = Digest::of(der);
        if let Some(certificate) = self.verified.get(&hash) {
            return Ok(certificate);
        }
        let certificate = Arc::new(chain::read(der, &self.profile, &self.known_authorities())?);
        self.verified.put(&certificate);
        Ok(certificate)
    }

    /// Decides an access, and records it. Waits a moment when there is no room to record it; then it is denied.
    ///
    /// # Errors
    /// Only when this server has not reached the position that was asked for.
    pub async fn evaluate(
        &self,
        der: &[u8],
        request: &Request<'_>,
        at_least: Option<Position>,
        asking: Asking,
    ) -> Result<Evaluation, Error> {
        let parsed = self.read_certificate(der);
        // Before anything is read: what is decided is not kept waiting.
        let place = self.record.reserve().await;
        // Entered as the state is read, so that a barrier at a later record waits for this answer.
        let (state, in_flight) = self.feed.in_flight().enter(|| self.state());
        is_fresh(&state, at_least)?;
        let now = self.clock.now();
        let certificate = parsed.as_deref().ok();
        let fault_of_state = match &place {
            Some(_) => self.state_fault(),
            // What cannot be recorded is not permitted.
            None => Some(StateFault::Unavailable),
        };
        let decision = judged(&state, fault_of_state, certificate, request, now);
        if let Some(certificate) = certificate
            && decision.denials.contains(&Denial::CredentialStale)
        {
            // Its cut-off was committed with the change: whoever still shows it has a view that is old, or a copy.
            tracing::warn!(
                cert.ordinal = certificate.ordinal.0,
                seq = state.position.seq.0,
                "a certificate states what the record no longer does"
            );
        }
        self.metrics().decided(decision.access.as_str(), decision.code());
        let id = self.new_decision();
        let answer = Answer {
            id: place.is_some().then_some(id),
            decision,
            as_of: state.position,
            good_until: good_until(certificate, now),
            certificate_fault: parsed.as_ref().err().copied(),
        };
        let shown = Shown {
            id,
            at: now,
            hash: certificate.map_or_else(|| Digest::of(der), |known| known.hash),
            certificate,
            bundle: state.bundle().hash(),
            as_of: state.position,
        };
        match place {
            Some(place) => place.fill(shown.answered(asking, request, &answer)),
            None => self.record.refuse(),
        }
        Ok(Evaluation { answer, in_flight })
    }

    /// Says whether a certificate is good now, whatever it would be used for, and records that. Waits a moment when there is no
    /// room to record it; then it is not known to be good.
    ///
    /// # Errors
    /// Only when this server has not reached the position that was asked for.
    pub async fn verify(
        &self,
        der: &[u8],
        at_least: Option<Position>,
        asking: Asking,
    ) -> Result<Verification, Error> {
        let place = self.record.reserve().await;
        let state = self.state();
        is_fresh(&state, at_least)?;
        let as_of = state.position;
        let now = self.clock.now();
        let parsed = self.read_certificate(der);
        let state_fault = if place.is_some() { self.state_fault() } else { Some(StateFault::Unavailable) };
        let of = parsed.as_ref().ok().and_then(|certificate| match &certificate.facts {
            Facts::Access(facts) => Some(facts.entity.entity),
            Facts::Canary(_) | Facts::System(_) => None,
        });
        let fault = match &parsed {
            Err(fault) => Some((fault.code(), fault.to_string())),
            Ok(certificate) => state_fault.map(unknowable).or_else(|| match &certificate.facts {
                Facts::Access(_) | Facts::Canary(_) => access_fault(&state, certificate, now),
                Facts::System(facts) => system_fault(&state, certificate, facts, now),
            }),
        };
        let id = self.new_decision();
        let verification = Verification { id: place.is_some().then_some(id), fault, as_of, of };
        let certificate = parsed.as_deref().ok();
        let hash = certificate.map_or_else(|| Digest::of(der), |known| known.hash);
        let shown = Shown { id, at: now, hash, certificate, bundle: state.bundle().hash(), as_of };
        match place {
            Some(place) => place.fill(shown.verified(asking, &verification)),
            None => self.record.refuse(),
        }
        Ok(verification)
    }
}

/// Who cannot believe the clock or write the record does not know whether anything is good now: gate G1.
fn unknowable(fault: StateFault) -> (&'static str, String) {
    let denial = match fault {
        StateFault::Unavailable | StateFault::StaleView => Denial::StateUnavailable,
        StateFault::ClockUntrusted => Denial::ClockUntrusted,
    };
    (denial.as_str(), denial.explain().to_owned())
}

/// What is decided of a certificate that could be read, or of none.
pub(super) fn judged(
    state: &State,
    fault: Option<StateFault>,
    certificate: Option<&Certificate>,
    request: &Request<'_>,
    now: Timestamp,
) -> Decision {
    let credential = match certificate {
        None => Err(CredentialFault::Invalid),
        Some(certificate) => issued(state, certificate),
    };
    decide(state, fault, credential, request, Now::with_margin(now))
}

/// Until when a permit that is decided now may be used.
pub(super) fn good_until(certificate: Option<&Certificate>, now: Timestamp) -> Timestamp {
    now.plus_ms(PERMIT_USE_MS).min(certificate.map_or(now, |certificate| certificate.not_after))
}

/// The certificate, if it is one that this service issued.
fn issued<'a>(state: &State, certificate: &'a Certificate) -> Result<&'a Certificate, CredentialFault> {
    match certificate.facts {
        Facts::Access(_) if !state.is_issued(certificate) => Err(CredentialFault::NotIssued),
        Facts::Access(_) | Facts::System(_) | Facts::Canary(_) => Ok(certificate),
    }
}

/// Answers as of at least this position, or not at all.
fn is_fresh(state: &State, at_least: Option<Position>) -> Result<(), Error> {
    match at_least {
        Some(wanted) if wanted > state.position => Err(Error::Unavailable(format!(
            "this server is at record {} and not at {} yet",
            state.position.seq, wanted.seq
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What gate G2 finds in the certificate of a person or workload.
fn access_fault(state: &State, certificate: &Certificate, now: Timestamp) -> Option<(&'static str, String)> {
    let request = Request {
        model: "",
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    };
    let decision = decide(state, None, issued(state, certificate), &request, Now::with_margin(now));
    let denial = decision.denials.into_iter().find(|denial| denial.as_str().starts_with("CREDENTIAL_"))?;
    Some((denial.as_str(), denial.explain().to_owned()))
}

fn system_fault(
    state: &State,
    certificate: &Certificate,
    facts: &SystemFacts,
    now: Timestamp,
) -> Option<(&'static str, String)> {
    if let Err(fault) = check_validity(certificate, now) {
        return Some((fault.code(), fault.to_string()));
    }
    let denial = Denial::CredentialRevoked;
    (!state.is_current(certificate, facts)).then(|| {
        (denial.as_str(), "it is not the certificate of a registered principal with its key".to_owned())
    })
}
