//! Countersign decides, proves and enforces who may use an export-controlled AI model.
pub mod domain;
pub mod env;
pub mod x509;
