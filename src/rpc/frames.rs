//! What a subscription sends, as the transport takes it: gRPC frames whose large parts (a part of a snapshot, a policy
//! bundle) are the bytes that all sessions share. tonic would copy each of them into a buffer of each stream, and keep the
//! buffer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use crate::domain::enforce::message::{Delta, RecordEvents, ToGateway};
use crate::pb;

/// From this length on bytes are sent as they are instead of copied: a frame of HTTP/2 has nine bytes of its own.
const SHARED_LEN_MIN: usize = 4 << 10;
/// What gRPC puts before each message: not compressed, and its length.
const PREFIX_LEN: usize = 5;
/// Fields of `SubscribeResponse`, `SnapshotPart`, `Delta` and `RecordEvents` (enforcement.proto).
const DELTA: u32 = 2;
const SNAPSHOT_PART: u32 = 4;
const DATA: u32 = 1;
const FROM_SEQ: u32 = 1;
const TO_SEQ: u32 = 2;
const RECORDS: u32 = 3;
const CARDS: u32 = 4;
const SEQ: u32 = 1;
const EVENTS: u32 = 2;

/// A message for the gateway, or how the stream ends. Boxed, for a channel reserves room for 32 of them.
pub(super) type Outgoing = Box<Result<ToGateway, Status>>;

/// The body of a subscription.
pub(super) struct Frames {
    messages: mpsc::Receiver<Outgoing>,
    /// Of the message that is being sent, backwards.
    pieces: Vec<Bytes>,
    is_over: bool,
}

/// Carries the body of a subscription past tonic, which would encode messages itself, to the layer that answers.
#[derive(Clone)]
pub(super) struct Downstream(Arc<Mutex<Option<Frames>>>);

impl Downstream {
    pub(super) fn new(messages: mpsc::Receiver<Outgoing>) -> Self {
        Self(Arc::new(Mutex::new(Some(Frames { messages, pieces: Vec::new(), is_over: false }))))
    }

    pub(super) fn take(self) -> Option<Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Frames {
    /// The end of a gRPC stream: trailers with its status.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // Details that are no header: the code alone says enough.
            trailers = HeaderMap::new();
            drop(Status::new(status.code(), "").add_header(&mut trailers));
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frames = self.get_mut();
        loop {
            if let Some(piece) = frames.pieces.pop() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if frames.is_over {
                return Poll::Ready(None);
            }
            let end = match ready!(frames.messages.poll_recv(context)).map(|outgoing| *outgoing) {
                Some(Ok(message)) => {
                    frames.pieces = pieces(message);
                    frames.pieces.reverse();
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            return Poll::Ready(Some(Ok(frames.end(&end))));
        }
    }
}

/// A message as gRPC frames it, in pieces that follow each other.
pub(super) fn pieces(message: ToGateway) -> Vec<Bytes> {
    match message {
        ToGateway::SnapshotPart(data) => {
            let len = bytes_len(data.len());
            let mut writer = Writer::new(bytes_len(len));
            writer.begin(SNAPSHOT_PART, len);
            writer.bytes(DATA, &data);
            writer.end()
        }
        ToGateway::Delta(delta) => delta_pieces(delta),
        small => {
            let message = pb::SubscribeResponse::from(small);
            let mut writer = Writer::new(message.encoded_len());
            // Cannot fail: the buffer grows.
            let _ = message.encode(&mut writer.open);
            writer.end()
        }
    }
}

fn delta_pieces(delta: Delta) -> Vec<Bytes> {
    let cards: Vec<_> =
        delta.cards.into_iter().map(|(id, card)| pb::Card { entity_id: id.to_string(), card }).collect();
    let len = number_len(delta.from.0)
        + number_len(delta.to.0)
        + delta.records.iter().map(|record| bytes_len(record_len(record))).sum::<usize>()
        + cards.iter().map(|card| bytes_len(card.encoded_len())).sum::<usize>();
    let mut writer = Writer::new(bytes_len(len));
    writer.begin(DELTA, len);
    writer.number(FROM_SEQ, delta.from.0);
    writer.number(TO_SEQ, delta.to.0);
    for record in &delta.records {
        writer.begin(RECORDS, record_len(record));
        writer.number(SEQ, record.seq.0);
        record.events.iter().for_each(|event| writer.bytes(EVENTS, event));
    }
    for card in &cards {
        writer.begin(CARDS, card.encoded_len());
        // Cannot fail: the buffer grows.
        let _ = card.encode(&mut writer.open);
    }
    writer.end()
}

fn record_len(record: &RecordEvents) -> usize {
    number_len(record.seq.0) + record.events.iter().map(|event| bytes_len(event.len())).sum::<usize>()
}

/// A field of so many bytes, with its key (all fields here are below 16: one byte) and its length.
const fn bytes_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// A number with its key; protobuf leaves out a zero.
const fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

/// Writes protobuf, copying what is short and keeping what is long.
struct Writer {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Writer {
    /// Of one message of so many bytes.
    fn new(len: usize) -> Self {
        let mut open = BytesMut::with_capacity(PREFIX_LEN + len.min(SHARED_LEN_MIN));
        open.put_u8(0);
        open.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        Self { done: Vec::new(), open }
    }

    fn begin(&mut self, field: u32, len: usize) {
        encode_key(field, WireType::LengthDelimited, &mut self.open);
        encode_varint(len as u64, &mut self.open);
    }

    fn bytes(&mut self, field: u32, bytes: &Bytes) {
        self.begin(field, bytes.len());
        if bytes.len() < SHARED_LEN_MIN {
            self.open.put_slice(bytes);
        } else {
            self.done.extend([self.open.split().freeze(), bytes.clone()]);
        }
    }

    fn number(&mut self, field: u32, number: u64) {
        if number != 0 {
            encode_key(field, WireType::Varint, &mut self.open);
            encode_varint(number, &mut self.open);
        }
    }

    fn end(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}
