//! The file in which a gate keeps its view. An input that begins like one is read as it is; another is content, which is
//! packed and summed as a gate does, so that what is behind the sum is reached. Nothing is permitted on what was read.
#![no_main]

use std::sync::{Arc, OnceLock};

use countersign::client::{Kept, Published, Replica, ReplicaConfig};
use countersign::domain::enforce::message::Strength;
use countersign::domain::id::{BootId, Digest};
use countersign_fuzz::array;

const MAGIC: &[u8] = b"CSGATE01";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static LOG_KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let packed;
    let file = if data.starts_with(b"CSGATE") {
        data
    } else {
        packed = pack(data);
        &packed
    };
    let Ok(kept) = Kept::from_bytes(file) else { return };
    let log_key = *LOG_KEY.get_or_init(|| array("log-key"));
    let published = Arc::new(Published::default());
    let boot = BootId::from_bytes([1; 16]);
    let config = ReplicaConfig { boot, strength: Strength::default(), log_key, adapter: None };
    let mut replica = Replica::new(config, Arc::clone(&published));
    let is_resumed = replica.resume(kept).is_ok();
    let standing = published.load();
    assert_eq!(standing.lease_until_ms, None, "a lease out of a file");
    assert_eq!(standing.view.is_some(), is_resumed);
    let open = replica.open();
    assert!(is_resumed || open.signed_head.is_empty(), "a head that was not verified");
});

fn pack(content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u64).to_be_bytes();
    let body = [len.as_slice(), &zstd::bulk::compress(content, 1).expect("packed")].concat();
    [MAGIC, &Digest::of(&body).0, &body].concat()
}
