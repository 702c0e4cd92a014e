//! The trust bundle: the authorities that are trusted now, as one PEM file.
//!
//! The file holds the authorities' certificates, the roots that they stand beneath and cross-certificates, so it can be given
//! as it is to `openssl verify -CAfile`, Envoy, nginx and HAProxy, which want every certificate up to one that is
//! self-signed. Id and kind come from each certificate's subject (`OU=ACCESS, CN=aut_...`); the comment lines before the
//! blocks are for people, but for the first: `# PROFILE cnsa` says of which profile of algorithms the service is that wrote it.
//! Verifiers of ours trust the authorities and nothing for being beneath a root.

use std::fmt::Write as _;

use thiserror::Error;

use super::authority::{Authority, AuthorityFault};
use super::root::{CrossCertificate, Root, RootFault};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::{AuthorityId, Digest, RootId};
use crate::domain::root::{CROSS_CERTIFICATES_MAX, ROOTS_MAX};

/// The most authorities in a bundle: two of each kind during a rotation, with room for a careless decade.
pub const AUTHORITIES_MAX: usize = 64;
/// The longest bundle that is read: 64 certificates of 4 KiB in PEM, with comments.
pub const BUNDLE_LEN_MAX: usize = 512 * 1024;

/// Why a file is not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleFault {
    /// Longer than any bundle.
    #[error("the trust bundle is longer than 512 KiB")]
    TooLarge,
    /// Not PEM (RFC 7468).
    #[error("the trust bundle is not valid PEM")]
    NotPem,
    /// A block that is not a certificate: perhaps a key.
    #[error("block {index} of the trust bundle is not a CERTIFICATE")]
    WrongBlock {
        /// Which block, from 0.
        index: usize,
    },
    /// A certificate that is not an authority's.
    #[error("certificate {index} of the trust bundle: {fault}")]
    Authority {
        /// Which certificate, from 0.
        index: usize,
        /// What is wrong with it.
        fault: AuthorityFault,
    },
    /// Two certificates of one authority that are no cross-certificates of each other.
    #[error("authority {0} is in the trust bundle twice")]
    Duplicate(AuthorityId),
    /// An authority or a cross-certificate without the root that signed it.
    #[error("certificate {index} of the trust bundle is by root {root}, which is not in the bundle")]
    NoRoot {
        /// Which certificate, from 0.
        index: usize,
        /// The root.
        root: RootId,
    },
    /// A root did not sign what names it.
    #[error("certificate {index} of the trust bundle: {fault}")]
    Root {
        /// Which certificate, from 0.
        index: usize,
        /// What is wrong with it.
        fault: RootFault,
    },
    /// System authorities with both kinds of key, and no word of a profile of algorithms.
    #[error(
        "the trust bundle has system authorities with P-256 and with P-384 keys and does not say its profile; take the \
         operator's trust/system.pem anew"
    )]
    MixedProfiles,
    /// More than one profile of algorithms, or one that is unknown here.
    #[error(
        "the trust bundle says a profile that is neither standard nor cnsa, or two; take the operator's anew"
    )]
    WrongProfile,
    /// A key that the profile of algorithms does not take.
    #[error(
        "the trust bundle is of profile cnsa and has an authority whose key is not P-384; take the operator's trust/system.pem anew"
    )]
    NotCnsa,
    /// No authority.
    #[error("the trust bundle is empty")]
    Empty,
    /// Too many authorities.
    #[error("the trust bundle has more than 64 authorities, 8 roots and 16 cross-certificates")]
    TooMany,
}

/// The authorities that are trusted now, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    authorities: Vec<Authority>,
    roots: Vec<Root>,
    cross_certificates: Vec<Vec<u8>>,
    stated: Option<AlgorithmProfile>,
}

/// What begins the line that says the profile.
const PROFILE_LINE: &str = "# PROFILE ";

impl TrustBundle {
    /// A bundle of these authorities.
    pub fn new(mut authorities: Vec<Authority>) -> Result<Self, BundleFault> {
        authorities.sort_by_key(Authority::id);
        if authorities.is_empty() {
            return Err(BundleFault::Empty);
        }
        if authorities.len() > AUTHORITIES_MAX {
            return Err(BundleFault::TooMany);
        }
        for pair in authorities.windows(2) {
            if let [first, second] = pair
                && first.id() == second.id()
            {
                return Err(BundleFault::Duplicate(first.id()));
            }
        }
        Ok(Self { authorities, roots: Vec::new(), cross_certificates: Vec::new(), stated: None })
    }

    /// The bundle with these roots and certificates by other roots, for who verifies up to a root.
    pub fn with_roots(mut self, mut roots: Vec<Root>, cross_certificates: Vec<Vec<u8>>) -> Self {
        roots.sort_by_key(Root::id);
        (self.roots, self.cross_certificates) = (roots, cross_certificates);
        self
    }

    /// The bundle as one of a service of this profile of algorithms.
    #[must_use]
    pub const fn stating(mut self, algorithms: AlgorithmProfile) -> Self {
        self.stated = Some(algorithms);
        self
    }

    /// The profile of algorithms that it says; none: it was written by a service that did not say so yet.
    pub const fn stated(&self) -> Option<AlgorithmProfile> {
        self.stated
    }

    /// Reads a bundle; every certificate in it must be an authority of this service.
    pub fn from_pem(text: &str) -> Result<Self, BundleFault> {
        if text.len() > BUNDLE_LEN_MAX {
            return Err(BundleFault::TooLarge);
        }
        let blocks = pem::parse_many(text).map_err(|_| BundleFault::NotPem)?;
        // The parser skips what it cannot read; a certificate that silently vanished would be a silent distrust.
        if blocks.len() != text.matches("-----BEGIN ").count() {
            return Err(BundleFault::NotPem);
        }
        let mut parts = Parts::default();
        for (index, block) in blocks.iter().enumerate() {
            if block.tag() != "CERTIFICATE" {
                return Err(BundleFault::WrongBlock { index });
            }
            parts.take(index, block.contents())?;
        }
        let bundle = parts.into_bundle()?;
        Ok(Self { stated: stated(text)?, ..bundle })
    }

    /// Writes the bundle, the same bytes for the same authorities.
    pub fn to_pem(&self) -> String {
        let mut out = String::new();
        if let Some(algorithms) = self.stated {
            let _ = writeln!(out, "{PROFILE_LINE}{algorithms}");
        }
        for authority in &self.authorities {
            // Writing to a String cannot fail.
            let _ =
                writeln!(out, "# {} {}, until {}", authority.kind(), authority.id(), authority.not_after());
            out.push_str(&certificate_pem(authority.der()));
        }
        out.push_str(&self.roots_pem());
        out
    }

    /// Roots and cross-certificates alone.
    pub fn roots_pem(&self) -> String {
        let mut out = String::new();
        for root in &self.roots {
            let _ = writeln!(out, "# ROOT {}, until {}", root.id(), root.certificate().not_after());
            out.push_str(&certificate_pem(root.certificate().der()));
        }
        for cross in &self.cross_certificates {
            out.push_str("# CROSS-CERTIFICATE\n");
            out.push_str(&certificate_pem(cross));
        }
        out
    }

    /// The authority with this id.
    pub fn find(&self, id: AuthorityId) -> Option<&Authority> {
        let place = self.authorities.binary_search_by_key(&id, Authority::id).ok()?;
        self.authorities.get(place)
    }

    /// All authorities, in the order of their ids.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The roots, in the order of their ids.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Certificates by other roots (DER).
    pub fn cross_certificates(&self) -> &[Vec<u8>] {
        &self.cross_certificates
    }

    /// The profile of algorithms of the service whose bundle this is, as it says: what a client pins says what it may offer, and
    /// nothing that a server sends can talk it down. A bundle of before, which says none, is judged by the keys of its system
    /// authorities, and strictly: if they are P-384 it is taken for one of `cnsa`.
    ///
    /// # Errors
    /// A key that the profile does not take, or no word of a profile and keys of both kinds.
    pub fn algorithms(&self) -> Result<AlgorithmProfile, BundleFault> {
        match self.stated {
            Some(AlgorithmProfile::Standard) => return Ok(AlgorithmProfile::Standard),
            Some(AlgorithmProfile::Cnsa) if self.is_all_of(AlgorithmProfile::Cnsa) => {
                return Ok(AlgorithmProfile::Cnsa);
            }
            Some(AlgorithmProfile::Cnsa) => return Err(BundleFault::NotCnsa),
            None => {}
        }
        let systems = self.authorities.iter().filter(|authority| authority.kind() == AuthorityKind::System);
        let is_cnsa: Vec<_> = systems.map(|one| AlgorithmProfile::Cnsa.accepts(one.key().spki())).collect();
        match (is_cnsa.contains(&true), is_cnsa.contains(&false)) {
            (true, true) => Err(BundleFault::MixedProfiles),
            (true, false) => Ok(AlgorithmProfile::Cnsa),
            (false, _) => Ok(AlgorithmProfile::Standard),
        }
    }

    /// Does the profile take every key in it?
    fn is_all_of(&self, algorithms: AlgorithmProfile) -> bool {
        let authorities = self.authorities.iter().map(Authority::key);
        let mut keys = authorities.chain(self.roots.iter().map(|root| root.certificate().key()));
        keys.all(|key| algorithms.accepts(key.spki()))
    }

    /// SHA-256 over the fingerprints: names this state of trust, for caches.
    pub fn digest(&self) -> Digest {
        let authorities = self.authorities.iter().map(Authority::fingerprint);
        let roots = self.roots.iter().map(|root| root.certificate().fingerprint());
        let crosses = self.cross_certificates.iter().map(|der| Digest::of(der));
        let fingerprints: Vec<u8> = authorities.chain(roots).chain(crosses).flat_map(|hash| hash.0).collect();
        Digest::of(&fingerprints)
    }
}

/// The profile that the lines of a bundle say: the same, however often.
fn stated(text: &str) -> Result<Option<AlgorithmProfile>, BundleFault> {
    let words = text.lines().filter_map(|line| line.strip_prefix(PROFILE_LINE));
    let mut said = words.map(|word| word.trim_end().parse().map_err(|_| BundleFault::WrongProfile));
    let Some(first) = said.next().transpose()? else { return Ok(None) };
    match said.all(|other| other == Ok(first)) {
        true => Ok(Some(first)),
        false => Err(BundleFault::WrongProfile),
    }
}

/// What was read of a bundle, with the place of each certificate.
#[derive(Default)]
struct Parts {
    authorities: Vec<(usize, Authority)>,
    roots: Vec<Root>,
    crosses: Vec<(usize, CrossCertificate)>,
}

impl Parts {
    fn take(&mut self, index: usize, der: &[u8]) -> Result<(), BundleFault> {
        if let Ok(root) = Root::from_der(der) {
            self.roots.push(root);
        } else if let Ok(cross) = CrossCertificate::from_der(der) {
            self.crosses.push((index, cross));
        } else {
            let read = Authority::from_der(der);
            let authority = read.map_err(|fault| BundleFault::Authority { index, fault })?;
            self.authorities.push((index, authority));
        }
        let is_bounded = self.authorities.len() <= AUTHORITIES_MAX + CROSS_CERTIFICATES_MAX
            && self.roots.len() <= ROOTS_MAX
            && self.crosses.len() <= CROSS_CERTIFICATES_MAX;
        if is_bounded { Ok(()) } else { Err(BundleFault::TooMany) }
    }

    /// Every certificate that names a root was signed by it.
    fn into_bundle(self) -> Result<TrustBundle, BundleFault> {
        for (index, authority) in &self.authorities {
            if let Some(parent) = authority.parent() {
                let root = self.root(*index, parent.root)?;
                root.check_issued(authority).map_err(|fault| BundleFault::Root { index: *index, fault })?;
            }
        }
        for (index, cross) in &self.crosses {
            let root = self.root(*index, cross.issuer())?;
            root.check_cross(cross).map_err(|fault| BundleFault::Root { index: *index, fault })?;
        }
        // The first certificate of an authority is its own; another with its key, by another root, is one beside it.
        let mut own: Vec<Authority> = Vec::new();
        let mut crosses: Vec<_> =
            self.crosses.iter().map(|(_, cross)| cross.certificate().der().to_vec()).collect();
        for (_, authority) in self.authorities {
            let beside = own.iter().any(|other| is_beside(other, &authority));
            if beside { crosses.push(authority.der().to_vec()) } else { own.push(authority) }
        }
        Ok(TrustBundle::new(own)?.with_roots(self.roots, crosses))
    }

    fn root(&self, index: usize, id: RootId) -> Result<&Root, BundleFault> {
        let found = self.roots.iter().find(|root| root.id() == id);
        found.ok_or(BundleFault::NoRoot { index, root: id })
    }
}

/// Is the second another certificate of the first, by another root?
fn is_beside(own: &Authority, other: &Authority) -> bool {
    let parent = |authority: &Authority| authority.parent().map(|parent| parent.root);
    (own.id(), own.kind(), own.key()) == (other.id(), other.kind(), other.key())
        && other.parent().is_some()
        && parent(own) != parent(other)
}

/// One certificate as a PEM block (RFC 7468), with line feeds.
pub fn certificate_pem(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// One revocation list, likewise.
pub fn crl_pem(der: &[u8]) -> String {
    block("X509 CRL", der)
}

fn block(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}
