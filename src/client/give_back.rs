//! Gives back what a restored service lost: the restrictions that this gateway holds.

use std::time::Duration;

use tonic::transport::Channel;

use super::replica::Held;
use crate::domain::codec::to_bytes;
use crate::pb;
use crate::pb::enforcement_service_client::EnforcementServiceClient;

/// How long one call may take: the service writes what it takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before another try: others give back at the same time, and the service takes few at once.
const PAUSE: Duration = Duration::from_secs(1);
/// zstd's usual level.
const LEVEL: i32 = 3;

/// Tries until the service has it. Dropped with the connection; the next one is asked again.
pub(super) async fn give_back(channel: Channel, held: Held) -> Result<u64, String> {
    let set = to_bytes(held.enforcement.as_ref());
    let enforcement_set = zstd::bulk::compress(&set, LEVEL).map_err(|error| error.to_string())?;
    let request = pb::ReportRestrictionsRequest {
        epoch: held.position.epoch.0,
        applied_seq: held.position.seq.0,
        signed_head: held.signed_head,
        enforcement_set: enforcement_set.into(),
        len: set.len() as u64,
    };
    let mut client = EnforcementServiceClient::new(channel);
    loop {
        let call = tokio::time::timeout(CALL_TIMEOUT, client.report_restrictions(request.clone())).await;
        match call {
            Ok(Ok(response)) => return Ok(response.into_inner().collected),
            Ok(Err(status)) => match status.code() {
                tonic::Code::ResourceExhausted | tonic::Code::Unavailable | tonic::Code::Aborted => {}
                _ => return Err(status.to_string()),
            },
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
