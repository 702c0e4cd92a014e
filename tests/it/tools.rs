//! What a [`World`](crate::world::World) is made with: signatures of officers, copies of folders.

use std::path::Path;

use countersign::x509::ClientKey;

/// A detached signature, as an officer's machine makes it.
pub(crate) fn sign(key: &ClientKey, prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    };
    let algorithm = match key.public_key().curve() {
        countersign::x509::Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        countersign::x509::Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &key.to_pkcs8()).unwrap();
    let message = [prefix, bytes].concat();
    pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &message).unwrap().as_ref().to_vec()
}

/// Copies a folder with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
