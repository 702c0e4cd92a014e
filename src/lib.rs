//! Countersign decides, proves and enforces who may use an export-controlled AI model.
#[cfg(feature = "server")]
pub mod ca;
pub mod domain;
pub mod env;
pub mod x509;
