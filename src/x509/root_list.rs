//! Reading the revocation list of a root, from the root's certificate alone: strict, and its signature verified.

use thiserror::Error;
use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension, RevokedCertificate};

use super::crl::{CrlEntry, CrlNumber, ReasonCode, halves};
use super::lint::{LintFault, check_root_list};
use super::root::Root;
use crate::domain::certificate::Serial;
use crate::domain::id::RootId;
use crate::domain::time::Timestamp;

/// The longest list of a root: a hundred authorities that were revoked, which no service has, fit in 16 KiB.
pub const ROOT_LIST_LEN_MAX: usize = 16 * 1024;

/// Why bytes are not a list of a root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RootListFault {
    /// Longer than any.
    #[error("the revocation list is longer than 16 KiB")]
    TooLong,
    /// It breaks rules of the form, or the root did not sign it.
    #[error("the revocation list of the root is {0}")]
    Lint(#[from] LintFault),
    /// It cannot be read.
    #[error("it is not the revocation list of a root")]
    Encoding,
}

/// What a root's list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootList {
    /// Whose.
    pub root: RootId,
    /// Its number.
    pub number: CrlNumber,
    /// From when it holds.
    pub this_update: Timestamp,
    /// Until when it may be used.
    pub next_update: Timestamp,
    /// What is revoked.
    pub entries: Vec<CrlEntry>,
}

impl RootList {
    /// Reads a list (DER) that this root must have signed. Says nothing about time.
    ///
    /// # Errors
    /// Every rule that it breaks.
    pub fn read(der: &[u8], root: &Root) -> Result<Self, RootListFault> {
        if der.len() > ROOT_LIST_LEN_MAX {
            return Err(RootListFault::TooLong);
        }
        check_root_list(der, root)?;
        // The lint passes over unused bits that the signature's BIT STRING counts.
        halves(der).ok_or(RootListFault::Encoding)?;
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| RootListFault::Encoding)?;
        let next_update = list.next_update().ok_or(RootListFault::Encoding)?;
        let entries = list.iter_revoked_certificates().map(entry).collect::<Option<_>>();
        Ok(Self {
            root: root.id(),
            number: number(&list).ok_or(RootListFault::Encoding)?,
            this_update: seconds(list.last_update().timestamp()),
            next_update: seconds(next_update.timestamp()),
            entries: entries.ok_or(RootListFault::Encoding)?,
        })
    }
}

const fn seconds(at: i64) -> Timestamp {
    Timestamp::from_millis(at.saturating_mul(1_000))
}

fn number(list: &CertificateRevocationList<'_>) -> Option<CrlNumber> {
    list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLNumber(number) => CrlNumber::from_octets(&number.to_bytes_be()),
        _ => None,
    })
}

fn entry(read: &RevokedCertificate<'_>) -> Option<CrlEntry> {
    let reason = read.reason_code().map_or(Some(ReasonCode::Unspecified), |(_, code)| match code.0 {
        0 => Some(ReasonCode::Unspecified),
        number => ReasonCode::from_number(number),
    });
    Some(CrlEntry {
        serial: Serial::from_bytes(read.raw_serial())?,
        at: seconds(read.revocation_date.timestamp()),
        reason: reason?,
    })
}
