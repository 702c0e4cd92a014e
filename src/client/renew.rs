//! The gate's own certificate: a new one for the same key when 70 % of its life is over, without losing the lease.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use rustls::pki_types::CertificateDer;
use tonic::transport::Channel;

use super::keep::replace;
use super::transport::Identity;
use crate::domain::authority::AuthorityCard;
use crate::domain::id::AuthorityId;
use crate::domain::time::Timestamp;
use crate::env::{Clock, Entropy};
use crate::pb;
use crate::pb::attestation_service_client::AttestationServiceClient;
use crate::x509::{ClientKey, Profile, chain_pem, parse};

/// When it is renewed: after seven tenths of its life, and up to a twentieth of it later, so that gateways that were
/// registered together do not come together.
const AGE: (i64, i64) = (7, 10);
const JITTER: i64 = 20;
/// Over how long renewals are spread when the authority is to be replaced: all of its gateways learn that at once.
const REPLACED_MS: u64 = 60_000;
/// The first pause after a failure, and the longest: it doubles, and half of it is random.
const PAUSE_MIN_MS: u64 = 60_000;
const PAUSE_MAX_MS: u64 = 3_600_000;
/// How long the answer may take.
const CALL_TIMEOUT_MS: u64 = 10_000;

type Save = dyn Fn(&str) -> io::Result<()> + Send + Sync;

/// The gate renews its certificate by itself. The key stays the same.
#[derive(Clone)]
pub struct Renewal {
    save: Arc<Save>,
}

impl Renewal {
    /// Hands over each new chain, PEM, leaf first. It is used once it is kept: an error is tried again later.
    pub fn with(save: impl Fn(&str) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { save: Arc::new(save) }
    }

    /// Replaces the file of the chain in one piece; the file of the key stays as it is.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::with(move |chain| replace(&path, chain.as_bytes()))
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal")
    }
}

/// Watches the age of one certificate.
#[derive(Debug)]
pub(super) struct Renewer {
    renewal: Renewal,
    not_after: Timestamp,
    due: Timestamp,
    issuer: AuthorityId,
    /// The authority is to be replaced, which moved the time.
    is_moved: bool,
    /// Not before, on the boot clock.
    again_ms: u64,
    pause_ms: u64,
}

impl Renewer {
    /// Of a gate that was configured with this identity; none: it is not a certificate of this service, which the server
    /// will say.
    pub(super) fn new(
        renewal: Renewal,
        (identity, profile): (&Identity, &Profile),
        entropy: &Arc<dyn Entropy>,
    ) -> Option<Self> {
        let (not_after, due, issuer) = times(identity, profile, entropy)?;
        let (again_ms, pause_ms) = (0, PAUSE_MIN_MS);
        Some(Self { renewal, not_after, due, issuer, is_moved: false, again_ms, pause_ms })
    }

    pub(super) const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Looks where the authority of the certificate stands: when it retires, or is known to be bad, another is asked for
    /// within a minute.
    pub(super) fn look_at(
        &mut self,
        authorities: &OrdMap<AuthorityId, Arc<AuthorityCard>>,
        now: Timestamp,
        entropy: &Arc<dyn Entropy>,
    ) {
        let is_replaced = authorities.get(&self.issuer).is_some_and(|card| card.state.is_to_be_replaced());
        if is_replaced && !self.is_moved {
            self.is_moved = true;
            let jitter_ms = i64::try_from(random_below(REPLACED_MS, entropy)).unwrap_or(0);
            self.due = self.due.min(now.plus_ms(jitter_ms));
        }
    }

    /// Is it time to ask for another?
    pub(super) fn is_due(&self, boot_ms: u64, now: Timestamp) -> bool {
        now >= self.due && boot_ms >= self.again_ms
    }

    /// Asks over this connection, checks what comes and keeps it.
    pub(super) fn ask(
        &mut self,
        channel: Channel,
        identity: Identity,
        profile: Profile,
        boot_ms: u64,
    ) -> impl Future<Output = Result<Identity, String>> + Send + 'static {
        // One question at a time; a connection that is lost meanwhile takes it along.
        self.again_ms = boot_ms.saturating_add(2 * CALL_TIMEOUT_MS);
        let (renewal, not_after) = (self.renewal.clone(), self.not_after);
        async move {
            let asked = fetch(channel, &identity);
            let asked = tokio::time::timeout(Duration::from_millis(CALL_TIMEOUT_MS), asked).await;
            let (der, above) = asked.map_err(|_| "the answer did not arrive in time".to_owned())??;
            let (old, key) = identity.parts();
            let old = old.first().ok_or("there is no certificate")?;
            let old = parse(old, &profile).map_err(|fault| fault.to_string())?;
            let new = parse(&der, &profile).map_err(|fault| fault.to_string())?;
            // Nobody else's, no shorter one, and no other role under the same name. One of the next authority may end first: the
            // one before goes, and with it what it issued.
            let is_next = new.issuer() != old.issuer() || new.not_after() > not_after;
            if new.spki() != old.spki() || new.facts() != old.facts() || !is_next {
                return Err("the certificate that came is not a later one of this gateway".to_owned());
            }
            let chain = chain_pem(&der, &above).map_err(|fault| fault.to_string())?;
            let kept = tokio::task::spawn_blocking(move || (renewal.save)(&chain)).await;
            kept.map_err(|error| error.to_string())?
                .map_err(|error| format!("it cannot be kept: {error}"))?;
            let shown = std::iter::once(der).chain(above).map(CertificateDer::from);
            Ok(Identity::new(shown.collect(), key))
        }
    }

    /// There is a new one: its age counts from now on.
    pub(super) fn renewed(&mut self, identity: &Identity, profile: &Profile, entropy: &Arc<dyn Entropy>) {
        if let Some((not_after, due, issuer)) = times(identity, profile, entropy) {
            (self.not_after, self.due, self.issuer, self.is_moved) = (not_after, due, issuer, false);
        }
        (self.again_ms, self.pause_ms) = (0, PAUSE_MIN_MS);
    }

    /// It did not work: not again before a while.
    pub(super) fn failed(&mut self, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) {
        let half = self.pause_ms / 2;
        self.again_ms = clock.boot_ms().saturating_add(half + random_below(half, entropy));
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MAX_MS);
    }
}

/// When the certificate ends, when another one is asked for, and whose it is.
fn times(
    identity: &Identity,
    profile: &Profile,
    entropy: &Arc<dyn Entropy>,
) -> Option<(Timestamp, Timestamp, AuthorityId)> {
    let (chain, _) = identity.parts();
    let leaf = parse(chain.first()?, profile).ok()?;
    let (begin, end) = (leaf.not_before(), leaf.not_after());
    let life_ms = end.millis().saturating_sub(begin.millis()).max(0);
    let jitter_ms = random_below(u64::try_from(life_ms / JITTER).unwrap_or(0), entropy);
    let age_ms = life_ms / AGE.1 * AGE.0;
    let due = begin.plus_ms(age_ms.saturating_add(i64::try_from(jitter_ms).unwrap_or(0)));
    Some((end, due, leaf.issuer()))
}

fn random_below(bound: u64, entropy: &Arc<dyn Entropy>) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = entropy.bytes16();
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) % bound.max(1)
}

/// The leaf, and what is shown with it.
async fn fetch(channel: Channel, identity: &Identity) -> Result<(Vec<u8>, Vec<Vec<u8>>), String> {
    let (_, key) = identity.parts();
    let key = ClientKey::from_pkcs8(key.secret_der()).map_err(|fault| fault.to_string())?;
    let csr = key.request().map_err(|fault| fault.to_string())?.into();
    let mut client = AttestationServiceClient::new(channel);
    let answer = client.renew_principal_certificate(pb::RenewPrincipalCertificateRequest { csr }).await;
    let answer = answer.map_err(|status| status.to_string())?.into_inner();
    Ok((answer.certificate.to_vec(), answer.chain.iter().map(|der| der.to_vec()).collect()))
}
