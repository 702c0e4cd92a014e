//! What a proxy asks for one of its clients, from texts that the proxy itself set, and the answer in HTTP. The same for
//! ext_authz and for the agent's `/authz`. What is absent is unknown, and unknown is denied.

use crate::domain::decision::Denial;
use crate::domain::enforce::{self, Chain};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;

/// The response header with the decision's code.
pub const CODE_HEADER: &str = "x-countersign-code";
/// The response header with the decision's name in the record.
pub const DECISION_HEADER: &str = "x-countersign-decision";
/// The longest certificate that is decoded: three times the longest leaf, for its encoding.
const CERTIFICATE_LEN_MAX: usize = 32 * 1024;

/// What is asked, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The model, by any of its names.
    pub model: Option<String>,
    /// How it is reached.
    pub access_form: Option<String>,
    /// Where the subject is.
    pub place: Option<String>,
    /// Where the model is served from.
    pub serving_region: Option<String>,
    /// What for.
    pub purpose: Option<String>,
}

impl Asked {
    /// The question.
    pub fn request(&self) -> enforce::Request<'_> {
        enforce::Request {
            model: self.model.as_deref().unwrap_or_default(),
            // An access form that cannot be read is the strictest one.
            form: self
                .access_form
                .as_deref()
                .map_or(AccessForm::Inference, |form| form.parse().unwrap_or(AccessForm::Weights)),
            place: place(self.place.as_deref()),
            serving: place(self.serving_region.as_deref()),
            purpose: self.purpose.as_deref().and_then(|purpose| purpose.parse().ok()),
            chain: Chain::default(),
        }
    }
}

/// A place that cannot be read is not known, and judged as abroad.
fn place(text: Option<&str>) -> Place {
    text.and_then(|place| place.parse().ok()).unwrap_or(Place::Unknown)
}

/// The certificate (DER) that a proxy verified and sent along: URL-encoded PEM, or DER in base64.
pub fn leaf(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > CERTIFICATE_LEN_MAX {
        return None;
    }
    let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    let parsed = match text.starts_with("-----BEGIN") {
        true => pem::parse(text.as_bytes()),
        false => pem::parse(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")),
    };
    parsed.ok().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents)
}

/// Is it denied because whoever decides cannot know, not because of who asks? Then the answer is 503 and not 403.
pub const fn is_outage(denial: Denial) -> bool {
    matches!(
        denial,
        Denial::StateUnavailable | Denial::ClockUntrusted | Denial::StaleView | Denial::ServerNotAsked
    )
}

/// The body of a denial: JSON that says nothing about anybody but the caller.
pub fn body(code: &str, legal: &str, policy: Option<&str>, message: &str) -> String {
    serde_json::json!({ "code": code, "legal": legal, "policy": policy, "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_in_the_spellings_of_proxies() {
        let der = vec![0x30, 0x03, 0x02, 0x01, 0xff, 0xfb];
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()));
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let set = percent_encoding::NON_ALPHANUMERIC;
        let escaped = percent_encoding::utf8_percent_encode(&pem, set).to_string();
        for text in [escaped, base64.clone(), base64.replace('+', "%2B").replace('=', "%3D")] {
            assert_eq!(leaf(&text).as_ref(), Some(&der), "{text}");
        }
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", der));
        for text in ["", "no certificate", "%ff", &key, &"A".repeat(CERTIFICATE_LEN_MAX + 1)] {
            assert_eq!(leaf(text), None, "{text:.40}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_strictest() {
        let asked = Asked {
            access_form: Some("anything".to_owned()),
            place: Some("here".to_owned()),
            ..Asked::default()
        };
        let request = asked.request();
        assert_eq!((request.model, request.form), ("", AccessForm::Weights));
        assert_eq!((request.place, request.serving), (Place::Unknown, Place::Unknown));
    }
}
