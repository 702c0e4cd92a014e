//! `ProvisioningService`: partners, their people and workloads.
//!
//! Who may not know of an entity gets the answer of one that is not there, by the same path.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::parse::{caller, invalid, mode, optional, page_len, principal, required};
use super::{show, status::status};
use crate::app::{App, Error, Nomination};
use crate::domain::id::{EntityId, SubjectId};
use crate::domain::principal::Role;
use crate::domain::state::State;
use crate::domain::time::Now;
use crate::pb;

pub(super) struct Provisioning {
    app: Arc<App>,
}

impl Provisioning {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    fn now(&self) -> Now {
        Now::with_margin(self.app.now())
    }
}

/// The only entity that a caller may read; none: all of them.
pub(super) fn confined<T>(state: &State, request: &Request<T>) -> Result<Option<EntityId>, Status> {
    let id = principal(request)?;
    let principal = state.principal(&id).ok_or_else(|| status(Error::NotFound("principal")))?;
    match principal.entity {
        Some(entity) if principal.has(Role::PartnerAdmin) => Ok(Some(entity)),
        Some(_) | None => Ok(None),
    }
}

#[tonic::async_trait]
impl pb::provisioning_service_server::ProvisioningService for Provisioning {
    async fn apply_entity(
        &self,
        request: Request<pb::ApplyEntityRequest>,
    ) -> Result<Response<pb::ApplyEntityResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let what = (required("kind", &m.kind)?, m.name);
        let law = (required("organisation", &m.organisation)?, optional("seat", &m.seat)?);
        let (id, position) =
            self.app.apply_entity(&caller, what, law, mode(m.validate_only)).await.map_err(status)?;
        Ok(Response::new(pb::ApplyEntityResponse {
            entity_id: id.to_string(),
            position: Some(show::position(position)),
        }))
    }

    async fn get_entity(
        &self,
        request: Request<pb::GetEntityRequest>,
    ) -> Result<Response<pb::GetEntityResponse>, Status> {
        let state = self.app.state();
        let confined = confined(&state, &request)?;
        let id: EntityId = required("entity_id", &request.get_ref().entity_id)?;
        let entity = state.entities.get(&id).filter(|_| confined.is_none_or(|own| own == id));
        let entity = entity.ok_or_else(|| status(Error::NotFound("entity")))?;
        let entity = Some(show::entity(&state, entity, self.now()));
        Ok(Response::new(pb::GetEntityResponse { entity }))
    }

    async fn list_entities(
        &self,
        request: Request<pb::ListEntitiesRequest>,
    ) -> Result<Response<pb::ListEntitiesResponse>, Status> {
        let state = self.app.state();
        let confined = confined(&state, &request)?;
        let m = request.into_inner();
        let after: Option<EntityId> = optional("page_token", &m.page_token)?;
        let len = page_len(m.page_size);
        let rows = state.entities.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        let mut page: Vec<_> =
            rows.filter(|(id, _)| confined.is_none_or(|own| own == **id)).take(len + 1).collect();
        let more = page.len() > len;
        page.truncate(len);
        let next = if more { page.last().map(|(id, _)| id.to_string()) } else { None };
        let entities = page.iter().map(|(_, entity)| show::entity(&state, entity, self.now())).collect();
        Ok(Response::new(pb::ListEntitiesResponse { entities, next_page_token: next.unwrap_or_default() }))
    }

    async fn nominate_subject(
        &self,
        request: Request<pb::NominateSubjectRequest>,
    ) -> Result<Response<pb::NominateSubjectResponse>, Status> {
        use pb::nominate_subject_request::Body;
        let caller = caller(&request, &request.get_ref().request_id)?;
        let may_name_people = confined(&self.app.state(), &request)?.is_none();
        let m = request.into_inner();
        let entity = required("entity_id", &m.entity_id)?;
        let nomination = match m.body.ok_or_else(|| invalid("body", "a person or a workload is needed"))? {
            Body::Person(person) => {
                if !person.person_id.is_empty() && !may_name_people {
                    return Err(invalid(
                        "person.person_id",
                        "only a registrar knows people across employments",
                    ));
                }
                Nomination::Person {
                    person: optional("person.person_id", &person.person_id)?,
                    relation: required("person.relation", &person.relation)?,
                    until: optional("person.relation_until", &person.relation_until)?,
                }
            }
            Body::Workload(workload) => Nomination::Workload {
                owner: required("workload.owner", &workload.owner)?,
                operators: workload
                    .operators
                    .iter()
                    .map(|id| required("workload.operators", id))
                    .collect::<Result<_, _>>()?,
            },
        };
        let (id, position) =
            self.app.nominate(&caller, entity, nomination, mode(m.validate_only)).await.map_err(status)?;
        Ok(Response::new(pb::NominateSubjectResponse {
            subject_id: id.to_string(),
            position: Some(show::position(position)),
        }))
    }

    async fn import_people(
        &self,
        request: Request<Streaming<pb::ImportPeopleRequest>>,
    ) -> Result<Response<pb::ImportPeopleResponse>, Status> {
        let caller = caller(&request, "")?;
        super::people::import(&self.app, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn attest_relation(
        &self,
        request: Request<pb::AttestRelationRequest>,
    ) -> Result<Response<pb::AttestRelationResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let subject = required("subject_id", &m.subject_id)?;
        let relation = (required("relation", &m.relation)?, optional("relation_until", &m.relation_until)?);
        let position = self
            .app
            .attest_relation(&caller, subject, relation, mode(m.validate_only))
            .await
            .map_err(status)?;
        Ok(Response::new(pb::AttestRelationResponse { position: Some(show::position(position)) }))
    }

    async fn get_subject(
        &self,
        request: Request<pb::GetSubjectRequest>,
    ) -> Result<Response<pb::GetSubjectResponse>, Status> {
        let state = self.app.state();
        let confined = confined(&state, &request)?;
        let id: SubjectId = required("subject_id", &request.get_ref().subject_id)?;
        let subject = state.subjects.get(&id).filter(|s| confined.is_none_or(|own| own == s.entity));
        let subject = subject.ok_or_else(|| status(Error::NotFound("subject")))?;
        let mut shown = show::subject(&state, subject);
        // A partner is told no more than its people are.
        if confined.is_none() {
            shown.issuance_refusal = self.app.issuance_refusal(id).unwrap_or_default();
        }
        Ok(Response::new(pb::GetSubjectResponse { subject: Some(shown) }))
    }

    async fn list_subjects(
        &self,
        request: Request<pb::ListSubjectsRequest>,
    ) -> Result<Response<pb::ListSubjectsResponse>, Status> {
        let state = self.app.state();
        let confined = confined(&state, &request)?;
        let m = request.into_inner();
        let entity: EntityId = required("entity_id", &m.entity_id)?;
        let after: Option<SubjectId> = optional("page_token", &m.page_token)?;
        let len = page_len(m.page_size);
        let visible = confined.is_none_or(|own| own == entity);
        let rows = state.subjects.iter().filter(|(id, subject)| {
            visible && subject.entity == entity && after.is_none_or(|after| **id > after)
        });
        let mut page: Vec<_> = rows.take(len + 1).collect();
        let more = page.len() > len;
        page.truncate(len);
        let next = if more { page.last().map(|(id, _)| id.to_string()) } else { None };
        let subjects = page.iter().map(|(_, subject)| show::subject(&state, subject)).collect();
        Ok(Response::new(pb::ListSubjectsResponse { subjects, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_due(
        &self,
        request: Request<pb::ListDueRequest>,
    ) -> Result<Response<pb::ListDueResponse>, Status> {
        super::due::list(&self.app, request).await
    }

    async fn get_restoration(
        &self,
        request: Request<pb::GetRestorationRequest>,
    ) -> Result<Response<pb::GetRestorationResponse>, Status> {
        super::due::restoration(&self.app, request).await
    }

    async fn create_tokens(
        &self,
        request: Request<pb::CreateTokensRequest>,
    ) -> Result<Response<pb::CreateTokensResponse>, Status> {
        let caller = caller(&request, "")?;
        Ok(Response::new(super::people::tokens(&self.app, &caller, request.into_inner()).await?))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let subject = required("subject_id", &m.subject_id)?;
        let new =
            self.app.create_token(&caller, subject, m.ttl_s, mode(m.validate_only)).await.map_err(status)?;
        // A check makes no token, so it shows none.
        let token = if m.validate_only { String::new() } else { new.token.reveal() };
        Ok(Response::new(pb::CreateTokenResponse {
            token,
            expires_at: new.expires_at.to_string(),
            position: Some(show::position(new.position)),
        }))
    }
}
