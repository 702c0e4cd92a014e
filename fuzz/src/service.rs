//! Pure parts of the service that read what others send. Each is the shipped file itself, with the few names that it takes
//! from rooms which are too large to build a second time for it (lib.rs).

#[path = "../../src/envoy/asked.rs"]
pub mod asked;
#[path = "../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../src/screening/mod.rs"]
pub mod screening;
