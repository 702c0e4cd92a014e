//! A subscription lives no longer than its caller's right to call: the certificate ends, or its principal is removed.

use std::time::Duration;

use countersign::domain::command::Command;
use countersign::domain::id::BootId;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use countersign::pb::subscribe_response::Message as Down;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::calls::{reason, refused};
use crate::world::{Caller, World};

/// The server looks once a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
const DAY_MS: u32 = 86_400_000;

/// A gateway's stream, spoken by hand.
pub(crate) struct Stream {
    pub(crate) up: mpsc::Sender<pb::SubscribeRequest>,
    down: Streaming<pb::SubscribeResponse>,
}

impl Stream {
    pub(crate) async fn open(world: &World, gateway: &Caller) -> Self {
        let boot_id = BootId::from_parts(world.clock.now(), SystemEntropy.bytes16()).to_string();
        Self::open_as(world, gateway, boot_id).await
    }

    /// The stream of this run of the gateway.
    pub(crate) async fn open_as(world: &World, gateway: &Caller, boot_id: String) -> Self {
        let (up, waiting) = mpsc::channel(4);
        let open = pb::Open { boot_id, versions: vec![1], ..Default::default() };
        up.send(pb::SubscribeRequest { message: Some(Up::Open(open)) }).await.unwrap();
        let mut client = EnforcementServiceClient::new(world.connect_as(gateway).await);
        let mut down = client.subscribe(ReceiverStream::new(waiting)).await.unwrap().into_inner();
        let first = timeout(LIMIT, down.message()).await.unwrap().unwrap().unwrap();
        assert!(matches!(first.message, Some(Down::Welcome(_))), "{first:?}");
        Self { up, down }
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        let end = async {
            loop {
                match self.down.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a word"),
                    Err(status) => return status,
                }
            }
        };
        timeout(LIMIT, end).await.expect("it ends")
    }

    /// The snapshot of the beginning comes to its end: the stream is carried on.
    pub(crate) async fn is_carried(&mut self) {
        let ping = pb::Ping { ping_id: 7, applied_seq: 0 };
        self.up.send(pb::SubscribeRequest { message: Some(Up::Ping(ping)) }).await.unwrap();
        let carried = async {
            loop {
                let message = self.down.message().await.unwrap().expect("the stream goes on").message;
                if matches!(message, Some(Down::SnapshotEnd(_) | Down::Pong(_) | Down::Delta(_))) {
                    return;
                }
            }
        };
        timeout(LIMIT, carried).await.expect("the stream is carried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_certificate() {
    let world = World::start().await;
    let first = world.gateway("gw-1").await;
    let mut of_first = Stream::open(&world, &first).await;
    world.clock.advance_ms(15 * DAY_MS);
    let second = world.gateway("gw-2").await;
    let mut of_second = Stream::open(&world, &second).await;
    let not_after = world.read(&first.certificate).not_after;
    let left_ms = not_after.millis() - world.clock.now().millis();
    world.clock.advance_ms(u32::try_from(left_ms).unwrap() + 1);
    let end = of_first.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "CREDENTIAL_EXPIRED"));
    assert!(end.message().contains("your certificate is refused"), "{end:?}");
    of_second.is_carried().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_when_its_principal_is_removed() {
    let world = World::start().await;
    let (removed, kept) = (world.gateway("gw-1").await, world.gateway("gw-2").await);
    let mut of_removed = Stream::open(&world, &removed).await;
    let mut of_kept = Stream::open(&world, &kept).await;
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    let end = of_removed.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    assert!(end.message().contains("registered"), "{end:?}");
    of_kept.is_carried().await;
    let mut again = EnforcementServiceClient::new(world.connect_as(&removed).await);
    let list = again.list_gateways(pb::ListGatewaysRequest::default()).await;
    refused(list, Code::Unauthenticated, "no registered principal");
}
