//! What stands beside the messages, in the headers of a call and its answer.

use crate::domain::time::Timestamp;

/// In a call: the caller's time, in milliseconds since 1970.
pub const CLIENT_TIME: &str = "countersign-client-time";
/// In an answer: the name of the call, by which the service's log and its audit know it.
pub const REQUEST_ID: &str = "countersign-request-id";
/// The longest time: as many digits as the year 9999 needs, and a sign.
const TIME_LEN_MAX: usize = 16;

/// The time that a header says.
pub fn client_time(text: &str) -> Option<Timestamp> {
    let ms: i64 = Some(text).filter(|text| text.len() <= TIME_LEN_MAX)?.parse().ok()?;
    Some(Timestamp::from_millis(ms))
}
