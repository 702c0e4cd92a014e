mod connections;
mod kept;
mod layer;
mod replica;
mod served;
mod simulate;
mod tls;
mod trust;

use std::sync::Arc;

use crate::client::{Published, Replica, ReplicaConfig};
use crate::domain::certificate::Certificate;
use crate::domain::decision::Decision;
use crate::domain::enforce::decide;
use crate::domain::time::{Now, Timestamp};
use crate::feed::tests::world::*;

fn replica(world: &World, n: u8) -> (Replica, Arc<Published>) {
    let published = Arc::new(Published::default());
    let config =
        ReplicaConfig { boot: boot(n), strength: STRONG, log_key: world.heads.public_key(), adapter: None };
    (Replica::new(config, Arc::clone(&published)), published)
}

/// What a gateway decides about a certificate; none before anything arrived.
fn decided(
    published: &Published,
    certificate: &Certificate,
    boot_ms: u64,
    now: Timestamp,
) -> Option<Decision> {
    let standing = published.load();
    let fault = published.fault(&standing, boot_ms, now);
    let view = standing.view.as_ref()?;
    Some(decide(view.as_ref(), fault, Ok(certificate), &request(), Now::with_margin(now)))
}
