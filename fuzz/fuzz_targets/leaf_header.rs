//! What a proxy says of its client in texts: the certificate, escaped or not, and after it, line by line, model, access
//! form, place, region and purpose. What is read is spelled again as the same, and what cannot be read is the strictest.
#![no_main]

use countersign::domain::model::AccessForm;
use countersign::domain::policy::Place;
use countersign_fuzz::service::asked::{Asked, leaf};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\0');
    if let Some(der) = lines.next().and_then(leaf) {
        assert!(der.len() < text.len(), "more than was said");
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()));
        let escaped = percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC);
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for spelling in [escaped.to_string(), base64] {
            // Escaping makes it three times as long; the longest of all is refused.
            assert!(spelling.len() > 32 * 1024 || der.is_empty() || leaf(&spelling).as_ref() == Some(&der));
        }
    }
    let mut next = || lines.next().map(str::to_owned);
    let asked =
        Asked { model: next(), access_form: next(), place: next(), serving_region: next(), purpose: next() };
    let request = asked.request();
    assert_eq!(request.model, asked.model.as_deref().unwrap_or_default());
    let form = asked.access_form.as_deref();
    assert!(form.is_none_or(|form| request.form == AccessForm::Weights || request.form.to_string() == form));
    for (place, said) in [(request.place, &asked.place), (request.serving, &asked.serving_region)] {
        assert!(said.is_some() || place == Place::Unknown, "nobody said so");
    }
});
