//! The drill of June 2026 as one script: from an empty folder to stop-everything enforced at 1,000 gateways, and from a lift to
//! 10,000 people of 100 partners permitted again. The service, its record on disk and mTLS on loopback are the real ones; all of
//! it is in this process, in a temporary folder.
//!
//! ```text
//! cargo run --release --example ninety_minutes [GATEWAYS PARTNERS PEOPLE]
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a drill measures, and fails by panicking"
)]

mod drill;
#[path = "../../tests/it/found.rs"]
mod found;
#[path = "../../tests/it/tools.rs"]
mod tools;
#[path = "../../tests/it/world.rs"]
#[expect(dead_code, reason = "the harness of the tests; the drill uses a part of it")]
mod world;

use drill::Sizes;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse().unwrap()).collect();
    let sizes = match sizes.as_slice() {
        [] => Sizes { gateways: 1_000, partners: 100, people: 10_000 },
        [gateways, partners, people] => Sizes { gateways: *gateways, partners: *partners, people: *people },
        _ => panic!("none, or three numbers: GATEWAYS PARTNERS PEOPLE"),
    };
    // Each gateway has a descriptor at both ends.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("{sizes:?}");
    let times = tokio::runtime::Runtime::new().unwrap().block_on(drill::run(sizes));
    assert!(times.steps().count() > 10);
    print!("{times}");
}
