//! Countersign decides, proves and enforces who may use an export-controlled AI model.
#[cfg(feature = "server")]
pub mod ca;
#[cfg(feature = "server")]
pub mod cli;
pub mod domain;
pub mod env;
#[cfg(feature = "server")]
pub mod journal;
pub mod pb;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod views;
pub mod x509;
