//! The agent's two canaries: keys that it makes and keeps, certificates that the service issues for them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::files::{self, PRIVATE};
use super::set::TrustSet;
use crate::domain::certificate::{CanarySide, Facts, Serial};
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;
use crate::pb;
use crate::pb::attestation_service_client::AttestationServiceClient;
use crate::x509::{ClientKey, Curve, Profile, chain_pem, parse};

/// How long the service may take: it may wait 15 s for ordinals.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(40);

/// A certificate that the proxy accepts at TLS, unless its list names it, and lets do nothing.
#[derive(Debug)]
pub(super) struct Canary {
    pub(super) side: CanarySide,
    pub(super) serial: Serial,
    /// The certificate, DER.
    pub(super) certificate: Vec<u8>,
    /// What is shown with it, DER: its authority, when that stands beneath a root, and cross-certificates.
    pub(super) above: Vec<Vec<u8>>,
    /// Its key, PKCS#8.
    pub(super) key: Vec<u8>,
    issuer: AuthorityId,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Both.
#[derive(Debug)]
pub(super) struct Canaries {
    pub(super) a: Canary,
    pub(super) b: Canary,
}

impl Canaries {
    /// The one that a set names and the other; none when it names both or neither.
    pub(super) fn of(&self, set: &TrustSet) -> Option<(&Canary, &Canary)> {
        match [&self.a, &self.b].map(|canary| set.listed.contains(&canary.serial)) {
            [true, false] => Some((&self.a, &self.b)),
            [false, true] => Some((&self.b, &self.a)),
            [true, true] | [false, false] => None,
        }
    }

    /// Does a set let neither in whatever it lists? Their authority was stopped or revoked.
    pub(super) fn are_shut_out(&self, set: &TrustSet) -> bool {
        [&self.a, &self.b].iter().any(|canary| !set.issuers.contains(&canary.issuer))
    }

    /// Is 70 % of the life of one of them over?
    pub(super) fn are_old(&self, now: Timestamp) -> bool {
        [&self.a, &self.b].iter().any(|canary| {
            let life = canary.not_after.millis() - canary.not_before.millis();
            now >= canary.not_before.plus_ms(life / 10 * 7)
        })
    }
}

/// Where the keys are kept, so that an agent that starts again has the certificates that it had.
pub(super) struct Nest {
    folder: PathBuf,
    profile: Profile,
}

impl Nest {
    pub(super) fn at(folder: &Path, profile: Profile) -> Self {
        Self { folder: folder.to_owned(), profile }
    }

    /// The canaries with the keys that are kept, or with new ones where there are none.
    pub(super) async fn fetch(&self, channel: &Channel) -> Result<Canaries, String> {
        let (a, b) = (self.key(CanarySide::A).await?, self.key(CanarySide::B).await?);
        self.issue(channel, a, b).await
    }

    /// New ones, with new keys.
    pub(super) async fn renew(&self, channel: &Channel) -> Result<Canaries, String> {
        let (a, b) = (self.new_key(CanarySide::A).await?, self.new_key(CanarySide::B).await?);
        self.issue(channel, a, b).await
    }

    fn path(&self, side: CanarySide) -> PathBuf {
        self.folder.join(format!("canary-{side}.key"))
    }

    async fn key(&self, side: CanarySide) -> Result<ClientKey, String> {
        match files::read(&self.path(side)).await.map_err(|refusal| refusal.to_string())? {
            Some(text) => ClientKey::from_pem(&text)
                .map_err(|fault| format!("{}: {fault}; remove it", self.path(side).display())),
            None => self.new_key(side).await,
        }
    }

    async fn new_key(&self, side: CanarySide) -> Result<ClientKey, String> {
        let key = ClientKey::generate(Curve::of_profile(self.profile.algorithms()))
            .map_err(|fault| fault.to_string())?;
        let written = files::write(&self.path(side), &key.to_pem(), PRIVATE).await;
        written.map_err(|refusal| refusal.to_string())?;
        Ok(key)
    }

    async fn issue(&self, channel: &Channel, a: ClientKey, b: ClientKey) -> Result<Canaries, String> {
        let csr = |key: &ClientKey| key.request().map(Into::into).map_err(|fault| fault.to_string());
        let request = pb::IssueCanariesRequest { csr_a: csr(&a)?, csr_b: csr(&b)? };
        let mut client = AttestationServiceClient::new(channel.clone());
        let issued = timeout(ISSUE_TIMEOUT, client.issue_canaries(request)).await;
        let issued = issued.map_err(|_| "no canaries were issued in time".to_owned())?;
        let issued = issued.map_err(|status| format!("no canaries: {}", status.message()))?.into_inner();
        Ok(Canaries {
            a: self.canary(CanarySide::A, (&issued.certificate_a, &issued.chain_a), &a)?,
            b: self.canary(CanarySide::B, (&issued.certificate_b, &issued.chain_b), &b)?,
        })
    }

    fn canary(
        &self,
        side: CanarySide,
        (der, above): (&[u8], &[Bytes]),
        key: &ClientKey,
    ) -> Result<Canary, String> {
        let wrong = |fault: &dyn fmt::Display| format!("the canary that was issued: {fault}");
        let leaf = parse(der, &self.profile).map_err(|fault| wrong(&fault))?;
        // One certificate that does not belong there could make every handshake fail.
        chain_pem(der, above).map_err(|fault| wrong(&fault))?;
        match leaf.facts() {
            Facts::Canary(facts) if facts.side == side && leaf.spki() == key.public_key().spki() => {
                Ok(Canary {
                    side,
                    serial: leaf.serial(),
                    certificate: der.to_vec(),
                    above: above.iter().map(|der| der.to_vec()).collect(),
                    key: key.to_pkcs8(),
                    issuer: leaf.issuer(),
                    not_before: leaf.not_before(),
                    not_after: leaf.not_after(),
                })
            }
            _ => Err("what was issued is not a canary for this key".to_owned()),
        }
    }
}
