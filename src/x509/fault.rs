//! Why a certificate is not accepted. Every reason has a stable code, because gateways count and auditors search them.

use thiserror::Error;

use super::der::NotDer;
use super::extension::Attribute;

macro_rules! faults {
    ($($(#[$meta:meta])* $variant:ident $(($($field:ty),+))?, $code:literal, $text:literal;)+) => {
        /// Why a certificate is not accepted as one of ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
        pub enum CertificateFault {
            $($(#[$meta])* #[error($text)] $variant $(($($field),+))?,)+
        }

        impl CertificateFault {
            /// Every code, in the order in which a certificate is checked.
            pub const CODES: &'static [&'static str] = &[$($code,)+];

            /// The stable code of the reason.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $code,)+ }
            }
        }
    };
}

faults! {
    /// Longer than any certificate of ours.
    TooLarge, "CREDENTIAL_TOO_LARGE", "the certificate is longer than 4096 bytes";
    /// Not DER, cut short, or with parts that a certificate does not have.
    Malformed, "CREDENTIAL_MALFORMED", "the certificate is not valid DER";
    /// Bytes follow the certificate.
    TrailingBytes, "CREDENTIAL_TRAILING_BYTES", "bytes follow the certificate";
    /// Not version 3 (RFC 5280 section 4.1.2.1).
    NotVersion3, "CREDENTIAL_NOT_X509_V3", "the certificate is not X.509 version 3";
    /// The serial does not have 16 bytes, the first 0x40 to 0x7F.
    Serial, "CREDENTIAL_BAD_SERIAL", "the serial number does not have the form of this service";
    /// Not ECDSA with SHA-256 or SHA-384.
    SignatureAlgorithm, "CREDENTIAL_UNSUPPORTED_SIGNATURE", "the signature algorithm is not one of this service";
    /// The two places that name the signature algorithm differ (RFC 5280 section 4.1.1.2).
    SignatureAlgorithmsDiffer, "CREDENTIAL_SIGNATURE_MISMATCH", "the inner and outer signature algorithms differ";
    /// The issuer's name is not that of an authority of this kind of service.
    IssuerName, "CREDENTIAL_FOREIGN_ISSUER", "the issuer is not named like an authority of this service";
    /// The dates are not in the form of RFC 5280 section 4.1.2.5, or the end is not after the start.
    Validity, "CREDENTIAL_BAD_VALIDITY", "the validity is not valid";
    /// Valid for longer than any certificate may be.
    Lifetime, "CREDENTIAL_LIFETIME_TOO_LONG", "the certificate is valid for longer than this service allows";
    /// The subject is not exactly one common name that is an id of its kind.
    Subject, "CREDENTIAL_BAD_SUBJECT", "the subject is not one common name with an id of this service";
    /// The public key is not P-256 or P-384 in its one encoding.
    PublicKey, "CREDENTIAL_UNSUPPORTED_KEY", "the public key is not P-256 or P-384";
    /// It says that it is a certification authority, or could be one.
    Authority, "CREDENTIAL_IS_AUTHORITY", "the certificate is that of an authority, not a leaf";
    /// A standard extension occurs twice.
    DuplicateExtension, "CREDENTIAL_DUPLICATE_EXTENSION", "an extension occurs twice";
    /// An attribute occurs twice.
    DuplicateAttribute(Attribute), "CREDENTIAL_DUPLICATE_ATTRIBUTE", "attribute {0} occurs twice";
    /// An extension that this kind of leaf does not have.
    UnknownExtension, "CREDENTIAL_UNKNOWN_EXTENSION", "the certificate has an extension that the format does not know";
    /// An attribute under our arc that this version does not have.
    UnknownAttribute(u8), "CREDENTIAL_UNKNOWN_ATTRIBUTE", "attribute .1.{0} is not known";
    /// An extension is critical that must not be, or the reverse.
    Criticality, "CREDENTIAL_WRONG_CRITICALITY", "an extension has the wrong criticality";
    /// A standard extension is missing.
    MissingExtension, "CREDENTIAL_MISSING_EXTENSION", "an extension is missing";
    /// The format version is not one that this reader knows; nothing else was read.
    UnknownVersion, "CREDENTIAL_UNKNOWN_VERSION", "the format version is not known";
    /// An attribute is missing that its kind of subject must have.
    MissingAttribute(Attribute), "CREDENTIAL_MISSING_ATTRIBUTE", "attribute {0} is missing";
    /// An attribute is present that its kind of subject must not have.
    UnexpectedAttribute(Attribute), "CREDENTIAL_UNEXPECTED_ATTRIBUTE", "attribute {0} must not be present here";
    /// The extensions are not in the order of the format.
    ExtensionOrder, "CREDENTIAL_EXTENSION_ORDER", "the extensions are not in the order of the format";
    /// An attribute is not the DER of one UTF8String.
    AttributeEncoding(Attribute), "CREDENTIAL_MALFORMED_ATTRIBUTE", "attribute {0} is not a DER UTF8String";
    /// An attribute's text is not the one spelling of a value.
    AttributeValue(Attribute), "CREDENTIAL_NONCANONICAL_ATTRIBUTE", "attribute {0} is not the one spelling of a value";
    /// The key usage is not exactly digitalSignature.
    KeyUsage, "CREDENTIAL_WRONG_KEY_USAGE", "the key usage is not exactly digitalSignature";
    /// The extended key usage is not exactly that of the subject's kind.
    ExtendedKeyUsage, "CREDENTIAL_WRONG_EXTENDED_KEY_USAGE", "the extended key usage is not the one of its kind";
    /// The authority key identifier is not one 20-byte identifier.
    AuthorityKeyIdentifier, "CREDENTIAL_BAD_AUTHORITY_KEY_ID", "the authority key identifier does not have its form";
    /// The subject alternative name is not one SPIFFE ID (and, for the server, its names).
    AlternativeName, "CREDENTIAL_BAD_NAME", "the subject alternative name does not have the form of the format";
    /// The SPIFFE ID is of another trust domain.
    TrustDomain, "CREDENTIAL_FOREIGN_TRUST_DOMAIN", "the SPIFFE ID is of another trust domain";
    /// The SPIFFE ID, the subject and the attributes do not name the same subject.
    SubjectMismatch, "CREDENTIAL_SUBJECT_MISMATCH", "name and attributes do not speak of the same subject";
    /// The CRL address is not the one of its authority and ordinal.
    DistributionPoint, "CREDENTIAL_WRONG_CRL_ADDRESS", "the CRL address is not the one of its authority and ordinal";
    /// No authority in the trust bundle has this name and key.
    ForeignAuthority, "CREDENTIAL_FOREIGN_AUTHORITY", "no trusted authority issued the certificate";
    /// The authority may not issue this kind of leaf, or is named with another kind.
    AuthorityKind, "CREDENTIAL_WRONG_AUTHORITY_KIND", "the authority does not issue this kind of certificate";
    /// Valid outside the validity of its authority.
    OutlivesAuthority, "CREDENTIAL_OUTLIVES_AUTHORITY", "the certificate is valid when its authority is not";
    /// The signature is not the authority's.
    BadSignature, "CREDENTIAL_BAD_SIGNATURE", "the signature is not the authority's";
    /// Its first instant has not come.
    NotYetValid, "CREDENTIAL_NOT_YET_VALID", "the certificate is not valid yet";
    /// Its last instant has passed.
    Expired, "CREDENTIAL_EXPIRED", "the certificate has expired";
}

impl From<NotDer> for CertificateFault {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}
