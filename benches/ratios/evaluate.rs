//! `evaluate_rpc`: decisions a second over mTLS, each recorded, against a bare tonic server that gives the same answer to the same
//! question without deciding anything. Spells of both take turns, with as many calls under way.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use countersign::domain::person::EvidenceKind;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::bare;
use crate::measure::{Row, median, wall_us};
use crate::world::World;

/// Calls under way at once, over one connection.
const CONCURRENT: usize = 32;
/// Spells of each kind, after one that warms up, and how long one lasts.
const SPELLS: usize = 9;
const SPELL: Duration = Duration::from_secs(2);

/// Gives one answer to every call.
#[derive(Clone)]
struct Echo(Arc<pb::EvaluateResponse>);

impl NamedService for Echo {
    const NAME: &'static str = "countersign.v1.AttestationService";
}

impl UnaryService<pb::EvaluateRequest> for Echo {
    type Response = pb::EvaluateResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<pb::EvaluateRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.as_ref().clone())))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(Grpc::new(tonic_prost::ProstCodec::default()).unary(echo, request).await) })
    }
}

/// Answers a second.
async fn spell(channel: &Channel, question: &pb::EvaluateRequest) -> f64 {
    let begin = wall_us();
    let end = begin + SPELL.as_secs_f64() * 1e6;
    let mut callers: JoinSet<u64> = (0..CONCURRENT)
        .map(|_| {
            let (mut client, question) = (AttestationServiceClient::new(channel.clone()), question.clone());
            async move {
                let mut answered = 0;
                while wall_us() < end {
                    let decision =
                        client.evaluate(question.clone()).await.unwrap().into_inner().decision.unwrap();
                    assert!(decision.permit && decision.id.starts_with("dec_"), "{decision:?}");
                    answered += 1;
                }
                answered
            }
        })
        .collect();
    let mut answered = 0;
    while let Some(one) = callers.join_next().await {
        answered += one.unwrap();
    }
    answered as f64 / ((wall_us() - begin) / 1e6)
}

pub(crate) fn evaluate_rpc() -> Row {
    let runtime = Runtime::new().unwrap();
    let (measured, floor) = runtime.block_on(async {
        let world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let leaf = world.enroll(subject).await.certificate;
        let gateway = world.gateway("gw-1").await;
        let channel = world.connect(Some((&gateway.key, &gateway.certificate))).await;
        let question = pb::EvaluateRequest {
            certificate: leaf.into(),
            model: "mythos-5".to_owned(),
            place: "US".to_owned(),
            serving_region: "US".to_owned(),
            ..Default::default()
        };
        let answer = AttestationServiceClient::new(channel.clone()).evaluate(question.clone()).await.unwrap();
        let bare = bare::connected(Routes::new(Echo(Arc::new(answer.into_inner())))).await;
        let (mut decided, mut echoed) = (Vec::new(), Vec::new());
        for round in 0..=SPELLS {
            let (echo, decision) = (spell(&bare, &question).await, spell(&channel, &question).await);
            if round > 0 {
                echoed.push(echo);
                decided.push(decision);
            }
        }
        (median(decided), median(echoed))
    });
    Row {
        name: "evaluate_rpc",
        measured: (measured, "answers/s"),
        floor: (floor, "answers/s"),
        goal: ">= 0.80, each recorded",
        met: measured >= 0.8 * floor,
    }
}
