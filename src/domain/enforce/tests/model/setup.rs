//! What a run of the model explores, and what is broken in it.

/// How often something may happen on one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Waits for half of a lease.
    pub(super) waits: u8,
    /// Waits until the server's clock shows when a lease or a doubt ends.
    pub(super) dues: u8,
    pub(super) pings: u8,
    pub(super) connects: u8,
    pub(super) cuts: u8,
    pub(super) gateway_crashes: u8,
    pub(super) server_crashes: u8,
    /// Answers of the server's own path.
    pub(super) answers: u8,
    /// Records beside the revocation, which also lower the lease when it is to be lowered.
    pub(super) records: u8,
    pub(super) restores: u8,
    pub(super) revocations: u8,
    /// Signatures of sets.
    pub(super) signs: u8,
}

/// What is broken on purpose, in the glue, to show that the model would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A lease counts from when the Pong arrives.
    LeaseFromReceipt,
    /// A Pong names what was sent before its Ping arrived, and overtakes the rest.
    HeadReadEarly,
    /// A new run believes that nobody holds a lease of the run before.
    CompleteAtOnce,
    /// A new run knows the lease of now, not the longer one of before.
    LoweredAtOnce,
    /// Who left is forgotten at once.
    ForgetsWhoLeft,
    /// A gateway acknowledges what it has received and not applied.
    AckOnReceipt,
    /// Barriers do not look at the server's own answers.
    OwnPathIgnored,
    /// Whoever claims as many records is believed to hold the same.
    ClaimBelieved,
    /// A Pong overtakes records that its Ping came before.
    PongOvertakes,
    /// A set that was signed before a record is sent after it.
    SetOvertaken,
    /// A list runs out when a lease does, by the server's clock, and rounded up.
    ListOutlivesLease,
    /// Streams of one name share a row.
    StreamTakesRow,
}

/// What is explored.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) lease_ms: u32,
    /// What another record makes of the lease: shorter, or the same.
    pub(super) lowered_ms: u32,
    /// The principal of each gateway; equal: two sessions of one.
    pub(super) principals: Vec<&'static str>,
    /// How many are pushed sets.
    pub(super) consumers: usize,
    /// A gateway that crashes comes back with its last view.
    pub(super) keeps_views: bool,
    /// How far clocks are off at most, in thousandths of their rate.
    pub(super) drift: u64,
    pub(super) budget: Budget,
    pub(super) broken: Option<Broken>,
}
