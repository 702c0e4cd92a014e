//! What a consumer of trust sets says on its stream: any names, any answers, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::sds::play(data));
