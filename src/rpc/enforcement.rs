//! `EnforcementService`: the feed, and what gateways report.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tonic::{Code, Request, Response, Status, Streaming};

use super::caller::admit;
use super::fleet;
use super::frames::{Downstream, Outgoing};
use super::methods::{GATEWAY_WATCHERS, SUBSCRIBERS};
use super::parse::{Peer, invalid, principal, required};
use super::places::Places;
use super::status::{reasoned, status};
use super::watch::{self, Look, Watches};
use crate::app::{App, Error};
use crate::domain::enforce::message::{FromGateway, ToGateway};
use crate::domain::enforce::{Contradiction, Position};
use crate::domain::id::{Epoch, Seq};
use crate::feed::{Closed, OpenFault, Session, SessionFault};
use crate::pb;
use crate::wire::decision_batch;

/// Messages that wait for the transport; when it is full the session waits and coalesces.
const OUTBOX_LEN: usize = 4;
/// How often a stream's caller is looked at again.
const ADMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last word may wait for a gateway that does not read.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often the fleet is looked at for who watches it.
const FLEET_INTERVAL: Duration = Duration::from_secs(1);
/// How long one watch of the fleet lasts; a command that goes on begins another.
const FLEET_LIFE: Duration = Duration::from_secs(3_600);
/// Reports of one gateway that are written at once: one each of some gates that share its name.
const REPORTS_EACH_MAX: usize = 4;
/// Reports that are written at once. Each holds a thread, and they wait for each other; the feed and much else needs the
/// same threads, of which there are 512.
const REPORTS_ALL_MAX: usize = 32;

/// Gateways that give restrictions back at once: each may unpack 64 MiB.
const RESTORERS_MAX: usize = 2;

pub(super) struct Enforcement {
    app: Arc<App>,
    watches: Arc<Watches>,
    reports: Arc<Places>,
    restorers: Arc<Places>,
}

impl Enforcement {
    pub(super) fn new(app: Arc<App>, watches: Arc<Watches>) -> Self {
        let reports = Arc::new(Places::new(REPORTS_EACH_MAX, REPORTS_ALL_MAX));
        Self { app, watches, reports, restorers: Arc::new(Places::new(1, RESTORERS_MAX)) }
    }
}

type Outbox = mpsc::Sender<Outgoing>;

#[tonic::async_trait]
impl pb::enforcement_service_server::EnforcementService for Enforcement {
    /// Empty: the layer in front sends the messages ([`Downstream`]).
    type SubscribeStream = tokio_stream::Empty<Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let gateway = principal(&request)?;
        let (peer, named) = (request.extensions().get::<Peer>().cloned(), gateway.clone());
        let mut inbox = request.into_inner();
        let first = inbox
            .message()
            .await
            .map_err(unreadable)?
            .ok_or_else(|| invalid("message", "the first one must be Open"))?;
        let FromGateway::Open(open) = parse(first)? else {
            return Err(invalid("message", "the first one must be Open"));
        };
        // Judging a claim may read the whole journal.
        let feed = self.app.feed().clone();
        let opened = tokio::task::spawn_blocking(move || feed.open(gateway, open)).await;
        let session = opened.map_err(|e| status(Error::Internal(e.to_string())))?.map_err(refuse)?;
        if let Some(peer) = &peer {
            session.came_from(peer.address);
        }
        let (outbox, messages) = mpsc::channel(OUTBOX_LEN);
        let line = Line { app: Arc::clone(&self.app), peer, inbox, outbox: outbox.clone() };
        tokio::spawn(async move {
            // The session is over by then; who does not read gets no more than the end of the stream.
            if let Err(end) = line.carry(session).await {
                tracing::info!(gateway.id = %named, why = end.message(), "subscription ended by the service");
                drop(tokio::time::timeout(FAREWELL, outbox.send(Box::new(Err(end)))).await);
            }
        });
        let mut response = Response::new(tokio_stream::empty());
        response.extensions_mut().insert(Downstream::new(messages));
        Ok(response)
    }

    async fn report_decisions(
        &self,
        request: Request<pb::ReportDecisionsRequest>,
    ) -> Result<Response<pb::ReportDecisionsResponse>, Status> {
        let gateway = principal(&request)?;
        // Before anything is made of the message: who finds no place comes again with the same batch.
        let place = self.reports.enter(gateway.clone()).map_err(status)?;
        let (boot, batch, decisions) =
            decision_batch(request.into_inner()).map_err(|e| invalid(e.field, &e.why))?;
        let app = Arc::clone(&self.app);
        // A write and its sync.
        let stored = tokio::task::spawn_blocking(move || {
            // The thread goes on when the caller is gone, and so does its place.
            let _place = place;
            app.report_decisions(gateway, (boot, batch), decisions)
        })
        .await;
        stored.map_err(|e| status(Error::Internal(e.to_string())))?.map_err(status)?;
        Ok(Response::new(pb::ReportDecisionsResponse { batch }))
    }

    async fn report_restrictions(
        &self,
        request: Request<pb::ReportRestrictionsRequest>,
    ) -> Result<Response<pb::ReportRestrictionsResponse>, Status> {
        let gateway = principal(&request)?;
        let _place = self.restorers.enter(gateway.clone()).map_err(status)?;
        let message = request.into_inner();
        let held = Position { epoch: Epoch(message.epoch), seq: Seq(message.applied_seq) };
        let set = (message.enforcement_set.to_vec(), message.len);
        let collected = self.app.collect_restrictions(gateway, held, &message.signed_head, set).await;
        Ok(Response::new(pb::ReportRestrictionsResponse { collected: collected.map_err(status)? }))
    }

    async fn list_gateways(
        &self,
        request: Request<pb::ListGatewaysRequest>,
    ) -> Result<Response<pb::ListGatewaysResponse>, Status> {
        fleet::list(&self.app, request.get_ref()).map(Response::new)
    }

    async fn get_gateway(
        &self,
        request: Request<pb::GetGatewayRequest>,
    ) -> Result<Response<pb::GetGatewayResponse>, Status> {
        let id = required("gateway", &request.get_ref().gateway)?;
        let gateway = fleet::gateway(&self.app, &id).map_err(status)?;
        Ok(Response::new(pb::GetGatewayResponse { gateway: Some(gateway) }))
    }

    type WatchGatewaysStream = watch::Stream<pb::WatchGatewaysResponse>;

    async fn watch_gateways(
        &self,
        request: Request<pb::WatchGatewaysRequest>,
    ) -> Result<Response<Self::WatchGatewaysStream>, Status> {
        let (watch, stream) = self.watches.begin(&self.app, &request, GATEWAY_WATCHERS)?;
        let mut last = None;
        watch.run((FLEET_INTERVAL, FLEET_LIFE), move |app| {
            let list = fleet::watched(app);
            let news = Some(fleet::news(&list));
            if news == last {
                return Look::Same;
            }
            last = news;
            Look::News(list)
        });
        Ok(Response::new(stream))
    }
}

/// Not a message, or the stream broke: then nobody reads this.
fn unreadable(fault: Status) -> Status {
    invalid("message", fault.message())
}

fn parse(message: pb::SubscribeRequest) -> Result<FromGateway, Status> {
    FromGateway::try_from(message).map_err(|e| invalid(e.field, &e.why))
}

fn refuse(fault: OpenFault) -> Status {
    match fault {
        OpenFault::NotAGateway(_) => status(Error::Denied(fault.to_string())),
        // Told apart from every other state: a gateway drops what it kept for this reason only.
        OpenFault::BadClaim => reasoned(Code::FailedPrecondition, fault.to_string(), Contradiction::REASON),
        OpenFault::NotRegisteredPausable(_) => status(Error::WrongState(fault.to_string())),
        OpenFault::RolledBack(_) => status(Error::Unavailable(fault.to_string())),
        OpenFault::TooManySessions => status(Error::Limit { retry_after_ms: 1_000 }),
    }
}

fn ended(closed: Closed) -> Status {
    match closed {
        Closed::Removed => status(Error::Unauthenticated(closed.to_string())),
        Closed::Superseded | Closed::NoSnapshot => status(Error::Unavailable(closed.to_string())),
    }
}

/// One stream of one gateway.
struct Line {
    app: Arc<App>,
    peer: Option<Peer>,
    inbox: Streaming<pb::SubscribeRequest>,
    outbox: Outbox,
}

impl Line {
    /// Carries messages both ways until either side ends, or the gateway may no longer call. What the gateway says is
    /// always heard, also while it does not read.
    async fn carry(mut self, mut session: Session) -> Result<(), Status> {
        let mut waiting: Option<ToGateway> = None;
        let mut looks = tokio::time::interval(ADMIT_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    self.admitted()?;
                    // Another connection may have taken the place of this one, of which nothing tells.
                    self.push(&mut session, &mut waiting)?;
                }
                heard = self.inbox.message() => {
                    let Some(message) = heard.map_err(unreadable)? else { return Ok(()) };
                    let refuse = |fault: SessionFault| Status::new(Code::FailedPrecondition, fault.to_string());
                    session.on(parse(message)?).map_err(refuse)?;
                }
                () = session.changed(), if waiting.is_none() => self.push(&mut session, &mut waiting)?,
                place = self.outbox.reserve(), if waiting.is_some() => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some(message) = waiting.take() {
                        place.send(Box::new(Ok(message)));
                    }
                }
            }
        }
    }

    /// Hands over what there is to send, and finds room for at once: all of it without another turn of the loop.
    fn push(&self, session: &mut Session, waiting: &mut Option<ToGateway>) -> Result<(), Status> {
        loop {
            if waiting.is_none() {
                *waiting = session.poll().map_err(ended)?;
            }
            let Some(message) = waiting.take() else { return Ok(()) };
            let Ok(place) = self.outbox.try_reserve() else {
                *waiting = Some(message);
                return Ok(());
            };
            place.send(Box::new(Ok(message)));
        }
    }

    /// The stream outlives the call that was admitted, so the same question is asked again: the certificate may have
    /// ended, and its principal may be gone or have another key.
    fn admitted(&self) -> Result<(), Status> {
        let certificate = self.peer.as_ref().and_then(|peer| peer.certificate.as_deref());
        let admitted = admit(&self.app, certificate, SUBSCRIBERS);
        admitted.map(drop).map_err(|error| {
            tracing::warn!(code = error.code(), %error, "a subscription ended: the gateway may no longer call");
            status(error)
        })
    }
}
