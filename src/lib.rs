//! Countersign decides, proves and enforces who may use an export-controlled AI model.
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod ca;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
pub mod domain;
pub mod env;
#[cfg(feature = "server")]
mod faults;
#[cfg(feature = "server")]
pub mod feed;
#[cfg(feature = "server")]
pub mod journal;
pub mod pb;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod x509;
