//! Encodings are final: journals, signatures, digests and gateways rest on every number in them. A test here that
//! fails means that something written before could no longer be read; the expected text is never to be edited.

mod commands;
mod events;
mod feed;
mod words;

use minicbor::{Decode, Encode};

use crate::domain::codec::{from_bytes, to_bytes};

/// Long encodings are pinned by their SHA-256.
const LEN_MAX: usize = 96;

/// The encoding in hexadecimal, or its hash when it is long; and it is read back as the same value.
fn spelled<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq>(value: &T) -> String {
    let bytes = to_bytes(value);
    assert!(from_bytes::<T>(&bytes).unwrap() == *value, "read back as something else");
    match bytes.len() {
        0..=LEN_MAX => hex::encode(bytes),
        _ => format!("sha256 {}", crate::domain::id::Digest::of(&bytes)),
    }
}

/// Compares line by line, so that a failure shows one encoding and not all of them.
fn assert_lines(lines: &[String], expected: &str) {
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), expected.len(), "all of them:\n{}", lines.join("\n"));
}
