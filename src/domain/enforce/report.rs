//! What a gateway decided, as it tells the server: enough to judge the decision again, and nobody named but by an opaque id.

use minicbor::{Decode, Encode};

use super::view::Position;
use crate::domain::id::{BootId, EntityId, Ordinal, PrincipalId, PurposeId, SubjectId};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::domain::time::Timestamp;

/// The most decisions in one batch: some 100 KB.
pub const BATCH_LEN_MAX: usize = 1_000;
/// The most intermediaries that are reported; of a request with more nothing else is, and nobody decides it otherwise than as denied.
pub const CHAIN_LEN_MAX: usize = 16;
/// The longest code of a decision.
pub const CODE_LEN_MAX: usize = 64;

/// One decision, or several with one code that there was no room to tell apart.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DecisionReport {
    /// When; of several, when they were counted.
    #[n(0)]
    pub at: Timestamp,
    /// Permitted?
    #[n(1)]
    pub is_permit: bool,
    /// The code that the caller was told.
    #[n(2)]
    pub code: String,
    /// The model, as it was asked for; empty of several.
    #[n(3)]
    pub model: String,
    /// How it is reached.
    #[n(4)]
    pub form: AccessForm,
    /// Where the subject was.
    #[n(5)]
    pub place: Place,
    /// Who asked, if the certificate was accepted as one of this service.
    #[n(6)]
    pub subject: Option<SubjectId>,
    /// For which entity.
    #[n(7)]
    pub entity: Option<EntityId>,
    /// With which certificate.
    #[n(8)]
    pub ordinal: Option<Ordinal>,
    /// The state of the world that was judged.
    #[n(9)]
    pub as_of: Position,
    /// How many.
    #[n(10)]
    pub count: u32,
    /// What else was asked; none of several, and of gateways that do not say.
    #[n(11)]
    pub asked: Option<AskedMore>,
}

/// What a request said beside model, form and place, so that its decision can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AskedMore {
    /// Where the model is served from.
    #[n(0)]
    pub serving: Place,
    /// What for.
    #[n(1)]
    pub purpose: Option<PurposeId>,
    /// Through whom.
    #[n(2)]
    pub chain: Vec<EntityId>,
    /// The end user is the subject of the certificate.
    #[n(3)]
    pub end_user_identified: bool,
    /// The version of the rules.
    #[n(4)]
    pub logic: u32,
}

/// Decisions of one run of a gateway, in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DecisionBatch {
    /// Whose.
    #[n(0)]
    pub gateway: PrincipalId,
    /// Which run of it.
    #[n(1)]
    pub boot: BootId,
    /// 1, 2, 3... in each run.
    #[n(2)]
    pub number: u64,
    /// When it arrived.
    #[n(3)]
    pub received: Timestamp,
    /// What was decided.
    #[n(4)]
    pub decisions: Vec<DecisionReport>,
}
