//! Enrollment with a one-time token, and renewal with the certificate that is to be renewed.

use super::error::Error;
use super::issue::{Purpose, TRIES_MAX, is_alive};
use super::{App, Caller};
use crate::domain::certificate::{AccessFacts, Certificate, Facts, LineageStep};
use crate::domain::enforce::Position;
use crate::domain::event::{Cause, Event};
use crate::domain::id::{Digest, LineageId, RequestId, SubjectId, TokenId};
use crate::domain::time::Now;

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuance {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// What the request asked for beside its key, and did not get.
    pub ignored: Vec<String>,
    /// The record that released it.
    pub position: Position,
}

/// A token as a person holds it: `tok_....SECRET`. Never printed but by whoever made it.
pub struct TokenText {
    id: TokenId,
    secret: [u8; 32],
}

impl TokenText {
    /// Joins a token's two halves.
    pub const fn new(id: TokenId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// Its public half.
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// SHA-256 of its secret half: all that is stored.
    pub fn secret_digest(&self) -> Digest {
        Digest::of(&self.secret)
    }

    /// The whole token, to be shown once.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, hex::encode(self.secret))
    }
}

impl std::str::FromStr for TokenText {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, secret) = text.split_once('.').ok_or(())?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(secret, &mut bytes).map_err(|_| ())?;
        Ok(Self { id: id.parse().map_err(|_| ())?, secret: bytes })
    }
}

impl App {
    /// Redeems a token. Again with the same key: the same certificate.
    ///
    /// # Errors
    /// One answer for a token that is unknown, has another secret, expired or was redeemed with another key; and one for
    /// everything that the record says against its subject.
    pub async fn enroll(&self, token: &str, csr: &[u8]) -> Result<Issuance, Error> {
        let token: TokenText = token.parse().map_err(|()| Error::NotFound("token"))?;
        let key = self.requested(csr)?;
        let digest = key.key().digest();
        let fresh = LineageId::from_parts(self.clock.now(), self.entropy.bytes16());
        let mut last = Error::Deadline;
        for _ in 0..TRIES_MAX {
            let state = self.state();
            let row = state.tokens.get(&token.id()).filter(|row| row.secret == token.secret_digest());
            let row = row.ok_or(Error::NotFound("token"))?;
            let lineage = match row.redeemed {
                Some((redeemer, _)) if redeemer != digest => return Err(Error::NotFound("token")),
                Some((_, lineage)) => lineage,
                // Before any rule is asked, so that an old token tells nothing about its subject.
                None if row.expires_at <= self.clock.now() => return Err(Error::NotFound("token")),
                None => fresh,
            };
            if let Some(issued) = state.lineages.get(&lineage) {
                if issued.last.generation == 1 && is_alive(&issued.last, self.clock.now()) {
                    return self.stored(&issued.last).await;
                }
                return Err(Error::NotFound("token"));
            }
            let step = LineageStep { lineage, generation: 1 };
            let purpose = Purpose { cause: Cause::Enroll(token.id()), subject: row.subject, step };
            match self.issue(purpose, key.clone()).await {
                Err(Error::Conflict(why)) => last = Error::Conflict(why),
                done => return done.map_err(|error| self.untold(row.subject, error)),
            }
        }
        Err(last)
    }

    /// Renews a certificate with a new key. Every rule runs again; nothing is copied. Again with the same new key: the
    /// same certificate. With another new key: somebody has a copy, and the lineage is locked.
    ///
    /// # Errors
    /// The certificate is not one that may be renewed, or the record gives no reason to issue one.
    pub async fn renew(&self, certificate: &Certificate, csr: &[u8]) -> Result<Issuance, Error> {
        let Facts::Access(facts) = &certificate.facts else {
            return Err(Error::Denied(
                "only certificates of people and workloads are renewed here".to_owned(),
            ));
        };
        let key = self.requested(csr)?;
        let digest = key.key().digest();
        let mut last = Error::Deadline;
        for _ in 0..TRIES_MAX {
            let state = self.state();
            let now = Now::with_margin(self.clock.now());
            if let Some(fault) = state.enforcement.credential_fault(certificate, facts, now) {
                return Err(Error::Denied(format!("this certificate cannot be renewed ({fault})")));
            }
            let lineage = state.lineages.get(&facts.step.lineage).ok_or(Error::NotFound("lineage"))?;
            if lineage.last.ordinal != certificate.ordinal {
                return self.renewed_already(certificate, facts, &lineage.last, digest).await;
            }
            if lineage.last.key == digest {
                let why = "a renewal needs a new key".to_owned();
                return Err(Error::Invalid { field: "csr", why });
            }
            let step = LineageStep { generation: facts.step.generation + 1, ..facts.step };
            let purpose = Purpose { cause: Cause::Renew(certificate.ordinal), subject: facts.subject, step };
            match self.issue(purpose, key.clone()).await {
                Err(Error::Conflict(why)) => last = Error::Conflict(why),
                done => return done.map_err(|error| self.untold(facts.subject, error)),
            }
        }
        Err(last)
    }

    /// One answer for everything that the record refuses: a stranger with a token, or a stolen certificate, learns neither
    /// screening nor law. What callers can mend themselves they are told.
    fn untold(&self, subject: SubjectId, error: Error) -> Error {
        match error {
            Error::WrongState(why) | Error::Denied(why) => {
                let reference = RequestId::from_parts(self.clock.now(), self.entropy.bytes16());
                tracing::warn!(request.id = %reference, subject.id = %subject, why, "no certificate can be issued");
                Error::NotIssuable { reference }
            }
            told => told,
        }
    }

    async fn renewed_already(
        &self,
        certificate: &Certificate,
        facts: &AccessFacts,
        last: &crate::domain::state::Issued,
        key: Digest,
    ) -> Result<Issuance, Error> {
        if last.generation == facts.step.generation + 1 && last.key == key {
            return self.stored(last).await;
        }
        // The smallest unit is locked: this lineage, not the person and not the entity.
        tracing::warn!(
            lineage.id = %facts.step.lineage, cert.ordinal = certificate.ordinal.0,
            "a certificate that was renewed already is renewed with another key; its lineage is locked"
        );
        let event = Event::LineageLocked(facts.step.lineage);
        self.engine.record(Caller::default().entry(event), true).await?;
        Err(Error::Denied(
            "this certificate was renewed before with another key; its lineage is locked, enroll again"
                .to_owned(),
        ))
    }
}
