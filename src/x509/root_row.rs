//! Roots, their lists and cross-certificates as the record holds them, from their bytes. Whoever is handed such a row makes it
//! anew from its bytes and compares: then every signature is verified and every field is what the bytes say.

use thiserror::Error;

use super::authority::{Authority, AuthorityFault};
use super::root::{CrossCertificate, Root, RootFault};
use super::root_list::{RootList, RootListFault};
use crate::domain::root as row;

/// Why bytes make no row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RootRowFault {
    /// Not a root, or not by it.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// Not an authority.
    #[error(transparent)]
    Authority(#[from] AuthorityFault),
    /// Not a list of it.
    #[error(transparent)]
    List(#[from] RootListFault),
    /// A number that no ceremony counted.
    #[error("the number of the revocation list is not one that `countersign root crl` counts")]
    Number,
}

/// A root with its newest list.
pub fn root(certificate: &[u8], list: &[u8]) -> Result<row::Root, RootRowFault> {
    let root = Root::from_der(certificate)?;
    let (id, not_after) = (root.id(), root.certificate().not_after());
    Ok(row::Root { id, certificate: certificate.to_vec(), not_after, list: self::list(list, &root)? })
}

/// A list of a root.
pub fn list(der: &[u8], root: &Root) -> Result<row::RootList, RootRowFault> {
    let read = RootList::read(der, root)?;
    Ok(row::RootList {
        list: der.to_vec(),
        number: read.number.count().ok_or(RootRowFault::Number)?,
        this_update: read.this_update,
        next_update: read.next_update,
        revoked: read.entries.iter().map(|entry| entry.serial).collect(),
    })
}

/// A certificate of a root or of an authority by this root.
pub fn cross(der: &[u8], by: &Root) -> Result<row::CrossCertificate, RootRowFault> {
    let certificate = der.to_vec();
    if let Ok(cross) = CrossCertificate::from_der(der) {
        by.check_cross(&cross)?;
        let (serial, not_after) = (cross.certificate().serial(), cross.certificate().not_after());
        let subject = row::CrossSubject::Root(cross.root());
        let by = row::Beneath { root: by.id(), serial };
        return Ok(row::CrossCertificate { certificate, subject, by, not_after });
    }
    let authority = Authority::from_der(der)?;
    by.check_issued(&authority)?;
    let subject = row::CrossSubject::Authority(authority.id());
    let (by, not_after) = (row::Beneath { root: by.id(), serial: authority.serial() }, authority.not_after());
    Ok(row::CrossCertificate { certificate, subject, by, not_after })
}

/// Where an authority stands, as its certificate says.
pub fn beneath(authority: &Authority) -> Option<row::Beneath> {
    authority.parent().map(|parent| row::Beneath { root: parent.root, serial: authority.serial() })
}
