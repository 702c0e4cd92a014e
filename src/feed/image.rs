//! The snapshot as it is sent: encoded, hashed and compressed once for all sessions that need it.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::Shared;
use crate::domain::codec::to_bytes;
use crate::domain::enforce::Position;
use crate::domain::enforce::message::{SNAPSHOT_LEN_MAX, SNAPSHOT_PART_LEN, SnapshotBegin, ToGateway};
use crate::domain::id::{Digest, Seq};
use crate::domain::state::State;

/// How hard a snapshot is compressed: the fastest of zstd's usual levels, for bitmaps gain little from more.
const ZSTD_LEVEL: i32 = 1;

/// A snapshot of what every gateway enforces.
#[derive(Debug)]
pub(super) struct Image {
    /// As of which record.
    pub(super) position: Position,
    digest: Digest,
    sha256: Digest,
    len: u64,
    parts: Vec<Bytes>,
}

impl Image {
    fn of(state: &State) -> Option<Self> {
        let whole = to_bytes(state.enforcement.as_ref());
        if whole.len() > SNAPSHOT_LEN_MAX {
            tracing::error!(len = whole.len(), "the revocation set is too large for a snapshot");
            return None;
        }
        let compressed = Bytes::from(zstd::bulk::compress(&whole, ZSTD_LEVEL).ok()?);
        let starts = (0..compressed.len()).step_by(SNAPSHOT_PART_LEN);
        let part = |start| compressed.slice(start..compressed.len().min(start + SNAPSHOT_PART_LEN));
        Some(Self {
            position: state.position,
            digest: state.feed_digest,
            sha256: Digest::of(&whole),
            len: whole.len() as u64,
            parts: starts.map(part).collect(),
        })
    }

    /// How many bytes are sent of it.
    pub(super) fn sent_len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Everything that is sent of it.
    pub(super) fn messages(&self) -> impl Iterator<Item = ToGateway> {
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let begin = SnapshotBegin { position: self.position, parts, len: self.len };
        let end = ToGateway::SnapshotEnd { sha256: self.sha256, digest: self.digest };
        std::iter::once(ToGateway::SnapshotBegin(begin))
            .chain(self.parts.iter().cloned().map(ToGateway::SnapshotPart))
            .chain(std::iter::once(end))
    }
}

impl Shared {
    /// A snapshot that is at least as new as a record and that deltas can follow. The last one serves until what
    /// follows it is as long as itself, so that a storm of reconnections compresses once. Takes milliseconds when it
    /// has to be made; whoever else needs one waits for it instead of making another.
    pub(super) fn image(&self, at_least: Seq) -> Option<Arc<Image>> {
        let mut kept = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let state = {
            let inner = self.lock();
            if let Some(image) = kept.as_ref() {
                let seq = image.position.seq;
                let is_short = inner.log.len_after(seq) <= image.len;
                if seq >= at_least && seq >= inner.log.floor() && is_short {
                    return Some(Arc::clone(image));
                }
            }
            Arc::clone(&inner.state)
        };
        let image = Arc::new(Image::of(&state)?);
        *kept = Some(Arc::clone(&image));
        Some(image)
    }
}
