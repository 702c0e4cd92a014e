//! Provider policy and posture: dated rules that can only narrow what the law allows (domain sections 2.7 and 2.8).

use minicbor::{Decode, Encode};

use super::id::{DeterminationId, ModelId};
use super::person::Assurance;
use super::time::Timestamp;
use super::word::words;

words! {
    /// The policy rules, in the order in which the first failing one is reported.
    PolicyRule {
        /// All access is suspended by the provider.
        SuspendAll = 0, "P-SUSPEND_ALL";
        /// No active grant of the entity for this model.
        NoGrant = 1, "P-NO_GRANT";
        /// The grant stands, but the entity is not active yet or the subject not on its roster.
        NotProvisioned = 2, "P-NOT_PROVISIONED";
        /// The provider suspended the entity, the person or the workload.
        Suspended = 3, "P-SUSPENDED";
        /// The grant does not name this access form.
        AccessForm = 4, "P-ACCESS_FORM";
        /// The person's status is not verified.
        StatusUnverified = 5, "P-STATUS_UNVERIFIED";
        /// The person is not an attested employee.
        NotEmployee = 6, "P-NOT_EMPLOYEE";
        /// The place is not in the United States and the grant does not list the country.
        PlaceNotAllowed = 7, "P-PLACE_NOT_ALLOWED";
        /// Identity assurance is below what the policy asks for.
        AssuranceTooLow = 8, "P-ASSURANCE_TOO_LOW";
        /// A re-verification is overdue.
        ReverifyOverdue = 9, "P-REVERIFY_OVERDUE";
        /// The purpose is not one that the grant allows.
        Purpose = 10, "P-PURPOSE";
        /// A safeguard attestation has lapsed.
        SafeguardLapsed = 11, "P-SAFEGUARD_LAPSED";
        /// The grant's quota is used up.
        Quota = 12, "P-QUOTA";
    }
}

/// An edge of a rule's interval: an instant, or the moment a determination takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Edge {
    /// A fixed instant.
    #[n(0)]
    At(#[n(0)] Timestamp),
    /// When this determination takes effect; never while it is a draft.
    #[n(1)]
    Effective(#[n(0)] DeterminationId),
    /// When a rescission of this determination takes effect.
    #[n(2)]
    RescissionOf(#[n(0)] DeterminationId),
}

/// A policy rule in force for some models during an interval.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatedRule {
    /// Which rule.
    #[n(0)]
    pub rule: PolicyRule,
    /// The model families it holds for.
    #[n(1)]
    pub models: Vec<ModelId>,
    /// From when; none: always was.
    #[n(2)]
    pub from: Option<Edge>,
    /// Until when; none: no end is known.
    #[n(3)]
    pub until: Option<Edge>,
}

/// A two-letter country code (ISO 3166-1 alpha-2), upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        // Cannot fail: the constructor takes ASCII letters only.
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl std::fmt::Display for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Country {
    type Err = super::id::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err(super::id::InvalidId {
                kind: "country",
                why: "two upper-case letters (ISO 3166-1) are needed",
            }),
        }
    }
}

impl<C> Encode<C> for Country {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.as_str())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Country {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|e: super::id::InvalidId| minicbor::decode::Error::message(e.why))
    }
}

/// Where something happens. What is not known is abroad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Place {
    /// In the United States.
    #[n(0)]
    Us,
    /// In this other country.
    #[n(1)]
    Country(#[n(0)] Country),
    /// Not known: judged as abroad, in no country that a grant lists.
    #[n(2)]
    Unknown,
}

impl Place {
    /// In the United States?
    pub const fn is_us(self) -> bool {
        matches!(self, Self::Us)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Us => f.pad("US"),
            Self::Country(country) => f.pad(country.as_str()),
            Self::Unknown => f.pad("UNKNOWN"),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = super::id::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "US" => Ok(Self::Us),
            "" | "UNKNOWN" => Ok(Self::Unknown),
            _ => Ok(Self::Country(text.parse()?)),
        }
    }
}

/// How the open questions of the letters are read. The defaults are the strict readings; loosening one is a policy
/// change that two officers sign.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Posture {
    /// Question Q11: is inference from abroad or by a foreign person a release at all?
    #[n(0)]
    pub remote_access_is_release: bool,
    /// Identity assurance that a person needs.
    #[n(1)]
    pub assurance_min: Assurance,
    /// Countries that are embargoed whatever a lift says (E:1, E:2 and others configured). Sorted.
    #[n(2)]
    pub embargoed: Vec<Country>,
    /// How long a screening list counts as fresh, in milliseconds, from its date.
    #[n(3)]
    pub screening_fresh_ms: i64,
}
