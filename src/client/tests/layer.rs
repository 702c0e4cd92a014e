//! The tower layer on a live subscription: what is denied is answered, and an answer under way is cut.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full};
use tonic::codegen::http::{Method, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

use super::served::{config, eventually, issuer, leaf, serve};
use crate::client::{Gate, GateLayer, PeerLeaf, Permit, Question};
use crate::domain::certificate::AuthorityKind;
use crate::domain::enforce::EnforcementEvent;
use crate::domain::id::Ordinal;
use crate::domain::revocation::StopScope;
use crate::env::Clock;
use crate::feed::tests::world::*;

async fn model(request: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(request.extensions().get::<Permit>().unwrap().good_until_boot_ms.is_some());
    let mut answer = Response::new(Full::from("answer"));
    if request.headers().contains_key("upgrade") {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    Ok(answer)
}

fn request_for(path: &str, kind: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(path).header("content-type", kind).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn requests_are_decided_denied_with_their_code_and_cut() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    world.clock.advance_ms(20_000);
    let (system, access) = (issuer(AuthorityKind::System), issuer(AuthorityKind::Access));
    let server = serve(&mut world, &system, &access).await;
    let gate = Gate::connect(config(&world, &server, &system)).await.unwrap();
    let question = |parts: &tonic::codegen::http::request::Parts| {
        let model = parts.uri.path().trim_start_matches('/').to_owned();
        (!model.is_empty()).then(|| Question::inference(model).from_place(request().place))
    };
    let layer = GateLayer::new(&gate, question);
    let (der, _) = leaf(&access, certificate(entity(1), 1).facts, 2, Vec::new());
    let service = layer.layer(service_fn(model)).of_peer(PeerLeaf(der.clone().into()));
    let ask = |path: &str, kind: &str| service.clone().oneshot(request_for(path, kind));
    // Before the first lease, or of an entity whose card the server does not answer for: nobody can decide.
    let early = ask(&format!("/{MODEL}"), "text/plain").await.unwrap();
    assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE);
    gate.ready(Duration::from_secs(20)).await.unwrap();
    gate.want(entity(1));
    eventually(|| gate.decide(&der, &request()).is_permit()).await;
    let permitted = ask(&format!("/{MODEL}"), "text/plain").await.unwrap();
    assert_eq!(permitted.status(), StatusCode::OK);
    assert_eq!(permitted.into_body().collect().await.unwrap().to_bytes(), "answer");
    let mut websocket = request_for(&format!("/{MODEL}"), "");
    websocket.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let mut tunnel = request_for(&format!("/{MODEL}"), "");
    *tunnel.method_mut() = Method::CONNECT;
    for request in [websocket, tunnel] {
        let refused = service.clone().oneshot(request).await.unwrap();
        assert_eq!(refused.status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(refused.headers()["x-countersign-code"], "UPGRADE_REFUSED");
        assert!(refused.body().is_end_stream());
    }
    assert_eq!(gate.connections().count(), 0);
    for path in ["/no-such-model", "/"] {
        let denied = ask(path, "text/plain").await.unwrap();
        assert_eq!(denied.status(), StatusCode::FORBIDDEN);
        assert_eq!(denied.headers()["x-countersign-code"], "MODEL_UNKNOWN");
        assert!(denied.body().is_end_stream());
    }
    let stranger =
        layer.layer(service_fn(model)).oneshot(request_for(&format!("/{MODEL}"), "")).await.unwrap();
    assert_eq!(stranger.headers()["x-countersign-code"], "CREDENTIAL_INVALID");
    // An answer that is under way when its model is stopped.
    let mut open = ask(&format!("/{MODEL}"), "text/plain").await.unwrap().into_body();
    let at = world.commit(vec![EnforcementEvent::Stopped(StopScope::Model(MODEL.parse().unwrap()))], &[]);
    eventually(|| gate.status().position >= at).await;
    // It is let go though nobody polls it, so the record is acknowledged.
    let enforced = world.feed.wait_enforced(at, world.clock.boot_ms(), None);
    let report = tokio::time::timeout(Duration::from_secs(20), enforced).await.expect("in time");
    assert!(report.is_enforced(), "{report:?}");
    assert_eq!((gate.connections().count(), open.is_end_stream()), (0, false));
    let cut = open.frame().await.unwrap().unwrap_err();
    assert_eq!(cut.to_string(), "no connection: EMERGENCY_STOP");
    for _ in 0..2 {
        assert!(open.frame().await.is_none(), "and nothing more");
    }
    drop(open);
    world.commit(vec![EnforcementEvent::CertificateRevoked(Ordinal(2))], &[]);
    eventually(|| gate.status().position > at).await;
    let denied = ask(&format!("/{MODEL}"), "application/grpc+proto").await.unwrap();
    assert_eq!(denied.status(), StatusCode::OK);
    assert_eq!(denied.headers()["grpc-status"], "7");
    assert_eq!(denied.headers()["grpc-message"], "CREDENTIAL_REVOKED");
    drop(Arc::new(server));
    gate.shutdown().await;
    let late = ask(&format!("/{MODEL}"), "application/grpc").await.unwrap();
    assert_eq!(late.headers()["grpc-status"], "7", "what is revoked stays so");
}
