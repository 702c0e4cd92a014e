//! A root with its key, at a ceremony: what it certifies and which lists it signs. Never at a server.
//!
//! As everywhere, the intended bytes are judged before the key is touched, and what was signed is read again strictly. Called
//! by the `root` verbs of the command line alone.

use thiserror::Error;

use super::crl::{ENTRIES_MAX, ListOrder, SignedList};
use super::signer::{SignFault, SignatureAlgorithm, Signer};
use super::{ListFault, assemble};
use crate::domain::certificate::{BACKDATE_S, Serial};
use crate::domain::id::RootId;
use crate::domain::time::Timestamp;
use crate::x509::authority::AUTHORITY_LIFE_MAX_S;
use crate::x509::crl::{CrlContent, halves};
use crate::x509::lint::{LintFault, lint_certified, lint_root, lint_root_list};
use crate::x509::root::ROOT_LIFE_MAX_S;
use crate::x509::root_template::{RootContent, RootTemplate, root_draft};
use crate::x509::template::{AuthorityContent, Draft};
use crate::x509::{
    Authority, AuthorityFault, AuthorityRequest, CrossCertificate, Curve, KeyFault, PublicKey, Root,
    RootFault, TemplateFault,
};

/// Why a root signed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CeremonyFault {
    /// The signer's key is an Ed25519 log key.
    #[error("a root signs with ECDSA; the signer holds an Ed25519 key")]
    Algorithm,
    /// The signer holds another key.
    #[error("the signer does not hold the key of the root")]
    WrongKey,
    /// The signer's public key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The end is not after now, or later than the form allows.
    #[error("the end is not after now, or later than {0} years from now")]
    Validity(u64),
    /// It would outlive the root.
    #[error("it would be valid until {until}, and the root is until {root}: name fewer days")]
    Outlives {
        /// What was asked for.
        until: Timestamp,
        /// The end of the root.
        root: Timestamp,
    },
    /// The root has ended.
    #[error("the root has ended: {0}")]
    Ended(Timestamp),
    /// It cannot be written.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// It breaks rules of the lint.
    #[error(transparent)]
    Lint(#[from] LintFault),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignFault),
    /// Read again, it is not what was meant.
    #[error(transparent)]
    Authority(#[from] AuthorityFault),
    /// Read again, it is not what was meant, or not by this root.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// The list was not signed.
    #[error(transparent)]
    List(#[from] ListFault),
}

/// From when and until when, in whole seconds.
fn dates(now: Timestamp, until: Timestamp, life_max_s: u64) -> Result<(Timestamp, Timestamp), CeremonyFault> {
    let whole = |at: Timestamp| Timestamp::from_millis(at.seconds().saturating_mul(1000));
    let life_s = until.seconds().saturating_sub(now.seconds());
    match u64::try_from(life_s).is_ok_and(|life_s| (1..=life_max_s).contains(&life_s)) {
        true => Ok((whole(now.plus_ms(-1000 * i64::from(BACKDATE_S))), whole(until))),
        false => Err(CeremonyFault::Validity(life_max_s / (366 * 86_400))),
    }
}

fn curve_of(signer: &dyn Signer) -> Result<Curve, CeremonyFault> {
    match signer.algorithm() {
        SignatureAlgorithm::Ecdsa(curve) => Ok(curve),
        SignatureAlgorithm::Ed25519 => Err(CeremonyFault::Algorithm),
    }
}

/// Makes the certificate of a root over the signer's key.
///
/// # Errors
/// What is wrong with the validity or the key.
pub fn new_root(
    signer: &dyn Signer,
    (id, serial): (RootId, Serial),
    until: Timestamp,
    now: Timestamp,
) -> Result<Root, CeremonyFault> {
    let curve = curve_of(signer)?;
    let (not_before, not_after) = dates(now, until, ROOT_LIFE_MAX_S)?;
    let key = PublicKey::from_spki(signer.public_key())?;
    let draft = root_draft(&key, &RootContent { id, serial, not_before, not_after })?;
    lint_root(draft.der())?;
    let tbs = draft.into_tbs();
    let signature = signer.sign(&tbs)?;
    Ok(Root::from_der(&assemble(&tbs, curve, &signature))?)
}

/// A root and its key.
pub struct RootIssuer<'a> {
    template: RootTemplate,
    signer: &'a dyn Signer,
}

impl<'a> RootIssuer<'a> {
    /// Joins a root with the signer that must hold its key.
    ///
    /// # Errors
    /// It holds another.
    pub fn new(root: Root, signer: &'a dyn Signer) -> Result<Self, CeremonyFault> {
        let key = root.certificate().key();
        let is_same =
            signer.algorithm() == SignatureAlgorithm::Ecdsa(key.curve()) && signer.public_key() == key.spki();
        if is_same {
            Ok(Self { template: RootTemplate::new(root), signer })
        } else {
            Err(CeremonyFault::WrongKey)
        }
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        self.template.root()
    }

    /// Certifies an authority.
    ///
    /// # Errors
    /// What is wrong with the validity or the key; the root's key is not touched for a wrong one.
    pub fn certify(
        &self,
        request: &AuthorityRequest,
        serial: Serial,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Authority, CeremonyFault> {
        let (not_before, not_after) = self.dates(now, until, AUTHORITY_LIFE_MAX_S)?;
        let content = AuthorityContent { id: request.id, kind: request.kind, serial, not_before, not_after };
        let der = self.sign(self.template.authority(&request.key, &content)?)?;
        let authority = Authority::from_der(&der)?;
        self.root().check_issued(&authority)?;
        Ok(authority)
    }

    /// Certifies the name and the key of another root, until that one ends or this one, whichever is first.
    ///
    /// # Errors
    /// As for an authority.
    pub fn cross_certify(
        &self,
        other: &Root,
        serial: Serial,
        now: Timestamp,
    ) -> Result<CrossCertificate, CeremonyFault> {
        let until = other.certificate().not_after().min(self.root().certificate().not_after());
        let (not_before, not_after) = self.dates(now, until, ROOT_LIFE_MAX_S)?;
        let content = RootContent { id: other.id(), serial, not_before, not_after };
        let der = self.sign(self.template.cross(other.certificate().key(), &content)?)?;
        let cross = CrossCertificate::from_der(&der)?;
        self.root().check_cross(&cross)?;
        Ok(cross)
    }

    /// Signs a revocation list.
    ///
    /// # Errors
    /// What is wrong with the list; the key is not touched for a wrong one.
    pub fn sign_list(&self, order: ListOrder) -> Result<SignedList, CeremonyFault> {
        if order.entries.len() > ENTRIES_MAX {
            return Err(ListFault::TooMany.into());
        }
        let ListOrder { address, number, this_update, next_update, entries } = order;
        let content = CrlContent { address, number, this_update, next_update, entries };
        let draft = self.template.list(&content)?;
        lint_root_list(draft.der(), self.root(), &content)?;
        let (curve, signature) = (curve_of(self.signer)?, self.signer.sign(draft.tbs())?);
        let der = assemble(draft.tbs(), curve, &signature);
        let verifies = self.root().certificate().verifies(curve, draft.tbs(), &signature);
        match verifies && halves(&der) == Some((draft.tbs(), signature.as_slice())) {
            true => Ok(SignedList { der, number, next_update }),
            false => Err(ListFault::Differs.into()),
        }
    }

    /// The first instant of what is certified now: never before the root's own.
    fn dates(
        &self,
        now: Timestamp,
        until: Timestamp,
        life_max_s: u64,
    ) -> Result<(Timestamp, Timestamp), CeremonyFault> {
        let own = self.root().certificate();
        if own.not_after() <= now {
            return Err(CeremonyFault::Ended(own.not_after()));
        }
        let (not_before, not_after) = dates(now, until, life_max_s)?;
        match not_after <= own.not_after() {
            true => Ok((not_before.max(own.not_before()), not_after)),
            false => Err(CeremonyFault::Outlives { until: not_after, root: own.not_after() }),
        }
    }

    fn sign(&self, draft: Draft) -> Result<Vec<u8>, CeremonyFault> {
        lint_certified(draft.der(), self.root())?;
        let tbs = draft.into_tbs();
        let signature = self.signer.sign(&tbs)?;
        Ok(assemble(&tbs, curve_of(self.signer)?, &signature))
    }
}
