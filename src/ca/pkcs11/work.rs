//! What is asked of a token in one session: make, find, sign with and destroy a key.

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::fault::{TokenFault, fault};
use crate::ca::signer::{ED25519_PREFIX, SignatureAlgorithm};
use crate::domain::pkcs11::Pkcs11Uri;
use crate::x509::{Curve, PublicKey};

/// The named curves as CKA_EC_PARAMS has them: DER OBJECT IDENTIFIER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// Ed25519 as a PrintableString, which PKCS#11 3.0 allows and SoftHSM writes.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

/// A key on the token, as its public half tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// SubjectPublicKeyInfo, DER.
    pub(super) public_key: Vec<u8>,
    pub(super) algorithm: SignatureAlgorithm,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Make a key pair of this name that never leaves the token.
    Make(Pkcs11Uri, SignatureAlgorithm),
    /// Find the key of this name.
    Find(Pkcs11Uri),
    /// Sign a digest (ECDSA) or a message (Ed25519).
    Sign(Pkcs11Uri, SignatureAlgorithm, Vec<u8>),
    /// The labels of private keys.
    List,
    /// Call a key by another label.
    Rename(Pkcs11Uri, String),
    /// Destroy a key pair.
    Remove(Pkcs11Uri),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing to tell.
    Nothing,
    /// The key; none: there is none of that name.
    Key(Option<Found>),
    /// The signature as the token made it.
    Signature(Vec<u8>),
    /// Labels.
    Labels(Vec<String>),
}

pub(super) fn carry_out(session: &Session, work: &Work) -> Result<Done, TokenFault> {
    match work {
        Work::Make(name, algorithm) => make(session, name, *algorithm).map(|()| Done::Nothing),
        Work::Find(name) => find(session, name).map(Done::Key),
        Work::Sign(name, algorithm, input) => sign(session, name, *algorithm, input).map(Done::Signature),
        Work::List => labels(session).map(Done::Labels),
        Work::Rename(name, label) => rename(session, name, label).map(|()| Done::Nothing),
        Work::Remove(name) => remove(session, name).map(|()| Done::Nothing),
    }
}

fn said<T>(result: Result<T, Error>) -> Result<T, TokenFault> {
    result.map_err(|error| fault(&error))
}

fn template(class: ObjectClass, name: &Pkcs11Uri) -> Vec<Attribute> {
    let mut template = vec![Attribute::Token(true), Attribute::Class(class)];
    template.extend(name.object.iter().map(|label| Attribute::Label(label.as_bytes().to_vec())));
    template.extend(name.id.iter().map(|id| Attribute::Id(id.clone())));
    template
}

/// The one object of a class and name.
fn object(
    session: &Session,
    class: ObjectClass,
    name: &Pkcs11Uri,
) -> Result<Option<ObjectHandle>, TokenFault> {
    let found = said(session.find_objects(&template(class, name)))?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [..] => Err(TokenFault::Key(format!("several keys are {name}; name one by its id"))),
    }
}

fn make(session: &Session, name: &Pkcs11Uri, algorithm: SignatureAlgorithm) -> Result<(), TokenFault> {
    if object(session, ObjectClass::PRIVATE_KEY, name)?.is_some() {
        return Err(TokenFault::Key(format!("there is a key {name} already")));
    }
    let (mechanism, params, key_type) = match algorithm {
        SignatureAlgorithm::Ecdsa(Curve::P256) => (Mechanism::EccKeyPairGen, P256, KeyType::EC),
        SignatureAlgorithm::Ecdsa(Curve::P384) => (Mechanism::EccKeyPairGen, P384, KeyType::EC),
        SignatureAlgorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, ED25519, KeyType::EC_EDWARDS),
    };
    let mut public = template(ObjectClass::PUBLIC_KEY, name);
    public.extend([
        Attribute::Private(false),
        Attribute::KeyType(key_type),
        Attribute::EcParams(params.to_vec()),
        Attribute::Verify(true),
    ]);
    let mut private = template(ObjectClass::PRIVATE_KEY, name);
    private.extend([
        Attribute::Private(true),
        Attribute::KeyType(key_type),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]);
    said(session.generate_key_pair(&mechanism, &public, &private)).map(drop)
}

fn find(session: &Session, name: &Pkcs11Uri) -> Result<Option<Found>, TokenFault> {
    let Some(private) = object(session, ObjectClass::PRIVATE_KEY, name)? else { return Ok(None) };
    for attribute in said(session.get_attributes(private, &[AttributeType::Extractable]))? {
        if matches!(attribute, Attribute::Extractable(true)) {
            tracing::warn!(key = %name, "this key can be taken out of its token (CKA_EXTRACTABLE)");
        }
    }
    let missing = || TokenFault::Key(format!("the token has the private key {name} and not its public one"));
    let public = object(session, ObjectClass::PUBLIC_KEY, name)?.ok_or_else(missing)?;
    let (mut params, mut point) = (Vec::new(), Vec::new());
    for attribute in said(session.get_attributes(public, &[AttributeType::EcParams, AttributeType::EcPoint]))?
    {
        match attribute {
            Attribute::EcParams(value) => params = value,
            Attribute::EcPoint(value) => point = value,
            _ => {}
        }
    }
    let unknown = || TokenFault::Key(format!("the key {name} is neither P-256, P-384 nor Ed25519"));
    public_key(&params, &point).map(Some).ok_or_else(unknown)
}

fn public_key(params: &[u8], point: &[u8]) -> Option<Found> {
    let curve = match params {
        P256 => Some(Curve::P256),
        P384 => Some(Curve::P384),
        ED25519 | ED25519_NAME => None,
        _ => return None,
    };
    let point = unwrapped(point);
    let Some(curve) = curve else {
        let point: &[u8; 32] = point.try_into().ok()?;
        let public_key = [ED25519_PREFIX, point.as_slice()].concat();
        return Some(Found { public_key, algorithm: SignatureAlgorithm::Ed25519 });
    };
    let public = PublicKey::from_point(curve, point).ok()?;
    Some(Found { public_key: public.spki().to_vec(), algorithm: SignatureAlgorithm::Ecdsa(curve) })
}

/// CKA_EC_POINT is the point in an OCTET STRING; some tokens leave that out.
fn unwrapped(point: &[u8]) -> &[u8] {
    match point {
        [0x04, len, inner @ ..] if usize::from(*len) == inner.len() => inner,
        _ => point,
    }
}

fn sign(
    session: &Session,
    name: &Pkcs11Uri,
    algorithm: SignatureAlgorithm,
    input: &[u8],
) -> Result<Vec<u8>, TokenFault> {
    let key = object(session, ObjectClass::PRIVATE_KEY, name)?;
    // A key that was there and is not: the token's content is gone, as it is when somebody takes it away.
    let key = key.ok_or_else(|| TokenFault::Gone(format!("the key {name} is not on the token")))?;
    let mechanism = match algorithm {
        SignatureAlgorithm::Ecdsa(_) => Mechanism::Ecdsa,
        SignatureAlgorithm::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
    };
    said(session.sign(&mechanism, key, input))
}

fn labels(session: &Session) -> Result<Vec<String>, TokenFault> {
    let keys = said(session.find_objects(&template(ObjectClass::PRIVATE_KEY, &Pkcs11Uri::default())))?;
    let mut labels = Vec::new();
    for key in keys {
        for attribute in said(session.get_attributes(key, &[AttributeType::Label]))? {
            if let Attribute::Label(label) = attribute {
                labels.extend(String::from_utf8(label).ok());
            }
        }
    }
    Ok(labels)
}

fn rename(session: &Session, name: &Pkcs11Uri, label: &str) -> Result<(), TokenFault> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        if let Some(key) = object(session, class, name)? {
            said(session.update_attributes(key, &[Attribute::Label(label.as_bytes().to_vec())]))?;
        }
    }
    Ok(())
}

fn remove(session: &Session, name: &Pkcs11Uri) -> Result<(), TokenFault> {
    for class in [ObjectClass::PUBLIC_KEY, ObjectClass::PRIVATE_KEY] {
        if let Some(key) = object(session, class, name)? {
            said(session.destroy_object(key))?;
        }
    }
    Ok(())
}
