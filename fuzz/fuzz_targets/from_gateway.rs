//! What a gateway sends to the server. What is accepted is spelled again as the same message.
#![no_main]

use countersign::domain::enforce::message::FromGateway;
use countersign::pb::SubscribeRequest;
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(request) = SubscribeRequest::decode(data) else { return };
    let Ok(message) = FromGateway::try_from(request) else { return };
    let again = FromGateway::try_from(SubscribeRequest::from(message.clone()));
    assert_eq!(again, Ok(message));
});
