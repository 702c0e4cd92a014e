//! Messages as bytes, and requests that no client of gRPC would send.

use std::time::Duration;

use countersign::rpc::methods::METHODS;
use http_body_util::{BodyExt as _, Full};
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::{self, HeaderMap, HeaderName, HeaderValue, StatusCode};
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

use crate::world::World;

/// A busy machine may need many times what an answer takes.
const LIMIT: Duration = Duration::from_secs(60);
const GRPC: &str = "application/grpc";

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

/// One request, and whether there is an answer that says how it went: by HTTP, in its headers or in its trailers.
async fn answered(channel: &Channel, request: http::Request<Body>) -> bool {
    let mut channel = channel.clone();
    let said = |headers: &HeaderMap| headers.contains_key("grpc-status");
    let answer = async {
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        if response.status() != StatusCode::OK || said(response.headers()) {
            return true;
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) if frame.trailers_ref().is_some_and(said) => return true,
                // Of a stream without end the first message is enough.
                Ok(frame) if frame.is_data() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    };
    tokio::time::timeout(LIMIT, answer).await.expect("there is an answer")
}

fn request(path: &str, headers: &[(&'static str, &[u8])], body: &[u8]) -> http::Request<Body> {
    let mut request = http::Request::post(format!("https://localhost{path}"));
    for (name, value) in headers {
        request = request.header(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    request.body(Body::new(Full::new(Bytes::copy_from_slice(body)))).unwrap()
}

/// Bodies whose frames are cut, too long, compressed by nothing, or more than one.
fn bodies() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![0],
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 0, 0],
        vec![0, 0, 0, 0, 9, 1, 2],
        vec![0, 0xff, 0xff, 0xff, 0xff],
        vec![0, 0x00, 0x20, 0x00, 0x00],
        vec![1, 0, 0, 0, 1, 7],
        vec![255, 0, 0, 0, 0],
        [[0, 0, 0, 0, 0].as_slice(), &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 0]].concat(),
        vec![0x0a; 70_000],
    ]
}

/// Wrong frames for each method; wrong content types, paths and metadata for some.
pub(super) async fn try_transport(world: &World) {
    let alice = world.alice();
    let grpc = ("content-type", GRPC.as_bytes());
    let deadline = ("grpc-timeout", b"1000m".as_slice());
    for method in METHODS {
        for body in bodies() {
            let sent = request(method.path, &[grpc, deadline], &body);
            assert!(answered(&alice, sent).await, "{} with {body:?}", method.path);
        }
    }
    let path = "/countersign.v1.AuditService/GetHead";
    let empty = [0, 0, 0, 0, 0];
    for kind in
        ["", "application/json", "application/grpc-web", "application/grpc+json", "text/plain", "\u{fc}"]
    {
        let sent = request(path, &[("content-type", kind.as_bytes()), deadline], &empty);
        assert!(answered(&alice, sent).await, "{kind:?}");
    }
    assert!(answered(&alice, request(path, &[deadline], &empty)).await, "without a content type");
    let long = "/".repeat(8_000);
    for path in
        ["/", "//", "/a", "/a/b/c", "/%00/%ff", "/countersign.v1.AuditService/GetHead?x=y", long.as_str()]
    {
        assert!(answered(&alice, request(path, &[grpc, deadline], &empty)).await, "{path:.40}");
    }
    for header in [
        ("grpc-timeout", b"99999999999H".as_slice()),
        ("grpc-timeout", b"-1S"),
        ("grpc-timeout", b"\xff"),
        ("grpc-encoding", b"gzip"),
        ("grpc-encoding", b"none such"),
        ("grpc-accept-encoding", b"\xff"),
        ("countersign-client-time", b"\xff\xfe"),
        ("countersign-client-time", b"9223372036854775807"),
        ("countersign-client-time", b"-9223372036854775808"),
        ("countersign-request-id", b"\xff"),
        ("x-thing-bin", b"not base64 !!"),
        ("traceparent", b"00-00-00-00"),
        ("te", b"nothing"),
    ] {
        assert!(answered(&alice, request(path, &[grpc, header], &empty)).await, "{header:?}");
    }
    for verb in [http::Method::GET, http::Method::DELETE, http::Method::OPTIONS, http::Method::CONNECT] {
        let mut sent = request(path, &[grpc, deadline], &empty);
        *sent.method_mut() = verb.clone();
        if verb != http::Method::CONNECT {
            assert!(answered(&alice, sent).await, "{verb}");
        }
    }
}
