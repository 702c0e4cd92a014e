//! Envoy, unmodified: `envoy.service.auth.v3.Authorization` answers every request from the same decision, and
//! `envoy.service.secret.v3.SecretDiscoveryService` pushes what its handshakes are checked with, and its own
//! listener's certificate if it is kept here.

pub mod asked;
mod authz;
mod sds;
#[cfg(test)]
mod tests;

pub use authz::{Authorization, TrustedHeaders};
pub use sds::{ListenerStatus, Listeners, Secrets};
