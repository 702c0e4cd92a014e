//! The certificate chain and the private key of somebody's own TLS listener, as operators keep them in PEM files. They are
//! of an authority that is none of ours, so all that is asked is whether a TLS server could use them now.

use std::fmt;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::{Zeroize as _, Zeroizing};

use super::bundle::certificate_pem;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

/// The most certificates in a chain: TLS clients follow fewer.
const CHAIN_LEN_MAX: usize = 10;

/// Why files are not a pair that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PairFault {
    /// Not PEM (RFC 7468) of 1 to 10 certificates and nothing else; perhaps a key.
    #[error("the chain is not PEM of 1 to {CHAIN_LEN_MAX} certificates and nothing else")]
    Chain,
    /// A certificate that cannot be read.
    #[error("certificate {0} of the chain cannot be read")]
    Certificate(usize),
    /// Each certificate must be followed by its issuer's (RFC 8446 section 4.4.2).
    #[error("certificate {0} of the chain was not issued by the one after it")]
    Order(usize),
    /// A certificate that is not valid yet, or not any more.
    #[error("certificate {index} of the chain is valid from {from} to {to}, and not now")]
    Validity {
        /// Which certificate, from 0.
        index: usize,
        /// Its first instant.
        from: Timestamp,
        /// Its last.
        to: Timestamp,
    },
    /// Not one private key in PEM that TLS can use.
    #[error("the key is not one PEM block with a private key that TLS can use")]
    Key,
    /// The key of another certificate.
    #[error("the key is not that of the first certificate of the chain")]
    Mismatch,
}

/// A chain and its key. The key is wiped when this is dropped, and never shown.
pub struct TlsPair {
    chain_pem: String,
    key_pem: Zeroizing<Vec<u8>>,
    fingerprint: Digest,
    not_after: Timestamp,
}

impl TlsPair {
    /// Reads the text of both files.
    ///
    /// # Errors
    /// Why a TLS server could not use them at this instant.
    pub fn read(chain: &[u8], key_pem: Zeroizing<Vec<u8>>, now: Timestamp) -> Result<Self, PairFault> {
        let chain = certificates(chain)?;
        let not_after = check(&chain, now)?;
        let chain_pem: String = chain.iter().map(|der| certificate_pem(der)).collect();
        let mut key = private_key(&key_pem)?;
        let usable = any_supported_type(&key);
        key.zeroize();
        let pair = CertifiedKey::new(chain, usable.map_err(|_| PairFault::Key)?);
        pair.keys_match().map_err(|_| PairFault::Mismatch)?;
        Ok(Self { fingerprint: Digest::of(chain_pem.as_bytes()), chain_pem, key_pem, not_after })
    }

    /// The chain: certificates and nothing else.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The key, as it stands in its file.
    pub fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }

    /// SHA-256 of the chain, which tells pairs apart.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// When the first certificate of the chain to end does so.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl fmt::Debug for TlsPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPair").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The certificates of a file that has nothing else: a key that stands beside them would be sent to whoever connects.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairFault> {
    let blocks = pem::parse_many(text).map_err(|_| PairFault::Chain)?;
    let fits = (1..=CHAIN_LEN_MAX).contains(&blocks.len());
    if !fits || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
        return Err(PairFault::Chain);
    }
    Ok(blocks.into_iter().map(|block| CertificateDer::from(block.into_contents())).collect())
}

/// When the chain ends, if all of it is valid now and in its order.
fn check(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Timestamp, PairFault> {
    let mut ends = Timestamp::from_millis(i64::MAX);
    let mut issuer: Option<Vec<u8>> = None;
    for (index, der) in chain.iter().enumerate() {
        let read = X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty());
        let (_, certificate) = read.ok_or(PairFault::Certificate(index))?;
        if issuer.is_some_and(|issuer| issuer != certificate.subject().as_raw()) {
            return Err(PairFault::Order(index.saturating_sub(1)));
        }
        let validity = certificate.validity();
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_millis(time.timestamp().saturating_mul(1_000))
        };
        // The last second is part of it (RFC 5280 section 4.1.2.5).
        let (from, to) = (at(validity.not_before), at(validity.not_after));
        if now < from || now >= to.plus_ms(1_000) {
            return Err(PairFault::Validity { index, from, to });
        }
        ends = ends.min(to);
        issuer = Some(certificate.issuer().as_raw().to_vec());
    }
    Ok(ends)
}

/// The one key of a file. What else may stand there would be sent with it.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PairFault> {
    let begins = text.windows(b"-----BEGIN".len()).filter(|window| window == b"-----BEGIN").count();
    if begins != 1 {
        return Err(PairFault::Key);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|_| PairFault::Key)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn now() -> Timestamp {
        "2026-06-27T12:00:00Z".parse().unwrap()
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = date_time_ymd(2026, 6, 1);
        params.not_after = date_time_ymd(2026, 7, 1);
        params
    }

    fn read(chain: &str, key: &str) -> Result<TlsPair, PairFault> {
        TlsPair::read(chain.as_bytes(), Zeroizing::new(key.as_bytes().to_vec()), now())
    }

    /// A leaf and its authority, and the leaf's key.
    fn chain(change: impl Fn(&mut CertificateParams)) -> ([String; 2], String) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = params("ca.test.example");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let mut leaf = params("gateway.test.example");
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        ([leaf.pem(), ca_pem], key.serialize_pem())
    }

    #[test]
    fn a_chain_with_its_key_is_read_and_the_key_is_not_shown() {
        let ([leaf, ca], key) = chain(|_| ());
        let pair = read(&format!("for people\n{leaf}{ca}"), &key).unwrap();
        assert_eq!(pair.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(!pair.chain_pem().contains("people"));
        assert_eq!(pair.key_pem(), key.as_bytes());
        assert_eq!(pair.not_after().to_string(), "2026-07-01T00:00:00Z");
        let shown = format!("{pair:?}");
        assert!(shown.contains("2026-07-01") && !shown.contains("PRIVATE") && shown.len() < 80, "{shown}");
        assert_ne!(read(&leaf, &key).unwrap().fingerprint(), pair.fingerprint());
    }

    #[test]
    fn what_no_server_could_use_is_refused() {
        let ([leaf, ca], key) = chain(|_| ());
        let (_, other) = chain(|_| ());
        let fault = |chain: &str, key: &str| read(chain, key).unwrap_err();
        assert_eq!(fault("", &key), PairFault::Chain);
        assert_eq!(
            fault(&format!("{leaf}{key}"), &key),
            PairFault::Chain,
            "a key would be sent to whoever connects"
        );
        assert_eq!(fault(&leaf.repeat(11), &key), PairFault::Chain);
        assert_eq!(fault(&format!("{ca}{leaf}"), &key), PairFault::Order(0));
        assert_eq!(fault(&leaf, &other), PairFault::Mismatch);
        assert_eq!(fault(&format!("{leaf}{ca}"), &ca), PairFault::Key);
        assert_eq!(fault(&leaf, &format!("{key}{other}")), PairFault::Key);
        assert_eq!(fault(&leaf, ""), PairFault::Key);
        let cut = pem::encode(&pem::Pem::new("CERTIFICATE", &pem::parse(&leaf).unwrap().contents()[..100]));
        assert_eq!(fault(&cut, &key), PairFault::Certificate(0));
    }

    #[test]
    fn a_chain_is_used_while_all_of_it_is_valid() {
        type Change = fn(&mut CertificateParams);
        let cases: [(Change, bool); 4] = [
            (|params| params.not_after = date_time_ymd(2026, 6, 27), false),
            (|params| params.not_before = date_time_ymd(2026, 6, 28), false),
            (|params| params.not_after = date_time_ymd(2026, 6, 28), true),
            (|params| params.not_before = date_time_ymd(2026, 6, 27), true),
        ];
        for (change, fits) in cases {
            let ([leaf, ca], key) = chain(change);
            match read(&format!("{leaf}{ca}"), &key) {
                Ok(_) => assert!(fits),
                Err(fault) => {
                    assert!(!fits && matches!(fault, PairFault::Validity { index: 0, .. }), "{fault}")
                }
            }
        }
    }
}
