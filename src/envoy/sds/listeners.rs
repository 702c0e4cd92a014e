//! The certificates of the gateways' own listeners: what was read last, for who asks. A pair is of one gateway; it is no
//! trust set, has no lease, and no barrier waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroize as _;

use super::dialect::TYPE_URL;
use super::inline;
use super::name::Name;
use crate::domain::id::PrincipalId;
use crate::domain::time::Timestamp;
use crate::x509::TlsPair;

/// Streams of one gateway that ask for its listener's certificate and for no trust set, so that they are no sessions. Each
/// machine with the gateway's name has one.
const STREAMS_MAX: usize = 64;

/// The gateways whose listeners get their certificates here, with the pair of each.
#[derive(Debug, Default)]
pub struct Listeners {
    rows: BTreeMap<PrincipalId, Row>,
}

#[derive(Debug)]
struct Row {
    /// None: no pair could be read yet.
    pair: Mutex<Option<Arc<TlsPair>>>,
    is_stale: AtomicBool,
    refused: AtomicU64,
    places: Arc<Semaphore>,
}

/// How the certificate of one listener stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Of which gateway.
    pub gateway: PrincipalId,
    /// When what is pushed ends; none: there is nothing to push.
    pub not_after: Option<Timestamp>,
    /// The files cannot be used as they are now, so what is pushed is not what they hold.
    pub is_stale: bool,
    /// Pushes that the gateway refused.
    pub refused: u64,
}

impl Listeners {
    /// Of these gateways; no pair is read yet.
    pub fn new(gateways: impl IntoIterator<Item = PrincipalId>) -> Self {
        let row = |gateway| {
            let places = Arc::new(Semaphore::new(STREAMS_MAX));
            let (is_stale, refused) = (AtomicBool::new(true), AtomicU64::default());
            (gateway, Row { pair: Mutex::default(), is_stale, refused, places })
        };
        Self { rows: gateways.into_iter().map(row).collect() }
    }

    /// From now on this pair is pushed to this gateway.
    pub fn replace(&self, gateway: &PrincipalId, pair: TlsPair) {
        if let Some(row) = self.rows.get(gateway) {
            *row.pair.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
            row.is_stale.store(false, Ordering::Relaxed);
        }
    }

    /// The files of this gateway cannot be used: what it has been pushed stays.
    pub fn keep(&self, gateway: &PrincipalId) {
        if let Some(row) = self.rows.get(gateway) {
            row.is_stale.store(true, Ordering::Relaxed);
        }
    }

    /// How they all stand.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let status = |(gateway, row): (&PrincipalId, &Row)| ListenerStatus {
            gateway: gateway.clone(),
            not_after: row.pair().map(|pair| pair.not_after()),
            is_stale: row.is_stale.load(Ordering::Relaxed),
            refused: row.refused.load(Ordering::Relaxed),
        };
        self.rows.iter().map(status).collect()
    }

    /// Does this gateway's listener get its certificate here?
    pub(super) fn has(&self, gateway: &PrincipalId) -> bool {
        self.rows.contains_key(gateway)
    }

    pub(super) fn pair(&self, gateway: &PrincipalId) -> Option<Arc<TlsPair>> {
        self.rows.get(gateway)?.pair()
    }

    pub(super) fn refused(&self, gateway: &PrincipalId) {
        if let Some(row) = self.rows.get(gateway) {
            row.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place for one more stream that is no session.
    pub(super) fn place(&self, gateway: &PrincipalId) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.rows.get(gateway)?.places).try_acquire_owned().ok()
    }
}

impl Row {
    fn pair(&self) -> Option<Arc<TlsPair>> {
        self.pair.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The pair as it is sent. It is encoded for each stream and kept for none; the copy in the response goes to HTTP/2 and TLS,
/// which do not wipe what they sent.
pub(super) fn secret(pair: &TlsPair) -> Any {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(pair.chain_pem().as_bytes().to_vec())),
        private_key: Some(inline(pair.key_pem().to_vec())),
        ..Default::default()
    };
    let mut secret =
        Secret { name: Name::Listener.to_string(), r#type: Some(Type::TlsCertificate(certificate)) };
    let value = secret.encode_to_vec();
    if let Some(Type::TlsCertificate(certificate)) = &mut secret.r#type
        && let Some(key) = &mut certificate.private_key
        && let Some(super::Specifier::InlineBytes(bytes)) = &mut key.specifier
    {
        bytes.zeroize();
    }
    Any { type_url: TYPE_URL.to_owned(), value }
}
