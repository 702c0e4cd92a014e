mod barrier;
mod session;
pub(crate) mod world;
