//! What a gateway sends to the server: messages of its session, and batches of decisions. What is accepted is spelled again
//! as the same message.
#![no_main]

use countersign::domain::enforce::message::FromGateway;
use countersign::pb::{ReportDecisionsRequest, SubscribeRequest};
use countersign::wire::decision_batch;
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    session(data);
    reports(data);
});

fn session(data: &[u8]) {
    let Ok(request) = SubscribeRequest::decode(data) else { return };
    let Ok(message) = FromGateway::try_from(request) else { return };
    let again = FromGateway::try_from(SubscribeRequest::from(message.clone()));
    assert_eq!(again, Ok(message));
}

fn reports(data: &[u8]) {
    let Ok(request) = ReportDecisionsRequest::decode(data) else { return };
    let Ok((boot, batch, reports)) = decision_batch(request) else { return };
    let decisions = reports.iter().cloned().map(Into::into).collect();
    let again = ReportDecisionsRequest { boot_id: boot.to_string(), batch, decisions };
    assert_eq!(decision_batch(again), Ok((boot, batch, reports)));
}
