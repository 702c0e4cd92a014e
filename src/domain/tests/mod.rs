//! Fixtures for tests of the domain, and tests of what belongs to no other module: encodings, words and models.

mod encodings;
pub(crate) mod fixtures;
mod models;
pub(crate) mod world;
