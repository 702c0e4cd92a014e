//! Asking the server what a gateway cannot decide by itself: licences, intermediaries, and cards that are not here yet.
//! Without an answer in time the access is denied.

use std::time::Duration;

use bytes::Bytes;

use super::connections::{Barred, Connection, Connections};
use super::gate::{Gate, GateDecision, Shared};
use super::question::Question;
use crate::domain::decision::Denial;
use crate::domain::enforce::{Position, Request};
use crate::pb::attestation_service_client::AttestationServiceClient;
use crate::pb::{self, EvaluateRequest};
use crate::wire::evaluate_request;

/// How long an answer may take: below the patience of most callers, above any healthy server.
const ASK_TIMEOUT_MS: u64 = 2_000;
/// How often is asked when records overtake the answer.
const ASKS_MAX: usize = 2;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// This gate, on its view.
    Gate,
    /// The server.
    Server,
}

/// A decision of either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Permitted?
    pub is_permit: bool,
    /// The code to show first.
    pub code: String,
    /// The legal outcome.
    pub legal: String,
    /// The row or gate that gave it.
    pub rule: String,
    /// One sentence for the caller.
    pub explanation: String,
    /// The state of the world that was judged.
    pub as_of: Position,
    /// For a permit: when it ends at the latest, on this machine's boot clock. To be used within 250 ms all the same.
    pub good_until_boot_ms: Option<u64>,
    /// Who decided.
    pub by: DecidedBy,
}

impl From<GateDecision> for Answer {
    fn from(decided: GateDecision) -> Self {
        Self {
            is_permit: decided.is_permit(),
            code: decided.decision.code().to_owned(),
            legal: decided.decision.legal.to_string(),
            rule: decided.decision.rule.to_string(),
            explanation: decided.decision.explain(),
            as_of: decided.as_of,
            good_until_boot_ms: decided.good_until_boot_ms,
            by: DecidedBy::Gate,
        }
    }
}

impl Answer {
    fn refused(decided: GateDecision, denial: Denial) -> Self {
        Self {
            is_permit: false,
            code: denial.as_str().to_owned(),
            explanation: format!("denied: {}", denial.explain()),
            good_until_boot_ms: None,
            ..Self::from(decided)
        }
    }

    fn of_server(decision: pb::Decision, good_until_boot_ms: Option<u64>) -> Self {
        Self {
            is_permit: decision.permit,
            code: decision.code,
            legal: decision.legal,
            rule: decision.rule,
            explanation: decision.explanation,
            as_of: decision.as_of.map(Position::from).unwrap_or_default(),
            good_until_boot_ms: good_until_boot_ms.filter(|_| decision.permit),
            by: DecidedBy::Server,
        }
    }
}

impl Gate {
    /// Decides, and asks the server where it must. Denied when the server does not answer within two seconds.
    pub async fn decide_or_ask(&self, leaf_der: &[u8], request: &Request<'_>) -> Answer {
        self.shared.decide_or_ask(leaf_der, request).await
    }
}

impl Shared {
    pub(super) async fn decide_or_ask(&self, leaf_der: &[u8], request: &Request<'_>) -> Answer {
        let decided = self.judge(leaf_der, request);
        let answer = self.answer(&decided, leaf_der, request).await;
        if self.report(&decided, (answer.is_permit, &answer.code), request) {
            return answer;
        }
        Answer::refused(decided, Denial::StateUnavailable)
    }

    /// The same for a stream, which is registered before the answer is reported: what is reported is what the caller gets.
    ///
    /// # Errors
    /// The code of the denial.
    pub(super) async fn admit(
        &self,
        connections: &Connections,
        leaf_der: &[u8],
        question: Question,
    ) -> Result<(Answer, Connection), String> {
        let request = question.request();
        let decided = self.judge(leaf_der, &request);
        let answer = self.answer(&decided, leaf_der, &request).await;
        let stream = if answer.is_permit {
            let stream = connections.register_answer(leaf_der, question.clone(), answer.as_of);
            stream.map_err(|Barred(code)| code.to_owned())
        } else {
            Err(answer.code.clone())
        };
        let code = stream.as_ref().err().unwrap_or(&answer.code);
        if self.report(&decided, (stream.is_ok(), code), &request) {
            return stream.map(|stream| (answer, stream));
        }
        Err(Denial::StateUnavailable.as_str().to_owned())
    }

    async fn answer(&self, decided: &GateDecision, leaf_der: &[u8], request: &Request<'_>) -> Answer {
        if !decided.decision.ask_server {
            return decided.clone().into();
        }
        self.counts.asked.add();
        if let Some(entity) = decided.entity {
            self.want(entity);
        }
        let asked = self.ask(leaf_der, request, decided.as_of);
        match tokio::time::timeout(Duration::from_millis(ASK_TIMEOUT_MS), asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Answer::refused(decided.clone(), Denial::ServerNotAsked),
        }
    }

    async fn ask(&self, leaf_der: &[u8], request: &Request<'_>, at: Position) -> Option<Answer> {
        let certificate = Bytes::copy_from_slice(leaf_der);
        let mut at_least = at;
        for _ in 0..ASKS_MAX {
            let question = evaluate_request(certificate.clone(), request, at_least);
            let decision = self.evaluate(question).await?;
            let as_of = decision.as_of.map(Position::from).unwrap_or_default();
            if !decision.permit {
                return Some(Answer::of_server(decision, None));
            }
            // The answer travelled while records arrived here. What they took away this gate sees; what it cannot see
            // must have been in the answer already.
            let now = self.judge(leaf_der, request);
            if !now.is_permit() && !now.decision.ask_server {
                return Some(now.into());
            }
            let standing = self.published.load();
            let held = standing.view.as_ref().map(|view| view.position).unwrap_or_default();
            if as_of.epoch == held.epoch && as_of >= held {
                return Some(Answer::of_server(decision, standing.lease_until_ms));
            }
            at_least = held;
        }
        None
    }

    async fn evaluate(&self, question: EvaluateRequest) -> Option<pb::Decision> {
        let channel = self.channel.load_full()?;
        let mut client = AttestationServiceClient::new(channel.as_ref().clone());
        let answer = client.evaluate(question).await.ok()?;
        answer.into_inner().decision
    }
}
