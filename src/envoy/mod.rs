//! Envoy, unmodified: `envoy.service.auth.v3.Authorization` answers every request from the same decision.

mod authz;
#[cfg(test)]
mod tests;

pub use authz::{Authorization, TrustedHeaders};
