//! The key of a certificate's holder, made on the holder's machine, and the request that proves its possession.
//!
//! Used by the client library, the command line and tests; the service never sees the private half. The request
//! asks for nothing: the service would ignore it.

use std::fmt;

use thiserror::Error;

use super::key::{Curve, PublicKey};

/// A key could not be made, read or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the client key cannot be {action}")]
pub struct ClientKeyFault {
    /// What failed.
    pub action: &'static str,
}

/// A private key of a certificate's holder.
pub struct ClientKey {
    pair: rcgen::KeyPair,
    public: PublicKey,
}

impl ClientKey {
    /// Makes a new key.
    pub fn generate(curve: Curve) -> Result<Self, ClientKeyFault> {
        let pair = rcgen::KeyPair::generate_for(curve.rcgen())
            .map_err(|_| ClientKeyFault { action: "generated" })?;
        Self::new(pair)
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(text: &str) -> Result<Self, ClientKeyFault> {
        let pair = rcgen::KeyPair::from_pem(text).map_err(|_| ClientKeyFault { action: "read" })?;
        Self::new(pair)
    }

    /// Reads a key from PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, ClientKeyFault> {
        let pair = rcgen::KeyPair::try_from(der).map_err(|_| ClientKeyFault { action: "read" })?;
        Self::new(pair)
    }

    /// The private key as PKCS#8 PEM, for a file of mode 0600.
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// The private key as PKCS#8 DER, for rustls.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }

    /// The public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// A certificate request (RFC 2986), DER: no subject, no wishes, signed with the key.
    pub fn request(&self) -> Result<Vec<u8>, ClientKeyFault> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request =
            params.serialize_request(&self.pair).map_err(|_| ClientKeyFault { action: "used to sign" })?;
        Ok(request.der().to_vec())
    }

    fn new(pair: rcgen::KeyPair) -> Result<Self, ClientKeyFault> {
        use rcgen::PublicKeyData as _;
        let public = PublicKey::from_spki(&pair.subject_public_key_info())
            .map_err(|_| ClientKeyFault { action: "used: it is neither P-256 nor P-384" })?;
        Ok(Self { pair, public })
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({}, {})", self.public.curve().as_str(), self.public.digest())
    }
}
