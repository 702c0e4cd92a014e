//! STUB
use crate::domain::enforce::*;
use crate::domain::head::SignedHead;
use crate::domain::id::*;
use crate::domain::state::State;
use crate::env::Clock;
use std::sync::Arc;
pub struct Feed;
pub struct PublishedRecord {
    pub seq: Seq,
    pub events: Vec<EnforcementEvent>,
    pub cards: Vec<EntityId>,
}
pub struct InFlightGuard;
pub struct InFlight;
impl InFlight {
    pub fn enter(&self, _: Seq) -> InFlightGuard {
        InFlightGuard
    }
}
pub trait SignedHeads: Send + Sync {
    fn signed_head(&self) -> (Position, bytes::Bytes);
    fn verify(&self, head: &SignedHead) -> bool;
    fn committed_head(&self) -> Position;
}
impl Feed {
    pub fn new(_: Arc<dyn Clock>, _: Arc<State>, _: u64) -> Self {
        Self
    }
    pub fn publish(&self, _: Arc<State>, _: Vec<PublishedRecord>) {}
    pub fn close(&self, _: &str) {}
    pub fn reopen(&self) {}
    pub fn start_granting(&self) {}
    pub fn drain(&self) {}
    pub fn rollback(&self) -> Option<String> {
        None
    }
    pub fn in_flight(&self) -> &InFlight {
        &InFlight
    }
    pub async fn wait_enforced(&self, _: Position, _: u64, _: Option<u32>) -> BarrierReport {
        BarrierReport::default()
    }
}
