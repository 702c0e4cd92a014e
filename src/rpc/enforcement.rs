//! `EnforcementService`: the feed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::parse::{invalid, principal};
use super::status::status;
use crate::app::{App, Error};
use crate::domain::enforce::message::{FromGateway, ToGateway};
use crate::feed::{OpenFault, Session};
use crate::pb;

/// Messages that wait for the transport; when it is full the session waits and coalesces.
const OUTBOX_LEN: usize = 4;

pub(super) struct Enforcement {
    app: Arc<App>,
}

impl Enforcement {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Outbox = mpsc::Sender<Result<pb::SubscribeResponse, Status>>;

#[tonic::async_trait]
impl pb::enforcement_service_server::EnforcementService for Enforcement {
    type SubscribeStream = ReceiverStream<Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let gateway = principal(&request)?;
        let mut inbox = request.into_inner();
        let first = inbox.message().await?.ok_or_else(|| invalid("message", "the first one must be Open"))?;
        let FromGateway::Open(open) = parse(first)? else {
            return Err(invalid("message", "the first one must be Open"));
        };
        // Judging a claim may read the whole journal.
        let feed = self.app.feed().clone();
        let opened = tokio::task::spawn_blocking(move || feed.open(gateway, open)).await;
        let session = opened.map_err(|e| status(Error::Internal(e.to_string())))?.map_err(refuse)?;
        let (outbox, stream) = mpsc::channel(OUTBOX_LEN);
        tokio::spawn(carry(session, inbox, outbox));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_gateways(
        &self,
        _: Request<pb::ListGatewaysRequest>,
    ) -> Result<Response<pb::ListGatewaysResponse>, Status> {
        let sessions = self.app.feed().sessions().into_iter().map(|session| pb::GatewaySession {
            gateway: session.gateway.to_string(),
            boot_id: session.boot.to_string(),
            connected: session.is_connected,
            applied_seq: session.acked.0,
            lag: session.lag,
            lease_left_ms: session.lease_left_ms,
            weak: session.is_weak,
            last_nack: session
                .last_nack
                .map(|nack| format!("{}: {}", nack.code, nack.detail))
                .unwrap_or_default(),
        });
        Ok(Response::new(pb::ListGatewaysResponse { sessions: sessions.collect() }))
    }
}

fn parse(message: pb::SubscribeRequest) -> Result<FromGateway, Status> {
    FromGateway::try_from(message).map_err(|e| invalid(e.field, &e.why))
}

fn refuse(fault: OpenFault) -> Status {
    match fault {
        OpenFault::NotAGateway(_) => status(Error::Denied(fault.to_string())),
        OpenFault::BadClaim => status(Error::WrongState(fault.to_string())),
        OpenFault::RolledBack(_) => status(Error::Unavailable(fault.to_string())),
        OpenFault::TooManySessions => status(Error::Limit { retry_after_ms: 1_000 }),
    }
}

/// Carries messages both ways until either side ends. What the gateway says is always heard, also while it does not
/// read.
async fn carry(mut session: Session, mut inbox: Streaming<pb::SubscribeRequest>, outbox: Outbox) {
    let mut waiting: Option<ToGateway> = None;
    loop {
        tokio::select! {
            heard = inbox.message() => {
                let message = match heard {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => return,
                };
                let taken = parse(message).and_then(|message| {
                    session.on(message).map_err(|e| Status::new(Code::FailedPrecondition, e.to_string()))
                });
                if let Err(refusal) = taken {
                    drop(outbox.try_send(Err(refusal)));
                    return;
                }
            }
            next = session.next(), if waiting.is_none() => match next {
                Ok(message) => waiting = Some(message),
                Err(closed) => {
                    drop(outbox.try_send(Err(Status::unavailable(closed.to_string()))));
                    return;
                }
            },
            place = outbox.reserve(), if waiting.is_some() => {
                let Ok(place) = place else { return };
                if let Some(message) = waiting.take() {
                    place.send(Ok(message.into()));
                }
            }
        }
    }
}
