//! The name of a secret, as any consumer of the stream may say it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        countersign_fuzz::sds::read_name(text);
    }
});
