//! `DeterminationService`: the policy bundle in force, and simulations of a change. Nothing here changes anything.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::methods::SIMULATORS;
use super::parse::invalid;
use super::watch::{self, Look, Watches};
use super::{show, status::status};
use crate::app::{App, Simulation, Stage};
use crate::domain::approval::MANDATE_LEN_MAX;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, ObjectRef};
use crate::domain::determination::DeterminationState;
use crate::domain::simulate::{Affected, Forecast, Line, QUESTION, Report, Tally};
use crate::domain::time::Now;
use crate::pb;

/// How often the progress of a simulation is looked at: what a bar on a terminal shows.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one may take: a hundred times what a hundred thousand people take.
const LIFE: Duration = Duration::from_secs(300);

pub(super) struct Determinations {
    app: Arc<App>,
    watches: Arc<Watches>,
}

impl Determinations {
    pub(super) const fn new(app: Arc<App>, watches: Arc<Watches>) -> Self {
        Self { app, watches }
    }
}

#[tonic::async_trait]
impl pb::determination_service_server::DeterminationService for Determinations {
    async fn get_policy(
        &self,
        _: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        let state = self.app.state();
        Ok(Response::new(pb::GetPolicyResponse {
            bundle: to_bytes(state.bundle().parts()).into(),
            hash: state.bundle().hash().to_string(),
            as_of: Some(show::position(state.position)),
            revision: state.revision(&ObjectRef::Policy).0,
        }))
    }

    async fn list_determinations(
        &self,
        _: Request<pb::ListDeterminationsRequest>,
    ) -> Result<Response<pb::ListDeterminationsResponse>, Status> {
        let (state, now) = (self.app.state(), Now::exactly(self.app.clock().now()));
        let bundle = state.bundle();
        let determinations = bundle.parts().determinations.iter().map(|determination| {
            let id = &determination.id;
            let members =
                state.entities.values().filter(|entity| entity.card.membership(Some(id), now).is_some());
            let word = match determination.state {
                DeterminationState::Countersigned if determination.has_taken_effect(now) => "IN_FORCE",
                other => other.as_str(),
            };
            pb::Determination {
                determination_id: id.to_string(),
                kind: determination.kind.to_string(),
                state: word.to_owned(),
                effective_at: determination.effective_at().map(|at| at.to_string()).unwrap_or_default(),
                models: determination.models.iter().map(ToString::to_string).collect(),
                amends: determination.amends.iter().map(ToString::to_string).collect(),
                annex_revision: state.annexes.get(id).copied().unwrap_or_default(),
                members: members.count() as u64,
            }
        });
        Ok(Response::new(pb::ListDeterminationsResponse {
            determinations: determinations.collect(),
            contradictions: bundle.contradictions().iter().map(ToString::to_string).collect(),
        }))
    }

    type SimulateStream = watch::Stream<pb::SimulateResponse>;

    async fn simulate(
        &self,
        request: Request<pb::SimulateRequest>,
    ) -> Result<Response<Self::SimulateStream>, Status> {
        let bytes = &request.get_ref().command;
        if bytes.len() > MANDATE_LEN_MAX {
            return Err(invalid("command", "it is longer than 512 KiB"));
        }
        let command: Command = from_bytes(bytes).map_err(|e| invalid("command", &e.to_string()))?;
        let (watch, stream) = self.watches.begin(&self.app, &request, SIMULATORS)?;
        let simulation = self.app.simulate(&command).map_err(status)?;
        let mut shown = None;
        watch.run((LOOK_INTERVAL, LIFE), move |_| look(&simulation, &mut shown));
        Ok(Response::new(stream))
    }
}

/// What there is to say of a simulation since the last look.
fn look(simulation: &Simulation, shown: &mut Option<(u64, u64)>) -> Look<pb::SimulateResponse> {
    use pb::simulate_response::Message;
    let (message, is_last) = match simulation.stage() {
        Stage::Running { done, total } if *shown == Some((done, total)) => return Look::Same,
        Stage::Running { done, total } => {
            *shown = Some((done, total));
            (Message::Progress(pb::SimulationProgress { done, total }), false)
        }
        Stage::Finished(found) => (Message::Report(report(*found)), true),
    };
    let response = pb::SimulateResponse { message: Some(message) };
    if is_last { Look::Last(response) } else { Look::News(response) }
}

fn report(report: Report) -> pb::SimulationReport {
    pb::SimulationReport {
        as_of: Some(show::position(report.as_of)),
        question: QUESTION.to_owned(),
        models: report.models.iter().map(ToString::to_string).collect(),
        decisions: report.decisions,
        forecasts: report.forecasts.into_iter().map(forecast).collect(),
    }
}

fn forecast(forecast: Forecast) -> pb::SimulationForecast {
    pb::SimulationForecast {
        at: forecast.at.to_string(),
        asked: Some(tally(forecast.asked)),
        permitted_before: Some(tally(forecast.permitted_before)),
        permitted_after: Some(tally(forecast.permitted_after)),
        loses: Some(affected(forecast.loses)),
        gains: Some(affected(forecast.gains)),
        needs_license: Some(affected(forecast.needs_license)),
        lines: forecast.lines.into_iter().map(line).collect(),
        left_out: forecast.left_out,
    }
}

const fn tally(tally: Tally) -> pb::SimulationTally {
    pb::SimulationTally { people: tally.people, workloads: tally.workloads }
}

const fn affected(affected: Affected) -> pb::SimulationAffected {
    pb::SimulationAffected { entities: affected.entities, subjects: Some(tally(affected.subjects)) }
}

fn line(line: Line) -> pb::SimulationLine {
    pb::SimulationLine {
        entity_id: line.entity.to_string(),
        model: line.model.to_string(),
        place: line.place.to_string(),
        effect: line.effect.to_string(),
        before: line.before.to_owned(),
        after: line.after.to_owned(),
        needs_license: line.needs_license,
        subjects: Some(tally(line.subjects)),
    }
}
