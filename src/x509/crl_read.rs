//! Reading a revocation list that was received: whose it is, until when it may be used, and which serials it names.

use std::collections::BTreeSet;

use thiserror::Error;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::authority::Authority;
use super::bundle::TrustBundle;
use super::crl::halves;
use super::root::Root;
use super::root_list::RootList;
use crate::domain::certificate::Serial;
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;

/// Why bytes are not a list of one of the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CrlFault {
    /// Not a list (RFC 5280 section 5.1), or one without a nextUpdate.
    #[error("it is not a revocation list")]
    Encoding,
    /// Its issuer is none of the authorities.
    #[error("it is of an authority that is not in the bundle")]
    ForeignAuthority,
    /// Its signature does not verify.
    #[error("its signature does not verify")]
    BadSignature,
    /// A serial that this service does not give.
    #[error("it names a serial that is not of this service")]
    Serial,
    /// A text that is not PEM of lists (RFC 7468 section 6) from its first block to its last.
    #[error("the lists are not PEM")]
    NotPem,
    /// An authority of the bundle has no list in the text: a proxy would refuse everybody whom it issued to.
    #[error("an authority has no revocation list")]
    Missing,
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCrl {
    /// Whose.
    pub issuer: AuthorityId,
    /// Until when it may be used.
    pub next_update: Timestamp,
    /// Which certificates it names, in its order.
    pub serials: Vec<Serial>,
}

/// What the lists of all authorities of a bundle say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCrls {
    /// Until when all of them may be used.
    pub until: Timestamp,
    /// Which certificates they name.
    pub serials: BTreeSet<Serial>,
}

/// Reads lists (PEM): each of an authority or a root of the bundle, and one at least of each. Says nothing about time.
///
/// # Errors
/// What is wrong with the first that is not one, or that an authority has none.
pub fn read_all(text: &str, bundle: &TrustBundle) -> Result<ReadCrls, CrlFault> {
    let blocks = pem::parse_many(text).map_err(|_| CrlFault::NotPem)?;
    // What is not whole, or has another name, a proxy passes over in silence.
    let is_whole = blocks.len() == text.matches("-----BEGIN ").count();
    if !is_whole || blocks.iter().any(|block| block.tag() != "X509 CRL") {
        return Err(CrlFault::NotPem);
    }
    let (mut lists, mut of_roots) = (Vec::new(), Vec::new());
    for block in &blocks {
        match of_root(block.contents(), bundle) {
            Some(list) => of_roots.push(list?),
            None => lists.push(read(block.contents(), bundle)?),
        }
    }
    let has_one = |authority: &Authority| lists.iter().any(|list| list.issuer == authority.id());
    let root_has_one = |root: &Root| of_roots.iter().any(|list| list.root == root.id());
    let is_complete = bundle.authorities().iter().all(has_one) && bundle.roots().iter().all(root_has_one);
    let ends = lists.iter().map(|list| list.next_update);
    let until = ends.chain(of_roots.iter().map(|list| list.next_update)).min();
    let until = until.filter(|_| is_complete).ok_or(CrlFault::Missing)?;
    Ok(ReadCrls { until, serials: lists.into_iter().flat_map(|list| list.serials).collect() })
}

/// The list of a root of the bundle; none: it is not one.
fn of_root(der: &[u8], bundle: &TrustBundle) -> Option<Result<RootList, CrlFault>> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let name = list.issuer().as_raw();
    let root = bundle.roots().iter().find(|root| root.certificate().name() == name)?;
    Some(RootList::read(der, root).map_err(|_| CrlFault::BadSignature))
}

/// Reads a list (DER) and verifies its signature. Says nothing about time.
///
/// # Errors
/// Why it is not a list of one of these authorities.
pub fn read(der: &[u8], bundle: &TrustBundle) -> Result<ReadCrl, CrlFault> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| CrlFault::Encoding)?;
    let (tbs, signature) = halves(der).filter(|_| rest.is_empty()).ok_or(CrlFault::Encoding)?;
    let next_update = list.next_update().ok_or(CrlFault::Encoding)?;
    let issuer = bundle.authorities().iter().find(|authority| authority.name() == list.issuer().as_raw());
    let issuer = issuer.ok_or(CrlFault::ForeignAuthority)?;
    if !issuer.verifies(issuer.key().curve(), tbs, signature) {
        return Err(CrlFault::BadSignature);
    }
    let serials = list.iter_revoked_certificates().map(|entry| Serial::from_bytes(entry.raw_serial()));
    Ok(ReadCrl {
        issuer: issuer.id(),
        next_update: Timestamp::from_millis(next_update.timestamp().saturating_mul(1_000)),
        serials: serials.collect::<Option<_>>().ok_or(CrlFault::Serial)?,
    })
}
