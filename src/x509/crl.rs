//! Certificate revocation lists (RFC 5280 section 5): written by a template, and read again before the key is touched.
//!
//! A list that is fetched is one shard: a critical issuing distribution point says which, in the words of the CRL
//! distribution point of its certificates. A list that is pushed has none and covers everything that its authority
//! issues (section 6.3.3). No delta lists, no indirect lists. Every list has a number, and no number is used twice.

use std::fmt;

use super::der::{self, SEQUENCE};
use super::template::{Draft, Template, TemplateFault, check_validity};
use crate::domain::certificate::Serial;
use crate::domain::id::{Epoch, Seq};
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    KeyIdMethod, RevokedCertParams, SerialNumber,
};

/// The most octets of a number (RFC 5280 section 5.2.3).
const NUMBER_LEN: usize = 20;

/// The number of a list: epoch, signature and record as one integer, so that it says as of which record the list was signed.
///
/// The signature is counted by the time, and stands before the record: numbers rise also on an older copy of the record.
/// The first octet has no highest bit, so that DER adds none to the 20.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrlNumber([u8; NUMBER_LEN]);

impl CrlNumber {
    /// The number of a list as of this record; `signature` rises with each list that is signed, in whatever run. `None` for
    /// an epoch of more than 31 bits.
    pub fn new(epoch: Epoch, signature: u64, seq: Seq) -> Option<Self> {
        let epoch = u32::try_from(epoch.0).ok().filter(|epoch| *epoch <= u32::MAX >> 1)?;
        let mut octets = [0; NUMBER_LEN];
        let parts = epoch.to_be_bytes().into_iter().chain(signature.to_be_bytes()).chain(seq.0.to_be_bytes());
        octets.iter_mut().zip(parts).for_each(|(octet, part)| *octet = part);
        Some(Self(octets))
    }

    /// The number of a list that is counted at ceremonies.
    pub fn counted(count: u64) -> Self {
        let mut octets = [0; NUMBER_LEN];
        octets.iter_mut().rev().zip(count.to_be_bytes().into_iter().rev()).for_each(|(to, from)| *to = from);
        Self(octets)
    }

    /// The number of a list that was read: an integer that is not negative, big-endian.
    pub fn from_octets(read: &[u8]) -> Option<Self> {
        let digits = read.iter().position(|octet| *octet != 0).and_then(|at| read.get(at..)).unwrap_or(&[]);
        let mut octets = [0; NUMBER_LEN];
        let at = NUMBER_LEN.checked_sub(digits.len())?;
        octets.get_mut(at..)?.copy_from_slice(digits);
        Some(Self(octets))
    }

    /// The count of a list that was counted; none: it is another number, or would overflow.
    pub fn count(&self) -> Option<u64> {
        let (high, low) = self.0.split_last_chunk::<8>()?;
        high.iter().all(|octet| *octet == 0).then(|| u64::from_be_bytes(*low))
    }

    /// The integer, big-endian, with leading zeros.
    pub const fn as_bytes(&self) -> &[u8; NUMBER_LEN] {
        &self.0
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a certificate is listed (RFC 5280 section 5.3.1), as far as this service has reasons for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonCode {
    /// The extension is absent.
    Unspecified,
    /// 1.
    KeyCompromise,
    /// 2.
    CaCompromise,
    /// 3.
    AffiliationChanged,
    /// 4.
    Superseded,
    /// 5.
    CessationOfOperation,
    /// 6: may be released.
    CertificateHold,
    /// 9.
    PrivilegeWithdrawn,
}

impl ReasonCode {
    const fn rcgen(self) -> Option<rcgen::RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
            Self::CaCompromise => Some(rcgen::RevocationReason::CaCompromise),
            Self::AffiliationChanged => Some(rcgen::RevocationReason::AffiliationChanged),
            Self::Superseded => Some(rcgen::RevocationReason::Superseded),
            Self::CessationOfOperation => Some(rcgen::RevocationReason::CessationOfOperation),
            Self::CertificateHold => Some(rcgen::RevocationReason::CertificateHold),
            Self::PrivilegeWithdrawn => Some(rcgen::RevocationReason::PrivilegeWithdrawn),
        }
    }

    /// The reason with this number; none: this service has no such reason.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            9 => Self::PrivilegeWithdrawn,
            _ => return None,
        })
    }

    /// The number in the extension.
    pub(super) const fn number(self) -> Option<u8> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(1),
            Self::CaCompromise => Some(2),
            Self::AffiliationChanged => Some(3),
            Self::Superseded => Some(4),
            Self::CessationOfOperation => Some(5),
            Self::CertificateHold => Some(6),
            Self::PrivilegeWithdrawn => Some(9),
        }
    }
}

impl From<RevocationReason> for ReasonCode {
    /// What the record knows more closely is a privilege that was withdrawn.
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::KeyCompromise => Self::KeyCompromise,
            RevocationReason::CaCompromise => Self::CaCompromise,
            RevocationReason::AffiliationEnded | RevocationReason::StatusChanged => Self::AffiliationChanged,
            RevocationReason::Superseded | RevocationReason::IssuedInError => Self::Superseded,
            RevocationReason::AnnexRemoved
            | RevocationReason::DeterminationChanged
            | RevocationReason::StatusMisstated
            | RevocationReason::LicenseEnded
            | RevocationReason::ScreeningHit
            | RevocationReason::SafeguardLapsed
            | RevocationReason::Misuse
            | RevocationReason::ReverifyOverdue
            | RevocationReason::GovernmentOrder => Self::PrivilegeWithdrawn,
            RevocationReason::Drill => Self::Unspecified,
        }
    }
}

/// A certificate on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial.
    pub serial: Serial,
    /// When it was revoked, whole seconds.
    pub at: Timestamp,
    /// Why.
    pub reason: ReasonCode,
}

/// Everything in a list but its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlContent {
    /// Where the list is found: the distribution point of the certificates that it covers; none: it covers them all.
    pub address: Option<String>,
    /// Its number.
    pub number: CrlNumber,
    /// From when it holds, whole seconds.
    pub this_update: Timestamp,
    /// Until when the next one is there, whole seconds.
    pub next_update: Timestamp,
    /// What is revoked.
    pub entries: Vec<CrlEntry>,
}

impl Template {
    /// Writes a list.
    ///
    /// # Errors
    /// Dates that are not in order or not in whole seconds.
    pub fn list(&self, content: &CrlContent) -> Result<Draft, TemplateFault> {
        self.list_of(&self.list_params(content)?)
    }

    pub(super) fn list_params(
        &self,
        content: &CrlContent,
    ) -> Result<CertificateRevocationListParams, TemplateFault> {
        params(content, self.authority().key_id())
    }
}

/// A list of whoever has this key identifier.
pub(super) fn params(
    content: &CrlContent,
    key_id: &[u8; 20],
) -> Result<CertificateRevocationListParams, TemplateFault> {
    check_validity(content.this_update, content.next_update)?;
    let entry = |entry: &CrlEntry| RevokedCertParams {
        serial_number: SerialNumber::from_slice(entry.serial.as_bytes()),
        revocation_time: entry.at.to_offset(),
        reason_code: entry.reason.rcgen(),
        invalidity_date: None,
    };
    Ok(CertificateRevocationListParams {
        this_update: content.this_update.to_offset(),
        next_update: content.next_update.to_offset(),
        crl_number: SerialNumber::from_slice(content.number.as_bytes()),
        issuing_distribution_point: content.address.as_ref().map(|address| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![address.clone()] },
            scope: Some(CrlScope::UserCertsOnly),
        }),
        revoked_certs: content.entries.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(key_id.to_vec()),
    })
}

/// The part that is signed and the signature.
pub fn halves(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut list = der::only(der, SEQUENCE).ok()?.inside();
    let tbs = list.expect(SEQUENCE).ok()?.raw;
    list.expect(SEQUENCE).ok()?;
    let signature = list.any().ok()?.bits().ok()?;
    list.end().ok()?;
    Some((tbs, signature))
}
