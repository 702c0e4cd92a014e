//! The signed head: what the log key vouches for, so that a verifier who kept one notices a forked or shortened log.
//!
//! Nothing here holds a key: signing goes through a port, verifying takes the public key. The bytes to be signed are
//! fixed and begin with a domain of their own, so the signature means nothing anywhere else.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use minicbor::{Decode, Encode};
use thiserror::Error;

use super::id::{Digest, Epoch, Seq};
use super::time::Timestamp;

/// What the signed bytes begin with.
pub const DOMAIN: &[u8] = b"countersign head v1\0";
const SNAPSHOT_DOMAIN: &[u8] = b"countersign snapshot v1\0";
/// The length of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_LEN: usize = 64;
/// The length of an Ed25519 public key (RFC 8032).
pub const PUBLIC_KEY_LEN: usize = 32;

/// A head and the log key's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedHead {
    /// The epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// The last record.
    #[n(1)]
    pub seq: Seq,
    /// The Merkle tree hash over records 1 to `seq`.
    #[n(2)]
    pub root: Digest,
    /// When it was signed.
    #[n(3)]
    pub time: Timestamp,
    /// SHA-256 of the raw public key: which log key signed.
    #[n(4)]
    pub key: Digest,
    /// Ed25519 over [`SignedHead::to_be_signed`].
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: [u8; SIGNATURE_LEN],
}

/// Whoever holds the log key.
pub trait HeadSigner: Send + Sync {
    /// SHA-256 of the raw public key.
    fn key(&self) -> Digest;
    /// Ed25519 over the message.
    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], HeadError>;
}

/// Why a head could not be signed or is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The signer failed.
    #[error("the log key cannot sign: {0}")]
    Signer(String),
    /// Signed with another key.
    #[error("the head is signed with key {have}, not {want}")]
    WrongKey {
        /// The key it names.
        have: Digest,
        /// The key that was expected.
        want: Digest,
    },
    /// The signature is not one over this head.
    #[error("the signature of the head is wrong")]
    BadSignature,
    /// An older head than one that was signed before, or another one for the same record: history was lost or forked.
    #[error(
        "a signed head at record {seq} of epoch {epoch}, where record {last_seq} of epoch {last_epoch} was signed before"
    )]
    Behind {
        /// The epoch of the head.
        epoch: Epoch,
        /// Its record.
        seq: Seq,
        /// The epoch that was signed before.
        last_epoch: Epoch,
        /// The record that was signed before.
        last_seq: Seq,
    },
}

impl SignedHead {
    /// Signs the tree hash over records 1 to `seq` of an epoch, as of `time`.
    ///
    /// # Errors
    /// The signer failed.
    pub fn sign(
        (epoch, seq, root): (Epoch, Seq, Digest),
        time: Timestamp,
        signer: &dyn HeadSigner,
    ) -> Result<Self, HeadError> {
        let key = signer.key();
        let unsigned = Self { epoch, seq, root, time, key, signature: [0; SIGNATURE_LEN] };
        let signature = signer.sign(&unsigned.to_be_signed())?;
        Ok(Self { signature, ..unsigned })
    }

    /// The canonical bytes, integers big-endian: domain, epoch u64, seq u64, root 32 bytes, time i64 (ms since 1970),
    /// key 32 bytes.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DOMAIN.len() + 88);
        out.extend_from_slice(DOMAIN);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.seq.0.to_be_bytes());
        out.extend_from_slice(&self.root.0);
        out.extend_from_slice(&self.time.millis().to_be_bytes());
        out.extend_from_slice(&self.key.0);
        out
    }

    /// Believes the head only if this public key signed it.
    pub fn verify(&self, public_key: &[u8; PUBLIC_KEY_LEN]) -> Result<(), HeadError> {
        let want = Digest::of(public_key);
        if self.key != want {
            return Err(HeadError::WrongKey { have: self.key, want });
        }
        let key = UnparsedPublicKey::new(&ED25519, public_key);
        key.verify(&self.to_be_signed(), &self.signature).map_err(|_| HeadError::BadSignature)
    }

    /// Can this head come after one that was seen before? It is not behind it, and where it is at the same record it
    /// names the same tree.
    pub fn follows(&self, last: &Self) -> Result<(), HeadError> {
        let (have, want) = ((self.epoch, self.seq), (last.epoch, last.seq));
        if have < want || (have == want && self.root != last.root) {
            let (epoch, seq, last_epoch, last_seq) = (self.epoch, self.seq, last.epoch, last.seq);
            return Err(HeadError::Behind { epoch, seq, last_epoch, last_seq });
        }
        Ok(())
    }
}

/// What the log key signs of a snapshot of the state: domain, the record it reflects u64 big-endian, SHA-256 of its bytes.
pub fn snapshot_statement(at: Seq, hash: &Digest) -> Vec<u8> {
    [SNAPSHOT_DOMAIN, &at.0.to_be_bytes(), &hash.0].concat()
}

/// Did this log key sign the snapshot?
pub fn is_snapshot_signed(
    public_key: &[u8; PUBLIC_KEY_LEN],
    at: Seq,
    hash: &Digest,
    signature: &[u8],
) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    key.verify(&snapshot_statement(at, hash), signature).is_ok()
}

/// A log key in memory.
impl HeadSigner for Ed25519KeyPair {
    fn key(&self) -> Digest {
        Digest::of(self.public_key().as_ref())
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], HeadError> {
        let signature = self.try_sign(message).map_err(|error| HeadError::Signer(error.to_string()))?;
        let wrong_length = |_| HeadError::Signer("the signature has another length".into());
        signature.as_ref().try_into().map_err(wrong_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> (Ed25519KeyPair, [u8; 32]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, public)
    }

    fn signed() -> SignedHead {
        let head = (Epoch(1), Seq(2), Digest([7; 32]));
        SignedHead::sign(head, Timestamp::from_millis(4), &key(1).0).unwrap()
    }

    #[test]
    fn signed_bytes_are_pinned() {
        let head = signed();
        let fields = format!("{:016x}{:016x}{}{:016x}{}", 1, 2, "07".repeat(32), 4, head.key);
        assert_eq!(hex::encode(head.to_be_signed()), hex::encode(b"countersign head v1\0") + &fields);
    }

    #[test]
    fn head_is_believed_only_as_it_was_signed() {
        let head = signed();
        assert_eq!(head.verify(&key(1).1), Ok(()));
        assert!(matches!(head.verify(&key(2).1), Err(HeadError::WrongKey { .. })));
        let changed = [
            SignedHead { epoch: Epoch(2), ..head.clone() },
            SignedHead { seq: Seq(3), ..head.clone() },
            SignedHead { root: Digest([8; 32]), ..head.clone() },
            SignedHead { time: Timestamp::from_millis(5), ..head.clone() },
            SignedHead { signature: [0; 64], ..head.clone() },
        ];
        for head in changed {
            assert_eq!(head.verify(&key(1).1), Err(HeadError::BadSignature));
        }
    }

    #[test]
    fn a_head_follows_only_what_is_not_ahead_of_it() {
        let last = signed();
        let at = |epoch, seq, root| SignedHead {
            epoch: Epoch(epoch),
            seq: Seq(seq),
            root: Digest([root; 32]),
            ..last.clone()
        };
        for head in [at(1, 2, 7), at(1, 3, 8), at(2, 1, 8)] {
            assert_eq!(head.follows(&last), Ok(()), "{head:?}");
        }
        for head in [at(1, 1, 7), at(1, 2, 8), at(0, 3, 7)] {
            assert!(matches!(head.follows(&last), Err(HeadError::Behind { .. })), "{head:?}");
        }
    }

    #[test]
    fn signed_head_survives_its_encoding() {
        let head = signed();
        let bytes = minicbor::to_vec(&head).unwrap();
        assert_eq!(minicbor::decode::<SignedHead>(&bytes).unwrap(), head);
    }
}
