//! Certificates as somebody with a stolen authority key would make them: what only the record can tell from good ones.

use std::sync::Arc;

use countersign::ca::{FileSigner, Issuer, Order, Signer as _, assemble};
use countersign::domain::certificate::{AuthorityKind, Facts, PrincipalKind, Serial};
use countersign::domain::id::Ordinal;
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::x509::{Authority, ClientKey, Content, Curve, RequestedKey, ServerName};

use crate::world::World;

/// What a forged certificate states.
pub(crate) struct Forgery {
    pub(crate) facts: Facts,
    pub(crate) ordinal: Ordinal,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Forgery {
    /// What a good certificate states.
    pub(crate) fn of(world: &World, certificate: &[u8]) -> Self {
        let read = world.read(certificate);
        Self {
            facts: read.facts.clone(),
            ordinal: read.ordinal,
            not_before: read.not_before,
            not_after: read.not_after,
        }
    }

    /// Signs it with the service's own key.
    pub(crate) fn sign(self, world: &World, key: &ClientKey) -> Vec<u8> {
        let kind = match &self.facts {
            Facts::Access(_) | Facts::Canary(_) => AuthorityKind::Access,
            Facts::System(_) => AuthorityKind::System,
        };
        let app = world.running().app();
        let authority = Authority::from_der(&app.state().authority(kind).unwrap().certificate).unwrap();
        let signer = Arc::new(signer(world, kind));
        let issuer = Issuer::new(authority, app.profile().clone(), signer).unwrap();
        let is_server = matches!(&self.facts, Facts::System(facts) if facts.kind == PrincipalKind::Server);
        let names = if is_server { vec![ServerName::dns("localhost").unwrap()] } else { Vec::new() };
        let content = Content {
            serial: Serial::from_random(SystemEntropy.bytes16()),
            ordinal: self.ordinal,
            not_before: self.not_before,
            not_after: self.not_after,
            facts: self.facts,
            names,
        };
        let key = RequestedKey::from_csr(&key.request().unwrap()).unwrap();
        let prepared = issuer.prepare(&Order { content, key }, self.not_before).unwrap();
        issuer.sign(prepared).unwrap().der
    }
}

/// Whole seconds, as certificates have them.
pub(crate) fn seconds(world: &World, ahead_s: i64) -> Timestamp {
    Timestamp::from_millis((world.clock.now().seconds() + ahead_s) * 1_000)
}

fn signer(world: &World, kind: AuthorityKind) -> FileSigner {
    let name = match kind {
        AuthorityKind::Access => "access.pem",
        AuthorityKind::System => "system.pem",
    };
    FileSigner::load(&world.dir.path().join("keys").join(name)).unwrap()
}

/// The same certificate with other extensions, signed anew with the access key: only the strict parser refuses it.
pub(crate) fn with_extensions(
    world: &World,
    certificate: &[u8],
    change: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>,
) -> Vec<u8> {
    let mut fields = split(&split(certificate)[0]);
    let extensions = fields.pop().unwrap();
    let changed = change(split(&split(&extensions)[0]));
    fields.push(wrap(0xa3, &wrap(0x30, &changed.concat())));
    let tbs = wrap(0x30, &fields.concat());
    let signature = signer(world, AuthorityKind::Access).sign(&tbs).unwrap();
    assemble(&tbs, Curve::P256, &signature)
}

/// The same certificate as the other authority would have issued it: its name, key, list and signature instead of those of the
/// one that did, taken from a certificate of its own (`donor`).
pub(crate) fn by_other_authority(world: &World, certificate: &[u8], donor: &[u8]) -> Vec<u8> {
    let (mut fields, theirs) = (split(&split(certificate)[0]), split(&split(donor)[0]));
    fields[ISSUER].clone_from(&theirs[ISSUER]);
    let of = |fields: &[Vec<u8>]| split(&split(fields.last().unwrap())[0]);
    let (own, theirs) = (of(&fields), of(&theirs));
    let moved = own.iter().map(|extension| {
        let oid = &split(extension)[0];
        let names_authority = [AUTHORITY_KEY, CRL_POINTS].contains(&oid.as_slice());
        match theirs.iter().find(|other| names_authority && split(other)[0] == *oid) {
            Some(other) => other.clone(),
            None => extension.clone(),
        }
    });
    let extensions = moved.collect::<Vec<_>>().concat();
    *fields.last_mut().unwrap() = wrap(0xa3, &wrap(0x30, &extensions));
    let tbs = wrap(0x30, &fields.concat());
    let kind = match &world.read(donor).facts {
        Facts::Access(_) | Facts::Canary(_) => AuthorityKind::Access,
        Facts::System(_) => AuthorityKind::System,
    };
    assemble(&tbs, Curve::P256, &signer(world, kind).sign(&tbs).unwrap())
}

/// Where the issuer stands among the signed fields of a certificate: version, serial, algorithm, issuer.
const ISSUER: usize = 3;
/// The OIDs of the two extensions that name an authority, encoded.
const AUTHORITY_KEY: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x23];
const CRL_POINTS: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x1f];

/// The elements inside an element of DER, each with its head.
fn split(der: &[u8]) -> Vec<Vec<u8>> {
    let (header, length) = head(der);
    let mut inside = &der[header..header + length];
    let mut found = Vec::new();
    while !inside.is_empty() {
        let (header, length) = head(inside);
        let (raw, rest) = inside.split_at(header + length);
        found.push(raw.to_vec());
        inside = rest;
    }
    found
}

/// How long the head of an element is, and how long its content.
fn head(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let length = der[2..2 + count].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            (2 + count, length)
        }
    }
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).unwrap()),
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..];
            out.push(0x80 | u8::try_from(bytes.len()).unwrap());
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}
