//! Signing revocation lists: written, read again by another reader, signed once.

use thiserror::Error;

use super::{Issuer, SignFault, assemble};
use crate::domain::certificate::BACKDATE_S;
use crate::domain::time::Timestamp;
use crate::x509::TemplateFault;
use crate::x509::crl::{CrlContent, CrlEntry, CrlNumber, halves};
use crate::x509::lint::{LintFault, lint_list};

/// The most entries of one list: every certificate of a shard; what a proxy searches in a handshake without noticing.
pub const ENTRIES_MAX: usize = 10_000;

/// Why a list was not signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListFault {
    /// The template refused the content.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// It breaks rules of the lint.
    #[error(transparent)]
    Lint(#[from] LintFault),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignFault),
    /// More entries than one list may have.
    #[error("a list has at most {ENTRIES_MAX} entries")]
    TooMany,
    /// Read again, the list is not the one that was written, or its signature does not verify.
    #[error("the signed revocation list is not the one that was written, or does not verify")]
    Differs,
}

/// A signed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedList {
    /// The list (DER).
    pub der: Vec<u8>,
    /// Its number.
    pub number: CrlNumber,
    /// Its `nextUpdate`.
    pub next_update: Timestamp,
}

/// What a list says, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOrder {
    /// Where it is found; none: it covers everything that the authority issues.
    pub address: Option<String>,
    /// Its number.
    pub number: CrlNumber,
    /// From when it holds, in whole seconds.
    pub this_update: Timestamp,
    /// Until when a consumer may use it, in whole seconds.
    pub next_update: Timestamp,
    /// What is revoked.
    pub entries: Vec<CrlEntry>,
}

/// From when a list holds that is signed now: `thisUpdate` lies a minute back, for consumers with a slow clock.
pub const fn backdated(now: Timestamp) -> Timestamp {
    Timestamp::from_millis((now.seconds() - BACKDATE_S as i64) * 1_000)
}

impl Issuer {
    /// Writes, lints and signs a list.
    ///
    /// # Errors
    /// What is wrong with the list; the key is not touched for a wrong one.
    pub fn sign_list(&self, order: ListOrder) -> Result<SignedList, ListFault> {
        if order.entries.len() > ENTRIES_MAX {
            return Err(ListFault::TooMany);
        }
        let ListOrder { address, number, this_update, next_update, entries } = order;
        let content = CrlContent { address, number, this_update, next_update, entries };
        let draft = self.template.list(&content)?;
        lint_list(draft.der(), self.authority(), &content)?;
        let signature = self.signer.sign(draft.tbs())?;
        let der = assemble(draft.tbs(), self.curve, &signature);
        // A list that does not verify would shut out everybody whom it covers, so its signature is checked, unlike that
        // of a certificate.
        let verifies = self.authority().verifies(self.curve, draft.tbs(), &signature);
        if !verifies || halves(&der) != Some((draft.tbs(), signature.as_slice())) {
            return Err(ListFault::Differs);
        }
        Ok(SignedList { der, number: content.number, next_update: content.next_update })
    }
}

#[cfg(test)]
mod tests;
