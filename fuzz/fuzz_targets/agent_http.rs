//! What a proxy, or whoever reaches the socket of the agent, sends instead of a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::agent::ask(data));
