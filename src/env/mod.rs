//! What the world supplies to the service: time and randomness, as ports with a real and a manual implementation, and
//! locks between processes. Domain code never holds one; it gets `now` and identifiers as arguments.

mod clock;
mod entropy;
mod lock;

pub use clock::{Clock, ManualClock, SystemClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use lock::FileLock;
