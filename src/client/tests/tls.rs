//! The acceptor on loopback: a stream that was split is closed in both halves.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::served::{FixedTime, config, issuer, leaf, role, serve};
use crate::client::{Gate, Identity};
use crate::domain::certificate::{AuthorityKind, PrincipalKind};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::id::Ordinal;
use crate::feed::tests::world::*;
use crate::x509;

#[tokio::test]
async fn the_idle_half_of_a_split_stream_is_woken_when_its_holder_is_denied() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    world.clock.advance_ms(20_000);
    let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
    let server = serve(&mut world, &system, &access).await;
    let gate = Gate::connect(config(&world, &server, &system)).await.unwrap();
    gate.ready(Duration::from_secs(20)).await.unwrap();

    let names = vec![x509::ServerName::dns("localhost").unwrap()];
    let (der, key) = leaf(&system, role(PrincipalKind::Server, "server-1"), 1, names);
    let identity = Identity::from_pem(&x509::bundle::certificate_pem(&der), &key.to_pem()).unwrap();
    let acceptor = gate.acceptor(&identity).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(system.authority().der().to_vec())).unwrap();
    let (der, key) = leaf(&access, certificate(entity(1), 1).facts, 2, Vec::new());
    let key = PrivateKeyDer::try_from(key.to_pkcs8()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_details(provider, Arc::new(FixedTime))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![CertificateDer::from(der)], key)
        .unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    };
    let accepting = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
    let (mut client, stream) = tokio::join!(connecting, accepting);

    let (mut reading, mut writing) = tokio::io::split(stream);
    let reader = tokio::spawn(async move { reading.read_u8().await });
    // On this one thread the reader waits by the time that the client has read what another task wrote.
    tokio::task::yield_now().await;
    writing.write_all(b"x").await.unwrap();
    writing.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert!(!reader.is_finished());
    world.commit(vec![EnforcementEvent::CertificateRevoked(Ordinal(2))], &[]);
    let read = tokio::time::timeout(Duration::from_secs(20), reader).await.expect("in time").unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(writing.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    gate.shutdown().await;
}
