//! A list of people as a partner's administrator imports it, CSV or JSON Lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::people::read(data));
