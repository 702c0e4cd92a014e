//! What a gateway claims to hold, against what this server has: where its session begins, or whether one of the two has
//! lost history.

use super::Inner;
use crate::domain::codec::from_bytes;
use crate::domain::enforce::Position;
use crate::domain::enforce::message::Open;
use crate::domain::head::SignedHead;

use super::Heads;

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With deltas after what the gateway holds.
    Resume,
    /// With a snapshot.
    Snapshot,
}

/// A claim that contradicts the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contradiction;

/// Where the session begins. The digest chain tells whether both hold the same history, not merely the same number.
pub(super) fn judge(inner: &Inner, open: &Open) -> Result<Start, Contradiction> {
    let (head, claimed) = (inner.state.position, open.position);
    if claimed > head {
        return Err(Contradiction);
    }
    if claimed.epoch != head.epoch {
        return Ok(Start::Snapshot);
    }
    match inner.log.digest_at(claimed.seq) {
        Some(digest) if digest == open.digest => Ok(Start::Resume),
        Some(_) => Err(Contradiction),
        None => Ok(Start::Snapshot),
    }
}

/// What a head that we signed ourselves shows that we do not have: proof that this server lost history.
pub(super) fn lost_history(heads: &dyn Heads, committed: Position, signed_head: &[u8]) -> Option<String> {
    if signed_head.is_empty() {
        return None;
    }
    let head: SignedHead = from_bytes(signed_head).ok()?;
    if !heads.verify(&head) {
        return None;
    }
    let (epoch, seq) = (head.epoch, head.seq);
    let have = format!("this server has epoch {} up to record {}", committed.epoch, committed.seq);
    if (Position { epoch, seq }) > committed {
        return Some(format!("it signed record {seq} of epoch {epoch}; {have}"));
    }
    let is_other = epoch == committed.epoch && heads.root_at(seq).is_some_and(|root| root != head.root);
    is_other.then(|| format!("it signed another record {seq} of epoch {epoch}; {have}"))
}
