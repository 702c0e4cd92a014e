//! What a server sends to a gateway. What is accepted is spelled again as the same message.
#![no_main]

use countersign::domain::enforce::message::ToGateway;
use countersign::pb::SubscribeResponse;
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(response) = SubscribeResponse::decode(data) else { return };
    let Ok(message) = ToGateway::try_from(response) else { return };
    let again = ToGateway::try_from(SubscribeResponse::from(message.clone()));
    assert_eq!(again, Ok(message));
});
