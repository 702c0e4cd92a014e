//! Generates `countersign.v1` from proto/ with a pure Rust compiler, and the descriptor set that reflection serves.

use std::path::PathBuf;

use prost::Message;

const SERVICES: [&str; 9] = [
    "attestation",
    "audit",
    "authority",
    "determination",
    "enforcement",
    "mandate",
    "provisioning",
    "revocation",
    "screening",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = SERVICES.map(|service| format!("proto/countersign/v1/{service}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    // Cargo sets OUT_DIR and the features for a build script; there is no other way to learn them.
    #[expect(clippy::disallowed_methods, reason = "how cargo talks to a build script")]
    let (out, server) = (std::env::var("OUT_DIR")?, std::env::var_os("CARGO_FEATURE_SERVER").is_some());
    std::fs::write(PathBuf::from(out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    let generated = tonic_prost_build::configure().build_server(server).bytes(".");
    generated.codec_path("crate::pb::codec::SmallCodec").compile_fds(descriptors)?;
    Ok(())
}
