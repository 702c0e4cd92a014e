//! What operators and partners give as files: bundles of authorities, certificates to be explained, keys.
#![no_main]

use countersign::client::Identity;
use countersign::x509::{ClientKey, TrustBundle, explain};
use countersign_fuzz::profile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(explained) = explain::explain(data, profile()) {
        let _ = (explained.to_text(), explained.to_json());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bundle) = TrustBundle::from_pem(text) {
        let again = TrustBundle::from_pem(&bundle.to_pem()).expect("what it wrote itself");
        assert_eq!(again.digest(), bundle.digest());
    }
    let _ = Identity::from_pem(text, text);
    let _ = ClientKey::from_pem(text);
});
