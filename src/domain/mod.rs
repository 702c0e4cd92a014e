//! Words, decisions and workflows. No input or output, no clock, no randomness, no transport: only values and
//! pure functions over them, so that every outcome can be computed again from the record.

pub mod certificate;
pub mod entity;
pub mod id;
pub mod person;
pub mod time;
pub(crate) mod word;
