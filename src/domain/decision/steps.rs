//! The chain of reasons of a decision: every gate, the row of law and every rule of policy that was in force, in the order in which
//! they are asked, and what each said.

use super::outcome::{Decision, Denial, Gate, Rule};
use crate::domain::bundle::Bundle;
use crate::domain::id::ModelId;
use crate::domain::time::Now;
use crate::domain::word::words;

words! {
    /// Whose words a step is in.
    Stage {
        /// A gate.
        Gate = 0, "GATE";
        /// The law.
        Law = 1, "LAW";
        /// The provider's policy.
        Policy = 2, "POLICY";
    }
}

words! {
    /// What a step says.
    Finding {
        /// It stands in nobody's way.
        Holds = 0, "HOLDS";
        /// It denies.
        Fails = 1, "FAILS";
        /// One before it denies, and the first that does is reported.
        NotReported = 2, "NOT_REPORTED";
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose words.
    pub stage: Stage,
    /// `G5`, `L-21`, `P-NO_GRANT`.
    pub name: String,
    /// What it says.
    pub finding: Finding,
    /// The same in words; empty when it holds and there is nothing to say.
    pub says: &'static str,
    /// The clause that a row of law cites.
    pub clause: &'static str,
}

impl Decision {
    /// The chain of reasons, by the bundle and for the model that was judged.
    pub fn steps(&self, bundle: &Bundle, family: Option<&[ModelId]>, now: Now) -> Vec<Step> {
        let mut steps: Vec<_> = Gate::ALL.iter().flat_map(|gate| self.gate(*gate)).collect();
        steps.push(self.law());
        let mut rules: Vec<_> = family.map(|family| bundle.rules(family, now).collect()).unwrap_or_default();
        rules.sort_unstable();
        rules.dedup();
        steps.extend(rules.into_iter().map(|rule| {
            let (finding, says) = match self.policy {
                Some(first) if first == rule => (Finding::Fails, rule.explain()),
                Some(first) if first < rule => (Finding::NotReported, ""),
                Some(_) | None => (Finding::Holds, ""),
            };
            Step { stage: Stage::Policy, name: rule.to_string(), finding, says, clause: "" }
        }));
        steps
    }

    /// A gate holds, or fails once for each reason.
    fn gate(&self, gate: Gate) -> Vec<Step> {
        let step =
            |finding, says| Step { stage: Stage::Gate, name: gate.to_string(), finding, says, clause: "" };
        let failing = self.denials.iter().filter(|denial| denial.gate() == gate);
        let failing: Vec<_> = failing.map(|denial| step(Finding::Fails, denial.explain())).collect();
        if failing.is_empty() { vec![step(Finding::Holds, "")] } else { failing }
    }

    fn law(&self) -> Step {
        let name = match self.rule {
            Rule::Row(row) => row.to_owned(),
            Rule::Gate(gate) => gate.to_string(),
        };
        let finding = if self.legal.allows() { Finding::Holds } else { Finding::Fails };
        Step { stage: Stage::Law, name, finding, says: self.legal.explain(), clause: self.clause }
    }
}

impl Denial {
    /// The gate that fails in this way.
    pub const fn gate(&self) -> Gate {
        match self {
            Self::StateUnavailable | Self::ClockUntrusted | Self::StaleView | Self::ServerNotAsked => Gate::G1,
            Self::CredentialInvalid
            | Self::CredentialNotYetValid
            | Self::CredentialExpired
            | Self::CredentialWrongKind
            | Self::CredentialNotIssued
            | Self::CredentialRevoked
            | Self::CredentialHeld
            | Self::CredentialLineageLocked
            | Self::CredentialStale
            // What a certificate does not list it gives no access to.
            | Self::ModelNotListed => Gate::G2,
            Self::EmergencyStop => Gate::G3,
            Self::ModelUnknown => Gate::G4,
            Self::PartyDenied | Self::ScreeningPending | Self::ScreeningStale => Gate::G5,
            Self::Embargo | Self::MiEndUser => Gate::G6,
            Self::EndUserUnidentified => Gate::G7,
            Self::AccessForm => Gate::G8,
        }
    }

    /// Does it rest on a fact of the parties and the request, which was so or was not when it was decided? The others come and go
    /// with certificates, stops and the service itself.
    pub const fn is_of_facts(&self) -> bool {
        matches!(self.gate(), Gate::G5 | Gate::G6 | Gate::G7 | Gate::G8)
    }
}
