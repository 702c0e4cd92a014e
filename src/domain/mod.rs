//! Words, decisions and workflows. No input or output, no clock, no randomness, no transport: only values and
//! pure functions over them, so that every outcome can be computed again from the record.

pub mod bundle;
pub mod certificate;
pub mod decision;
pub mod determination;
pub mod entity;
pub mod grant;
pub mod id;
pub mod model;
pub mod person;
pub mod policy;
pub mod time;
pub(crate) mod word;
