//! A gate learns new system authorities from the feed, and never another profile of algorithms than it was configured with.

use std::sync::Arc;

use crate::ca::bootstrap::{NewAuthority, authority};
use crate::ca::{FileSigner, SignatureAlgorithm};
use crate::client::trust::system_pem;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::authority::{AuthorityCard, AuthorityState};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::enforce::EnforcementSet;
use crate::domain::id::AuthorityId;
use crate::domain::tests::fixtures::sample;
use crate::feed::tests::world::NOW;
use crate::x509::{Curve, TrustBundle};

fn set(curves: &[Curve]) -> EnforcementSet {
    let mut set = EnforcementSet::new(Arc::new(sample()));
    let folder = tempfile::tempdir().unwrap();
    for (place, curve) in (1_u8..).zip(curves) {
        let path = folder.path().join(place.to_string());
        let signer = FileSigner::create(&path, SignatureAlgorithm::Ecdsa(*curve)).unwrap();
        let (id, kind) = (AuthorityId::from_bytes([place; 16]), AuthorityKind::System);
        let not_after = NOW.plus_ms(365 * 86_400_000);
        let new = NewAuthority { id, kind, serial: Serial::from_random([place; 16]), not_after };
        let certificate = authority(&signer, &new, AlgorithmProfile::Standard, NOW).unwrap().der().to_vec();
        let card = AuthorityCard { id, kind, state: AuthorityState::Active, certificate };
        set.authorities.insert(id, Arc::new(card));
    }
    set
}

#[test]
fn what_is_learnt_is_of_the_profile_that_is_configured() {
    use AlgorithmProfile::{Cnsa, Standard};
    let learnt = |curves: &[Curve], algorithms| system_pem(&set(curves), algorithms).map(|pem| pem.is_some());
    assert_eq!(learnt(&[Curve::P384, Curve::P384], Cnsa), Ok(true));
    assert_eq!(learnt(&[Curve::P256], Standard), Ok(true));
    assert_eq!(learnt(&[], Cnsa), Ok(false));
    // A standard service may have either kind of key, and both while it goes from one to the other.
    for curves in [[Curve::P384].as_slice(), &[Curve::P256, Curve::P384]] {
        let pem = system_pem(&set(curves), Standard).unwrap().unwrap();
        assert_eq!(TrustBundle::from_pem(&pem).unwrap().algorithms(), Ok(Standard), "{pem}");
    }
    for curves in [[Curve::P256].as_slice(), &[Curve::P384, Curve::P256]] {
        let fault = learnt(curves, Cnsa).unwrap_err();
        assert!(fault.contains("of profile cnsa and has an authority whose key is not P-384"), "{fault}");
    }
}
