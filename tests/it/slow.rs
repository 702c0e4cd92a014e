//! Slow and greedy clients on a real socket, in raw bytes of HTTP/2 (RFC 9113) where no client library would send them.

use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::principal::Role;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::health::{becomes, status};
use crate::world::{World, tls_stream};

/// A busy machine may need many times what these take.
const LIMIT: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that stands in no table (RFC 7541 section 6.2.2), of less than 127 octets a name; a value may be longer.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    let mut len = value.len();
    if len < 127 {
        bytes.push(u8::try_from(len).unwrap());
    } else {
        bytes.push(127);
        len -= 127;
        while len >= 128 {
            bytes.push(u8::try_from(len % 128).unwrap() | 128);
            len /= 128;
        }
        bytes.push(u8::try_from(len).unwrap());
    }
    bytes.extend(value.as_bytes());
    bytes
}

fn head(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// A connection that began.
pub(crate) struct Raw {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Raw {
    async fn open(world: &World) -> Self {
        let roles = (PrincipalKind::Officer, [Role::Auditor].as_slice());
        let auditor = world.principal("auditor-raw", roles, None).await;
        let config = world.tls(Some((&auditor.key, &auditor.certificate)));
        Self::over(tls_stream(config, world.running().address()).await.unwrap()).await
    }

    /// Begins on a connection that shook hands. The other side may have closed it already.
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (reader, writer) = split(stream);
        let mut raw = Self { reader, writer };
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    /// Did the other side begin as well, or close it?
    pub(crate) async fn is_served(&mut self) -> bool {
        let mut settings = [0; 9];
        let begun = timeout(LIMIT, self.reader.read_exact(&mut settings)).await.expect("it answers or ends");
        if begun.is_err() {
            return false;
        }
        assert_eq!(settings[3], SETTINGS);
        let len = u32::from_be_bytes([0, settings[0], settings[1], settings[2]]);
        self.reader.read_exact(&mut vec![0; usize::try_from(len).unwrap()]).await.unwrap();
        self.send(&frame(SETTINGS, 1, 0, &[])).await;
        true
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The other side may have closed already.
        drop(self.writer.write_all(bytes).await);
    }

    /// The next frame that is neither about settings nor windows nor pings: kind, stream, payload. None: the connection is over.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            timeout(LIMIT, self.reader.read_exact(&mut head)).await.expect("it answers or ends").ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            self.reader.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match head[3] {
                SETTINGS if head[4] == 0 => self.send(&frame(SETTINGS, 1, 0, &[])).await,
                6 if head[4] == 0 => self.send(&frame(6, 1, 0, &payload)).await,
                DATA | HEADERS | RST_STREAM | GOAWAY => return Some((head[3], stream, payload)),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection.
    pub(crate) async fn until_cut(mut self) {
        while self.next().await.is_some() {}
    }
}

async fn serves(world: &World) {
    becomes(&world.alice(), ServingStatus::Serving).await;
    assert_eq!(status(&world.bob()).await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_begin_is_cut_whoever_it_is() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.pace.begin = Duration::from_millis(300);
    world.open().await;
    let gateway = world.gateway("gw-slow").await;
    for bytes in [b"".as_slice(), b"PRI * HT", PREFACE, &[PREFACE, &[0, 0]].concat()] {
        let config = world.tls(Some((&gateway.key, &gateway.certificate)));
        let mut stream = tls_stream(config, world.running().address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // What the server says by itself, and then the end.
        let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("it is cut");
    }
    // One that began stays, though it says nothing more.
    let before = Raw::open(&world).await;
    serves(&world).await;
    drop(before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_cut_also_with_a_certificate() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.pace.write = Duration::from_millis(500);
    world.open().await;
    let mut raw = Raw::open(&world).await;
    // Each is answered, until the answers fill every buffer and the server waits to write.
    let pings = frame(6, 0, 0, b"--ping--").repeat(1_000);
    let flood = async { while raw.writer.write_all(&pings).await.is_ok() {} };
    timeout(LIMIT, flood).await.expect("it is cut");
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_end_the_connection() {
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &head("/countersign.v1.AuditService/GetHead"))).await;
    let flood = async {
        // CVE-2024-27316: without a bound each of these would be kept.
        for n in 0.. {
            let more = literal("x-more", &format!("{n:0>1000}"));
            if raw.writer.write_all(&frame(CONTINUATION, 0, 1, &more)).await.is_err() {
                return;
            }
        }
    };
    timeout(LIMIT, flood).await.expect("it is cut");
    raw.until_cut().await;
    serves(&world).await;
}

/// Headers of a call that are long altogether, in two frames: each name and value counts 32 more (RFC 9113 section 10.5.1).
fn with_headers_of(stream: u32, len: usize) -> Vec<u8> {
    let mut all = head("/countersign.v1.AuditService/GetHead");
    for n in 0..len / 1_000 {
        all.extend(literal(&format!("x-long-{n:02}"), &"a".repeat(1_000 - 32 - 9)));
    }
    let (first, rest) = all.split_at(8_000);
    let mut bytes = frame(HEADERS, END_STREAM, stream, first);
    let parts: Vec<_> = rest.chunks(16_000).collect();
    for (n, part) in parts.iter().enumerate() {
        let flags = if n + 1 == parts.len() { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, flags, stream, part));
    }
    bytes
}

/// The lines of the audit that say this of the raw client.
async fn lines_with(world: &World, code: &str) -> usize {
    let request = pb::ListCallsRequest { code: code.to_owned(), ..Default::default() };
    let mut audit = AuditServiceClient::new(world.alice());
    let calls = audit.list_calls(request).await.unwrap().into_inner().calls;
    calls
        .iter()
        .filter(|call| call.principal == "auditor-raw")
        .map(|call| usize::try_from(call.count).unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_long_are_refused_in_the_audit_and_the_connection_goes_on() {
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    let path = "/countersign.v1.AuditService/GetHead";
    // One call with headers that no client of ours has, and one with more than HTTP/2 reads.
    for (stream, len) in [(1, 17_000), (3, 60_000)] {
        raw.send(&with_headers_of(stream, len)).await;
        let (kind, of, payload) = raw.next().await.expect("an answer");
        assert_eq!(of, stream);
        // Of the second either is an answer of HTTP/2: 431 in the headers, or the stream is reset.
        assert!(kind == HEADERS || (kind == RST_STREAM && stream == 3), "{kind}: {payload:?}");
    }
    // A call of the usual length is still answered on this connection.
    raw.send(&frame(HEADERS, END_HEADERS, 5, &head(path))).await;
    raw.send(&frame(DATA, END_STREAM, 5, &[0; 5])).await;
    let answered = async {
        loop {
            let (kind, stream, _) = raw.next().await.expect("the connection goes on");
            if (kind, stream) == (DATA, 5) {
                return;
            }
        }
    };
    timeout(LIMIT, answered).await.expect("it is answered");
    let kept = async {
        while lines_with(&world, "OK").await == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, kept).await.expect("calls are kept");
    // What HTTP/2 refuses was no call.
    assert_eq!(lines_with(&world, "INVALID_ARGUMENT").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_long_ends_the_connection() {
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &head("/countersign.v1.AuditService/GetHead"))).await;
    raw.send(&frame(DATA, 0, 1, &vec![0; (16 << 10) + 1])).await;
    raw.until_cut().await;
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_it_is_too_long_is_refused_before_it_comes() {
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &head("/countersign.v1.AuditService/GetHead"))).await;
    // gRPC's prefix: not compressed, 2 GiB.
    raw.send(&frame(DATA, 0, 1, &[0, 0x7f, 0xff, 0xff, 0xff])).await;
    let (kind, stream, payload) = raw.next().await.expect("an answer");
    assert_eq!((kind, stream), (HEADERS, 1), "{payload:?}");
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_resets_what_it_asks_for_is_sent_away() {
    const STREAMS: u32 = 200_001;
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    // CVE-2023-44487: asked for and reset at once, more than the server answers meanwhile.
    let flood = async {
        for first in (1..STREAMS).step_by(200) {
            let pair = |stream| {
                let path = "/countersign.v1.AuditService/GetHead";
                let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(path));
                [headers, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            };
            let pairs: Vec<u8> = (first..first + 200).step_by(2).flat_map(pair).collect();
            if raw.writer.write_all(&pairs).await.is_err() {
                return first;
            }
        }
        STREAMS
    };
    let reached = timeout(LIMIT, flood).await.expect("it is sent away, or served");
    serves(&world).await;
    assert!(reached < STREAMS, "{reached} streams were taken from one who wants none of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_holds_a_call_no_longer_than_its_deadline() {
    let world = World::start().await;
    let mut raw = Raw::open(&world).await;
    let mut headers = head("/countersign.v1.AuditService/GetHead");
    headers.extend(literal("grpc-timeout", "400m"));
    raw.send(&frame(HEADERS, END_HEADERS, 1, &headers)).await;
    // Half of a message, and then nothing.
    raw.send(&frame(DATA, 0, 1, &[0, 0, 0, 0, 9, 1, 2])).await;
    let (kind, stream, _) = raw.next().await.expect("an answer");
    assert_eq!((kind, stream), (HEADERS, 1));
    serves(&world).await;
}
