//! Making an authority: its self-signed certificate, which is the trust anchor of all that it issues; and the
//! server's own leaf, without which nobody can ask for any other.
//!
//! Called by `init`, `dev` and, for the key of a next authority, by rotation. The key stays in its signer.

use thiserror::Error;

use super::signer::{SignFault, SignatureAlgorithm, Signer};
use super::{IssueFault, Issued, Issuer, Order, PrepareFault, assemble};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{AuthorityKind, BACKDATE_S, Facts, PrincipalKind, Serial};
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;
use crate::x509::authority::AUTHORITY_LIFE_MAX_S;
use crate::x509::lint::{LintFault, lint_authority};
use crate::x509::template::{AuthorityContent, authority_draft};
use crate::x509::{Authority, AuthorityFault, Content, KeyFault, PublicKey, RequestedKey, TemplateFault};

/// Why an authority was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootstrapFault {
    /// The signer's key is an Ed25519 log key.
    #[error("an authority signs with ECDSA; the signer holds an Ed25519 key")]
    Algorithm,
    /// The signer's public key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The validity does not include now or is longer than ten years.
    #[error("the validity of the authority does not include now, or is longer than ten years")]
    Validity,
    /// The certificate cannot be written.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// It breaks rules of the lint.
    #[error(transparent)]
    Lint(#[from] LintFault),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignFault),
    /// Read again, it is not the certificate of an authority.
    #[error(transparent)]
    Authority(#[from] AuthorityFault),
}

/// What names an authority, chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAuthority {
    /// Its id: the common name.
    pub id: AuthorityId,
    /// Which certificates it will issue.
    pub kind: AuthorityKind,
    /// The serial number of its certificate.
    pub serial: Serial,
    /// Its last instant.
    pub not_after: Timestamp,
}

/// Makes an authority over the signer's key, which must be of this profile of algorithms. Its certificate is read again strictly, signature included: this
/// happens once a year, not a thousand times a second.
pub fn authority(
    signer: &dyn Signer,
    new: &NewAuthority,
    algorithms: AlgorithmProfile,
    now: Timestamp,
) -> Result<Authority, BootstrapFault> {
    let SignatureAlgorithm::Ecdsa(curve) = signer.algorithm() else {
        return Err(BootstrapFault::Algorithm);
    };
    let key = PublicKey::from_spki(signer.public_key())?;
    let whole = |at: Timestamp| Timestamp::from_millis(at.seconds().saturating_mul(1000));
    let not_before = whole(now.plus_ms(-1000 * i64::from(BACKDATE_S)));
    let life_s = new.not_after.seconds().saturating_sub(now.seconds());
    if !u64::try_from(life_s).is_ok_and(|life_s| (1..=AUTHORITY_LIFE_MAX_S).contains(&life_s)) {
        return Err(BootstrapFault::Validity);
    }
    let content = AuthorityContent {
        id: new.id,
        kind: new.kind,
        serial: new.serial,
        not_before,
        not_after: whole(new.not_after),
    };
    let draft = authority_draft(&key, &content)?;
    lint_authority(draft.der(), algorithms)?;
    let tbs = draft.into_tbs();
    let signature = signer.sign(&tbs)?;
    Ok(Authority::from_der(&assemble(&tbs, curve, &signature))?)
}

/// Why the server's own leaf was not issued.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServerLeafFault {
    /// The facts are not those of a server.
    #[error("the facts are not those of a server")]
    NotServer,
    /// It cannot be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareFault),
    /// It cannot be signed.
    #[error(transparent)]
    Issue(#[from] IssueFault),
}

/// Issues the server's own leaf for a key that this process made: there is no request, and no intent is journaled
/// when there is no journal yet. Its ordinal is one of the system sequence like any other.
pub fn server_leaf(
    issuer: &Issuer,
    key: PublicKey,
    content: Content,
    now: Timestamp,
) -> Result<Issued, ServerLeafFault> {
    let is_server = matches!(&content.facts, Facts::System(facts) if facts.kind == PrincipalKind::Server);
    if !is_server {
        return Err(ServerLeafFault::NotServer);
    }
    let order = Order { content, key: RequestedKey::own(key) };
    Ok(issuer.sign(issuer.prepare(&order, now)?)?)
}
