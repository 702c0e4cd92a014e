//! What a gateway claims to hold, against what this server has: where its session begins, or whether one of the two has
//! lost history.

use super::view::Position;
use crate::domain::id::{Digest, Seq};

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With deltas after what the gateway holds.
    Resume,
    /// With a snapshot.
    Snapshot,
}

/// A claim that contradicts the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

impl Contradiction {
    /// How the server names it to the gateway: the reason of its `google.rpc.ErrorInfo`.
    pub const REASON: &'static str = "CLAIM_CONTRADICTED";
}

/// A record of the log and the digest or tree hash up to it.
pub type Claim = (Position, Digest);

/// Where the session begins. The digest chain tells whether both hold the same history, not merely the same number.
/// `digest_at` is the server's digest at a record, if it is known.
///
/// # Errors
/// Another history, or one that goes beyond the server's.
pub fn judge(
    (claimed, digest): Claim,
    head: Position,
    digest_at: impl FnOnce(Seq) -> Option<Digest>,
) -> Result<Start, Contradiction> {
    if claimed > head {
        return Err(Contradiction);
    }
    if claimed.epoch != head.epoch {
        return Ok(Start::Snapshot);
    }
    match digest_at(claimed.seq) {
        Some(ours) if ours == digest => Ok(Start::Resume),
        Some(_) => Err(Contradiction),
        None => Ok(Start::Snapshot),
    }
}

/// What a head that we signed ourselves shows that we do not have: proof that this server lost history.
pub fn lost_history(
    (signed, root): Claim,
    committed: Position,
    root_at: impl FnOnce(Seq) -> Option<Digest>,
) -> Option<String> {
    let Position { epoch, seq } = signed;
    let have = format!("this server has epoch {} up to record {}", committed.epoch, committed.seq);
    if signed > committed {
        return Some(format!("it signed record {seq} of epoch {epoch}; {have}"));
    }
    let is_other = epoch == committed.epoch && root_at(seq).is_some_and(|ours| ours != root);
    is_other.then(|| format!("it signed another record {seq} of epoch {epoch}; {have}"))
}
