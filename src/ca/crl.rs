//! Signing revocation lists: written, read again by another reader, signed once.

use thiserror::Error;

use super::{Issuer, SignFault, assemble};
use crate::domain::certificate::BACKDATE_S;
use crate::domain::time::Timestamp;
use crate::x509::TemplateFault;
use crate::x509::crl::{CrlContent, CrlEntry, CrlNumber, halves, lint};
use crate::x509::lint::LintFault;

/// The most entries of one list: every certificate of a shard.
pub const ENTRIES_MAX: usize = 10_000;

/// Why a list was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListFault {
    /// The template refused the content.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// The independent reader found something else than was meant.
    #[error("the revocation list differs from what was meant: {}", .0.what)]
    Lint(#[from] LintFault),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignFault),
    /// More entries than a shard has certificates.
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
    /// Where it is found.
    pub address: String,
    /// Its number.
    pub number: CrlNumber,
    /// How long a consumer may use it, in seconds.
    pub lifetime_s: u32,
    /// What is revoked.
    pub entries: Vec<CrlEntry>,
}

impl Issuer {
    /// Writes, lints and signs a list. `thisUpdate` lies a minute back, for consumers with a slow clock.
    ///
    /// # Errors
    /// What is wrong with the list; the key is not touched for a wrong one.
    pub fn sign_list(&self, order: ListOrder, now: Timestamp) -> Result<SignedList, ListFault> {
        if order.entries.len() > ENTRIES_MAX {
            return Err(ListFault::TooMany);
        }
        let second = Timestamp::from_millis(now.seconds().saturating_mul(1000));
        let content = CrlContent {
            address: order.address,
            number: order.number,
            this_update: second.plus_ms(-1000 * i64::from(BACKDATE_S)),
            next_update: second.plus_ms(1000 * i64::from(order.lifetime_s)),
            entries: order.entries,
        };
        let draft = self.template.list(&content)?;
        lint(draft.der(), self.authority(), &content)?;
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
