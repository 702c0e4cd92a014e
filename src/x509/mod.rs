//! X.509 as this service speaks it: one certificate format that we own, written by a template and read strictly, and the
//! revocation lists of its authorities.
//!
//! A certificate request gives a key and nothing else; a certificate gives facts that were true at its issuance.
//! Nothing here holds a private key of an authority, reads a clock or does I/O. Callers: ca, client, app.

pub mod above;
pub mod authority;
pub mod authority_request;
pub mod bundle;
pub mod ca_certificate;
pub mod cert;
pub mod chain;
pub mod client_key;
pub mod crl;
pub mod crl_read;
pub mod csr;
mod der;
pub mod explain;
pub mod extension;
pub mod fault;
pub mod key;
pub mod lint;
mod oid;
mod outline;
pub mod pair;
pub mod profile;
pub mod root;
pub mod root_list;
pub mod root_row;
pub mod root_template;
pub mod sealed;
pub mod suite;
pub mod template;

pub use above::{ABOVE_MAX, AboveFault, chain_pem};
pub use authority::{Authority, AuthorityFault, Parent};
pub use authority_request::AuthorityRequest;
pub use bundle::{BundleFault, TrustBundle};
pub use ca_certificate::CaCertificate;
pub use cert::{Unverified, parse};
pub use chain::check_validity;
pub use client_key::{ClientKey, ClientKeyFault};
pub use crl::{CrlContent, CrlEntry, CrlNumber, ReasonCode};
pub use csr::{CsrFault, Ignored, RequestedKey};
pub use extension::{Arc, Attribute};
pub use fault::CertificateFault;
pub use key::{Curve, KeyFault, PublicKey};
pub use pair::{PairFault, TlsPair};
pub use profile::{CrlBase, Profile, TrustDomain};
pub use root::{CrossCertificate, Root, RootFault};
pub use root_list::{RootList, RootListFault};
pub use sealed::{Passphrase, SealFault};
pub use template::{Content, ServerName, TemplateFault};

#[cfg(test)]
mod tests;
