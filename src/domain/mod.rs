//! Words, decisions and workflows. No input or output, no clock, no randomness, no transport: only values and
//! pure functions over them, so that every outcome can be computed again from the record.

pub mod algorithm;
pub mod announcement;
pub mod approval;
pub mod authority;
pub mod bundle;
pub mod call;
pub mod certificate;
pub mod codec;
pub mod command;
pub mod decided;
pub mod decision;
pub mod determination;
pub mod drill;
pub mod enforce;
pub mod entity;
pub mod event;
pub mod flow;
pub mod grant;
pub mod head;
pub mod id;
pub mod license;
pub mod model;
pub mod object;
pub mod officer_command;
pub mod person;
pub mod pkcs11;
pub mod policy;
pub mod principal;
pub mod proposal;
pub mod record_command;
pub mod recovery;
pub mod restore;
pub mod revocation;
pub mod root;
pub mod rotation;
pub mod screening;
pub mod signal;
mod signers;
pub mod simulate;
pub mod state;
pub mod subject;
#[cfg(test)]
pub(crate) mod tests;
pub mod time;
pub(crate) mod word;
