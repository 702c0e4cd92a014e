//! `AttestationService`: certificates and decisions.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::parse::{invalid, optional, or_default, page_len, position, principal, required, subject};
use super::places::{Held, make_page};
use super::provisioning::confined;
use super::{show, status::status};
use crate::app::{App, Asker, Asking, Error};
use crate::domain::certificate::{AuthorityKind, CanaryFacts, CanarySide, Facts, Serial};
use crate::domain::decided::DecidedBy;
use crate::domain::decision::Denial;
use crate::domain::enforce::{self, Chain, Position};
use crate::domain::id::{EntityId, Ordinal, SubjectId};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::pb;
use crate::x509::explain::explain;

/// The most intermediaries that a request may name.
pub(super) const CHAIN_LEN_MAX: usize = 16;

pub(super) struct Attestation {
    app: Arc<App>,
}

impl Attestation {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// The status of a request for a certificate that got none.
    fn refuse(&self, error: Error) -> Status {
        self.app.metrics().refused(error.code());
        status(error)
    }

    /// What is shown with a leaf.
    fn above(&self, leaf: &[u8]) -> Vec<Bytes> {
        self.app.above(leaf).into_iter().map(Bytes::from).collect()
    }
}

/// What certificates are looked up by.
enum CertificatesBy {
    Entity(EntityId),
    Subject(SubjectId),
    Ordinal(Ordinal),
    Serial(Serial),
}

/// What a caller asks, from a message that outlives it.
pub(super) fn request(message: &pb::EvaluateRequest) -> Result<enforce::Request<'_>, Status> {
    if message.chain.len() > CHAIN_LEN_MAX {
        return Err(invalid("chain", "at most 16 intermediaries are allowed"));
    }
    let hops = message.chain.iter().map(|hop| required("chain", hop)).collect::<Result<_, _>>()?;
    Ok(enforce::Request {
        model: &message.model,
        form: or_default("access_form", &message.access_form, AccessForm::Inference)?,
        place: or_default("place", &message.place, Place::Unknown)?,
        serving: or_default("serving_region", &message.serving_region, Place::Unknown)?,
        purpose: optional("purpose", &message.purpose)?,
        chain: Chain { hops, end_user_identified: message.end_user_identified },
    })
}

/// Who asks for a decision, and by which way.
fn asking<T>(by: DecidedBy, request: &Request<T>) -> Asking {
    Asking { by, gateway: request.extensions().get::<Asker>().map(|asker| asker.0.clone()) }
}

#[tonic::async_trait]
impl pb::attestation_service_server::AttestationService for Attestation {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let message = request.into_inner();
        let issued = self.app.enroll(&message.token, &message.csr).await.map_err(|e| self.refuse(e))?;
        Ok(Response::new(pb::EnrollResponse {
            chain: self.above(&issued.certificate),
            certificate: issued.certificate.into(),
            ignored: issued.ignored,
            position: Some(show::position(issued.position)),
        }))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewResponse>, Status> {
        let certificate = subject(&request)?;
        let renewed = self.app.renew(&certificate, &request.into_inner().csr).await;
        let issued = renewed.map_err(|e| self.refuse(e))?;
        Ok(Response::new(pb::RenewResponse {
            chain: self.above(&issued.certificate),
            certificate: issued.certificate.into(),
            ignored: issued.ignored,
            position: Some(show::position(issued.position)),
        }))
    }

    async fn get_renewal(
        &self,
        request: Request<pb::GetRenewalRequest>,
    ) -> Result<Response<pb::GetRenewalResponse>, Status> {
        let certificate = subject(&request)?;
        let Facts::Access(facts) = &certificate.facts else {
            return Err(status(Error::Denied("only people and workloads renew here".to_owned())));
        };
        let window = self.app.renewal_window(&certificate, facts);
        Ok(Response::new(pb::GetRenewalResponse {
            renew_from: window.from.to_string(),
            renew_until: window.until.to_string(),
            cause: window.cause.to_owned(),
            retry_after_s: window.retry_after_s,
        }))
    }

    async fn issue_principal_certificate(
        &self,
        request: Request<pb::IssuePrincipalCertificateRequest>,
    ) -> Result<Response<pb::IssuePrincipalCertificateResponse>, Status> {
        let message = request.into_inner();
        let principal = required("principal", &message.principal)?;
        let issued = self.app.issue_principal(&principal, &message.csr).await.map_err(|e| self.refuse(e))?;
        Ok(Response::new(pb::IssuePrincipalCertificateResponse {
            chain: self.above(&issued.certificate),
            certificate: issued.certificate.into(),
            position: Some(show::position(issued.position)),
        }))
    }

    async fn renew_principal_certificate(
        &self,
        request: Request<pb::RenewPrincipalCertificateRequest>,
    ) -> Result<Response<pb::RenewPrincipalCertificateResponse>, Status> {
        let principal = principal(&request)?;
        let csr = request.into_inner().csr;
        let issued = self.app.issue_principal(&principal, &csr).await.map_err(|e| self.refuse(e))?;
        Ok(Response::new(pb::RenewPrincipalCertificateResponse {
            chain: self.above(&issued.certificate),
            certificate: issued.certificate.into(),
            position: Some(show::position(issued.position)),
        }))
    }

    async fn issue_canaries(
        &self,
        request: Request<pb::IssueCanariesRequest>,
    ) -> Result<Response<pb::IssueCanariesResponse>, Status> {
        let gateway = principal(&request)?;
        let message = request.into_inner();
        let canary = |side| CanaryFacts { gateway: gateway.clone(), side };
        let a = self.app.issue_canary(canary(CanarySide::A), &message.csr_a).await;
        let a = a.map_err(|e| self.refuse(e))?;
        let b = self.app.issue_canary(canary(CanarySide::B), &message.csr_b).await;
        let b = b.map_err(|e| self.refuse(e))?;
        Ok(Response::new(pb::IssueCanariesResponse {
            certificate_a: a.certificate.into(),
            certificate_b: b.certificate.into(),
            position: Some(show::position(a.position.max(b.position))),
        }))
    }

    async fn evaluate(
        &self,
        message: Request<pb::EvaluateRequest>,
    ) -> Result<Response<pb::EvaluateResponse>, Status> {
        let asking = asking(DecidedBy::Evaluate, &message);
        let message = message.into_inner();
        let at_least = position(message.min_position);
        let asked = request(&message)?;
        let evaluation = self.app.evaluate(&message.certificate, &asked, at_least, asking).await;
        let evaluation = evaluation.map_err(status)?;
        let decision = Some(show::decision(&evaluation.answer));
        let mut response = Response::new(pb::EvaluateResponse { decision });
        // The barrier waits until the answer has been handed to the transport.
        response.extensions_mut().insert(Arc::new(evaluation.in_flight));
        Ok(response)
    }

    async fn verify(
        &self,
        request: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyResponse>, Status> {
        let own = confined(&self.app.state(), &request)?;
        let asking = asking(DecidedBy::Verify, &request);
        let message = request.into_inner();
        let at_least = position(message.min_position);
        let verified = self.app.verify(&message.certificate, at_least, asking).await.map_err(status)?;
        let decision_id = verified.id.map(|id| id.to_string()).unwrap_or_default();
        // A partner learns nothing of another's: neither that it is one, nor whether it is still good.
        if own.is_some() && own != verified.of {
            return Ok(Response::new(pb::VerifyResponse {
                valid: false,
                code: Denial::CredentialInvalid.to_string(),
                explanation: "it is no certificate of your entity".to_owned(),
                lines: Vec::new(),
                as_of: Some(show::position(verified.as_of)),
                decision_id,
            }));
        }
        let lines = explain(&message.certificate, self.app.profile()).map(|explanation| {
            let lines = explanation.lines.into_iter();
            lines.map(|line| pb::CertificateLine {
                label: line.label.to_string(),
                value: line.value,
                meaning: line.meaning.to_string(),
            })
        });
        let (code, explanation) = verified.fault.clone().unwrap_or_default();
        Ok(Response::new(pb::VerifyResponse {
            valid: verified.fault.is_none(),
            code: code.to_owned(),
            explanation,
            lines: lines.map(Iterator::collect).unwrap_or_default(),
            as_of: Some(show::position(verified.as_of)),
            decision_id,
        }))
    }

    async fn list_certificates(
        &self,
        request: Request<pb::ListCertificatesRequest>,
    ) -> Result<Response<pb::ListCertificatesResponse>, Status> {
        use pb::list_certificates_request::By;
        let held = request.extensions().get::<Held>().cloned();
        let message = request.into_inner();
        let after = optional("page_token", &message.page_token)?.map(Ordinal);
        let len = page_len(message.page_size);
        let views = Arc::clone(self.app.certificates());
        let by =
            match message.by.ok_or_else(|| invalid("by", "an entity, a subject or a number is needed"))? {
                By::EntityId(id) => CertificatesBy::Entity(required("entity_id", &id)?),
                By::SubjectId(id) => CertificatesBy::Subject(required("subject_id", &id)?),
                By::Ordinal(ordinal) => CertificatesBy::Ordinal(Ordinal(ordinal)),
                By::Serial(serial) => CertificatesBy::Serial(required("serial", &serial)?),
            };
        let read = make_page(held, move || {
            let rows = match by {
                CertificatesBy::Entity(id) => views.by_entity(id, after, len),
                CertificatesBy::Subject(id) => views.by_subject(id, after, len),
                CertificatesBy::Ordinal(ordinal) => {
                    views.by_ordinal(AuthorityKind::Access, ordinal).map(|row| row.into_iter().collect())
                }
                CertificatesBy::Serial(serial) => {
                    views.by_serial(&serial).map(|row| row.into_iter().collect())
                }
            };
            (rows, views.applied_seq())
        });
        let (rows, seq) = read.await?;
        let rows =
            rows.map_err(|e| status(Error::Unavailable(format!("the index is being rebuilt: {e}"))))?;
        let next = if rows.len() == len { rows.last().map(|row| row.ordinal.to_string()) } else { None };
        let as_of = Position { epoch: self.app.state().position.epoch, seq };
        Ok(Response::new(pb::ListCertificatesResponse {
            certificates: rows.iter().map(show::certificate).collect(),
            next_page_token: next.unwrap_or_default(),
            as_of: Some(show::position(as_of)),
        }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<pb::GetTrustBundleRequest>,
    ) -> Result<Response<pb::GetTrustBundleResponse>, Status> {
        let pem = |kind| self.app.trusted(kind).map(|bundle| bundle.to_pem()).unwrap_or_default();
        Ok(Response::new(pb::GetTrustBundleResponse {
            access_pem: pem(AuthorityKind::Access),
            system_pem: pem(AuthorityKind::System),
            position: Some(show::position(self.app.state().position)),
        }))
    }
}
