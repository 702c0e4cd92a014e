//! Orders to keep records: a request of a court, an agency or counsel (15 CFR 762.6(b)). One officer places one, two release it.

use minicbor::{Decode, Encode};

use super::command::{LOOSEN, RESTRICT, Signers};
use super::id::RecordHoldId;
use super::time::Timestamp;

/// The most orders at once.
pub const RECORD_HOLDS_MAX: usize = 1_000;

/// An order to keep records, whatever their age.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecordHold {
    /// From this instant on.
    #[n(0)]
    pub since: Timestamp,
    /// Why; no personal data.
    #[n(1)]
    pub reason: String,
}

/// What officers order about records.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RecordCommand {
    /// Keep all from an instant on, whatever their age.
    #[n(0)]
    Hold {
        /// The order's name.
        #[n(0)]
        id: RecordHoldId,
        /// From when on, and why.
        #[n(1)]
        hold: RecordHold,
    },
    /// Let them go again after their time.
    #[n(1)]
    Release(#[n(0)] RecordHoldId),
}

impl RecordCommand {
    /// Which order.
    pub const fn id(&self) -> &RecordHoldId {
        match self {
            Self::Hold { id, .. } | Self::Release(id) => id,
        }
    }

    /// Who must sign it: what is removed cannot be brought back, so keeping is one officer's, and letting go two's.
    pub const fn signers(&self) -> Signers {
        match self {
            Self::Hold { .. } => RESTRICT,
            Self::Release(_) => LOOSEN,
        }
    }

    /// Its name, as in the API and the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "HOLD_RECORDS",
            Self::Release(_) => "RELEASE_RECORDS",
        }
    }
}
