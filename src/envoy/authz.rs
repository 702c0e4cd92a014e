//! External authorization (ext_authz v3). The leaf arrives URL-encoded in `source.certificate`; model and place come
//! from the route's `context_extensions`, or from headers that the configuration names as set by a trusted edge. What is
//! absent is unknown, and unknown is denied. The answer says nothing about anybody but the caller.

use std::sync::Arc;

use envoy_types::ext_authz::v3::pb::{
    Authorization as AuthorizationPort, AuthorizationServer, CheckRequest, CheckResponse,
};
use envoy_types::ext_authz::v3::{
    CheckRequestExt, CheckResponseExt, DeniedHttpResponseBuilder, OkHttpResponseBuilder,
};
use envoy_types::pb::envoy::r#type::v3::StatusCode;
use tonic::{Request, Response, Status};

use crate::app::{Answer, App};
use crate::domain::decision::Denial;
use crate::domain::enforce::{self, Chain};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;

/// The response header with the decision's code.
const CODE_HEADER: &str = "x-countersign-code";
/// The longest certificate that is decoded: three times the longest leaf, for its encoding.
const CERTIFICATE_LEN_MAX: usize = 32 * 1024;

/// Request headers that a trusted edge sets, by lower-case name. None: only the route's own values count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedHeaders {
    /// The model.
    pub model: Option<String>,
    /// The place of the subject.
    pub place: Option<String>,
}

/// The service.
pub struct Authorization {
    app: Arc<App>,
    headers: TrustedHeaders,
}

impl Authorization {
    /// The gRPC service for a server.
    pub fn service(app: &Arc<App>, headers: TrustedHeaders) -> AuthorizationServer<Self> {
        AuthorizationServer::new(Self { app: Arc::clone(app), headers })
    }

    fn value(&self, check: &CheckRequest, key: &str, header: Option<&str>) -> Option<String> {
        let attributes = check.attributes.as_ref()?;
        let from_route = attributes.context_extensions.get(key);
        let from_edge = header.and_then(|name| check.get_client_headers()?.get(name));
        from_route.or(from_edge).cloned()
    }

    fn place(&self, check: &CheckRequest, key: &str, header: Option<&str>) -> Place {
        // A place that cannot be read is not known, and judged as abroad.
        self.value(check, key, header).and_then(|place| place.parse().ok()).unwrap_or(Place::Unknown)
    }
}

/// The leaf (DER) that the gateway verified and sent along.
fn leaf(check: &CheckRequest) -> Option<Vec<u8>> {
    let source = check.attributes.as_ref()?.source.as_ref()?;
    if source.certificate.is_empty() || source.certificate.len() > CERTIFICATE_LEN_MAX {
        return None;
    }
    let pem = percent_encoding::percent_decode_str(&source.certificate).decode_utf8().ok()?;
    pem::parse(pem.as_bytes()).ok().map(pem::Pem::into_contents)
}

#[tonic::async_trait]
impl AuthorizationPort for Authorization {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let check = request.into_inner();
        let model = self.value(&check, "model", self.headers.model.as_deref()).unwrap_or_default();
        let form = self.value(&check, "access_form", None);
        let question = enforce::Request {
            model: &model,
            // An access form that cannot be read is the strictest one.
            form: form.map_or(AccessForm::Inference, |form| form.parse().unwrap_or(AccessForm::Weights)),
            place: self.place(&check, "place", self.headers.place.as_deref()),
            serving: self.place(&check, "serving_region", None),
            purpose: self.value(&check, "purpose", None).and_then(|purpose| purpose.parse().ok()),
            chain: Chain::default(),
        };
        let leaf = leaf(&check).unwrap_or_default();
        let evaluation =
            self.app.evaluate(&leaf, &question, None).map_err(|e| Status::unavailable(e.to_string()))?;
        let mut response = Response::new(answer(&evaluation.answer));
        response.extensions_mut().insert(Arc::new(evaluation.in_flight));
        Ok(response)
    }
}

fn answer(answer: &Answer) -> CheckResponse {
    let decision = &answer.decision;
    if decision.is_permit() {
        let mut ok = OkHttpResponseBuilder::new();
        ok.add_response_header(CODE_HEADER, decision.code(), None, false);
        let mut response = CheckResponse::with_status(Status::ok("permitted"));
        response.set_http_response(ok);
        return response;
    }
    let status = match decision.denials.first() {
        Some(Denial::StateUnavailable | Denial::ClockUntrusted | Denial::StaleView) => {
            StatusCode::ServiceUnavailable
        }
        Some(_) | None => StatusCode::Forbidden,
    };
    let body = serde_json::json!({
        "code": decision.code(),
        "legal": decision.legal.as_str(),
        "policy": decision.policy.map(|rule| rule.as_str()),
        "message": decision.explain(),
    });
    let mut denied = DeniedHttpResponseBuilder::new();
    denied.set_http_status(status);
    denied.add_header(CODE_HEADER, decision.code(), None, false);
    denied.add_header("content-type", "application/json", None, false);
    denied.set_body(body.to_string());
    let mut response = CheckResponse::with_status(Status::permission_denied(decision.code()));
    response.set_http_response(denied);
    response
}
