//! Generated code of the public API, `countersign.v1`, and the codec that it uses.
#![expect(missing_docs, clippy::all, reason = "generated code")]

pub mod codec;

tonic::include_proto!("countersign.v1");

/// The descriptor set of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
