//! Certificates as somebody with a stolen authority key would make them: what only the record can tell from good ones.

use std::sync::Arc;

use countersign::ca::{FileSigner, Issuer, Order, Signer as _, assemble};
use countersign::domain::certificate::{AuthorityKind, Facts, Serial};
use countersign::domain::id::Ordinal;
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::x509::{Authority, ClientKey, Content, Curve, RequestedKey};

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
        let content = Content {
            serial: Serial::from_random(SystemEntropy.bytes16()),
            ordinal: self.ordinal,
            not_before: self.not_before,
            not_after: self.not_after,
            facts: self.facts,
            names: Vec::new(),
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
