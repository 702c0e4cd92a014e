//! The agent's own certificate: renewed by its gate, kept in the identity's folder, and shown by every connection that
//! begins from then on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::files::{PRIVATE, replace};
use crate::client::{Identity, Renewal, TransportFault};

pub(super) struct Own {
    identity: ArcSwap<Identity>,
    certificate: PathBuf,
    key_pem: String,
}

impl Own {
    pub(super) fn new(
        certificate: PathBuf,
        chain_pem: &str,
        key_pem: String,
    ) -> Result<Self, TransportFault> {
        let identity = ArcSwap::from_pointee(Identity::from_pem(chain_pem, &key_pem)?);
        Ok(Self { identity, certificate, key_pem })
    }

    /// The newest.
    pub(super) fn identity(&self) -> Identity {
        self.identity.load().as_ref().clone()
    }

    /// Takes what is renewed.
    pub(super) fn renewal(self: &Arc<Self>) -> Renewal {
        let own = Arc::clone(self);
        Renewal::with(move |chain_pem| own.take(chain_pem))
    }

    fn take(&self, chain_pem: &str) -> io::Result<()> {
        let identity = Identity::from_pem(chain_pem, &self.key_pem).map_err(io::Error::other)?;
        let kept = replace(&self.certificate, chain_pem.as_bytes(), PRIVATE);
        kept.map_err(|refusal| io::Error::other(refusal.to_string()))?;
        self.identity.store(Arc::new(identity));
        tracing::info!("the agent's own certificate was renewed");
        Ok(())
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({})", self.certificate.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_renewed_is_kept_before_it_is_shown() {
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = || rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificate.pem");
        let (first, second) = (chain(), chain());
        let own = Own::new(path.clone(), &first, key.serialize_pem()).unwrap();
        own.take(&second).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), second);
        assert!(own.take("nonsense").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), second);
    }
}
