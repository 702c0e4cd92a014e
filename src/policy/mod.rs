//! Policy bundles as people write them: TOML files in a folder, read strictly into a [`Bundle`].
//!
//! An import format only. A running server reads policy from its journal; a bundle enters through genesis or a signed
//! proposal. Unknown keys are refused, and every error names the file and, where TOML knows it, line and key.

#[cfg(test)]
mod combinations;
mod load;
mod sources;
#[cfg(test)]
mod tests;
mod vectors;

pub use load::{PolicyError, load};
pub use vectors::{Mismatch, VectorError, VectorReport, run};

#[cfg(doc)]
use crate::domain::bundle::Bundle;
