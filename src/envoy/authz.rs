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

use super::asked::{self, Asked, CODE_HEADER, DECISION_HEADER, body, is_outage};
use crate::app::{Answer, App, Asker, Asking};
use crate::domain::decided::DecidedBy;

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
}

/// The leaf (DER) that the gateway verified and sent along.
fn leaf(check: &CheckRequest) -> Option<Vec<u8>> {
    let source = check.attributes.as_ref()?.source.as_ref()?;
    asked::leaf(&source.certificate)
}

#[tonic::async_trait]
impl AuthorizationPort for Authorization {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let asker = request.extensions().get::<Asker>().map(|asker| asker.0.clone());
        let asking = Asking { by: DecidedBy::Check, gateway: asker };
        let check = request.into_inner();
        let asked = Asked {
            model: self.value(&check, "model", self.headers.model.as_deref()),
            access_form: self.value(&check, "access_form", None),
            place: self.value(&check, "place", self.headers.place.as_deref()),
            serving_region: self.value(&check, "serving_region", None),
            purpose: self.value(&check, "purpose", None),
        };
        let leaf = leaf(&check).unwrap_or_default();
        let evaluation = self
            .app
            .evaluate(&leaf, &asked.request(), None, asking)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let mut response = Response::new(answer(&evaluation.answer));
        response.extensions_mut().insert(Arc::new(evaluation.in_flight));
        Ok(response)
    }
}

fn answer(answer: &Answer) -> CheckResponse {
    let decision = &answer.decision;
    let id = answer.id.map(|id| id.to_string()).unwrap_or_default();
    if decision.is_permit() {
        let mut ok = OkHttpResponseBuilder::new();
        ok.add_response_header(CODE_HEADER, decision.code(), None, false);
        ok.add_response_header(DECISION_HEADER, id, None, false);
        let mut response = CheckResponse::with_status(Status::ok("permitted"));
        response.set_http_response(ok);
        return response;
    }
    let status = match decision.denials.first() {
        Some(denial) if is_outage(*denial) => StatusCode::ServiceUnavailable,
        Some(_) | None => StatusCode::Forbidden,
    };
    let policy = decision.policy.map(|rule| rule.as_str());
    let body = body(decision.code(), decision.legal.as_str(), policy, &decision.explain());
    let mut denied = DeniedHttpResponseBuilder::new();
    denied.set_http_status(status);
    denied.add_header(CODE_HEADER, decision.code(), None, false);
    if !id.is_empty() {
        denied.add_header(DECISION_HEADER, id, None, false);
    }
    denied.add_header("content-type", "application/json", None, false);
    denied.set_body(body);
    let mut response = CheckResponse::with_status(Status::permission_denied(decision.code()));
    response.set_http_response(denied);
    response
}
