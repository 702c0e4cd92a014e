//! The decision: two answers that never merge. What the law says of an access, and whether it is permitted, which
//! provider policy can only narrow (domain section 2).
//!
//! [`judge`] is pure and total: the server, the gateway library, `policy test` and replay all call it.

mod access;
mod case;
mod explain;
mod gates;
mod kinds;
mod outcome;
mod rows;
mod steps;
#[cfg(test)]
mod tests;

pub use case::{Case, ChainFacts, Operator, Operators, ScreeningState, Standing, StateFault, Who};
pub use kinds::{TransactionKind, kinds};
pub use outcome::{Access, CredentialFault, Decision, Denial, Gate, Legal, LegalReason, Rule};
pub use steps::{Finding, Stage, Step};

use super::bundle::Bundle;
use super::time::Now;

/// The version of the rows and gates in this file's module: replay says when it differs.
pub const LOGIC_VERSION: u32 = 2;

/// Judges a case. Total: every case has an answer, and what is not known is denied.
pub fn judge(bundle: &Bundle, case: &Case<'_>, now: Now) -> Decision {
    let mut denials = gates::failing(bundle, case);
    let regime = case.family.map(|family| bundle.regime(family, now));
    let law = match regime {
        Some(regime) => rows::legal(bundle.parts().posture.remote_access_is_release, &regime, case),
        None => rows::Law::unresolved(),
    };
    let covered = regime.is_some_and(|regime| regime.imposed_by.is_some());
    let policy = case.family.and_then(|family| {
        let verdict = access::first_failing(bundle, family, case, law.legal, now);
        if case.model_not_listed && (covered || verdict.grant_needed) {
            denials.push(Denial::ModelNotListed);
        }
        verdict.rule
    });
    // The first gate that fails decides; some gates replace the legal outcome, others only deny access.
    let replaced = denials.iter().find_map(Denial::legal);
    let (legal, rule) = match replaced {
        Some((legal, gate)) => (legal, Rule::Gate(gate)),
        None => (law.legal, Rule::Row(law.row)),
    };
    let permitted = denials.is_empty() && legal.allows() && policy.is_none();
    Decision {
        legal,
        rule,
        reason: law.reason,
        clause: law.clause,
        determination: regime
            .and_then(|r| if legal == Legal::Exempt { r.lifted_by } else { r.imposed_by.or(r.rescinded_by) })
            .cloned(),
        license: if legal == Legal::Licensed { case.license.cloned() } else { None },
        access: if permitted { Access::Permit } else { Access::Deny },
        denials,
        policy,
        ask_server: law.ask_server,
    }
}
