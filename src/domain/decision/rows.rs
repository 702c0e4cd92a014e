//! The legal rows as data (domain section 2.6): the first row that matches gives the legal outcome.

use super::case::{Case, Operator, Operators, Who};
use super::outcome::{Legal, LegalReason};
use crate::domain::bundle::Regime;
use crate::domain::determination::Limb;
use crate::domain::entity::{EntityClass, Organisation};
use crate::domain::model::AccessForm;
use crate::domain::person::{PersonStatus, Relation};

/// What the law says of a case, before gates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    pub(super) legal: Legal,
    pub(super) row: &'static str,
    pub(super) reason: LegalReason,
    pub(super) clause: &'static str,
    pub(super) ask_server: bool,
}

impl Law {
    /// Where no model is known, no row is asked.
    pub(super) const fn unresolved() -> Self {
        Self {
            legal: Legal::Indeterminate,
            row: "G4",
            reason: LegalReason::NotJudged,
            clause: "none",
            ask_server: false,
        }
    }
}

/// What a row asks of the regime.
#[derive(Clone, Copy)]
enum Reach {
    /// No imposition is in force.
    NotCovered,
    /// An imposition is in force.
    Covered,
    /// An imposition is in force and has been lifted for this limb.
    Lifted(Limb),
}

/// What a row asks of the subject.
#[derive(Clone, Copy)]
enum Subject {
    Anyone,
    UsPerson,
    ForeignPerson,
    Undetermined,
    ForeignOrUndetermined,
    Workload,
    /// Key bound to the entity, owner named, operators all eligible employees.
    EligibleWorkload,
}

/// What a row asks of the place.
#[derive(Clone, Copy)]
enum Where {
    Anywhere,
    /// Place, entity and serving region all in the US.
    Domestic,
    InUs,
    Abroad,
}

/// One row. `class` and `relation` are asked only where they are given.
struct Row {
    id: &'static str,
    reach: Reach,
    subject: Subject,
    class: Option<EntityClass>,
    relation: Option<Relation>,
    at: Where,
    only_if: OnlyIf,
    legal: Legal,
    reason: LegalReason,
    clause: &'static str,
}

/// One more condition that only a few rows have.
#[derive(Clone, Copy)]
enum OnlyIf {
    Always,
    ALicenseCovers,
    ForeignOrganised,
    RemoteAccessIsNoRelease,
}

const ROW: Row = Row {
    id: "",
    reach: Reach::Covered,
    subject: Subject::Anyone,
    class: None,
    relation: None,
    at: Where::Anywhere,
    only_if: OnlyIf::Always,
    legal: Legal::Indeterminate,
    reason: LegalReason::NotJudged,
    clause: "none",
};

/// The rows in the order in which they are asked. The last three together match every US person, and the rows
/// before them everybody else, so that a covered model always has an answer.
static ROWS: &[Row] = &[
    Row {
        id: "L-01",
        reach: Reach::NotCovered,
        legal: Legal::NotControlled,
        reason: LegalReason::NoRequirementInForce,
        ..ROW
    },
    Row {
        id: "L-20",
        reach: Reach::Lifted(Limb::ProviderForeignEmployees),
        subject: Subject::ForeignPerson,
        class: Some(EntityClass::Provider),
        relation: Some(Relation::Employee),
        legal: Legal::Exempt,
        reason: LegalReason::ExemptProviderFnEmployee,
        clause: "third limb",
        ..ROW
    },
    Row {
        id: "L-24",
        reach: Reach::Lifted(Limb::AnnexEntities),
        subject: Subject::EligibleWorkload,
        class: Some(EntityClass::AnnexA),
        legal: Legal::Exempt,
        reason: LegalReason::ExemptAnnexAWorkload,
        clause: "first limb",
        ..ROW
    },
    Row {
        id: "L-21",
        reach: Reach::Lifted(Limb::AnnexForeignEmployees),
        subject: Subject::ForeignOrUndetermined,
        class: Some(EntityClass::AnnexA),
        relation: Some(Relation::Employee),
        legal: Legal::Exempt,
        reason: LegalReason::ExemptAnnexAFnEmployee,
        clause: "second limb",
        ..ROW
    },
    Row {
        id: "L-22",
        reach: Reach::Lifted(Limb::AnnexEntities),
        subject: Subject::UsPerson,
        class: Some(EntityClass::AnnexA),
        relation: Some(Relation::Employee),
        at: Where::Domestic,
        legal: Legal::NlrDomestic,
        reason: LegalReason::NotAnExport,
        clause: "15 CFR 734.13",
        ..ROW
    },
    Row {
        id: "L-23",
        reach: Reach::Lifted(Limb::AnnexEntities),
        subject: Subject::UsPerson,
        class: Some(EntityClass::AnnexA),
        relation: Some(Relation::Employee),
        legal: Legal::Exempt,
        reason: LegalReason::ExemptAnnexAEntity,
        clause: "first limb",
        ..ROW
    },
    Row {
        id: "L-10",
        subject: Subject::UsPerson,
        at: Where::Domestic,
        legal: Legal::NlrDomestic,
        reason: LegalReason::NotAnExport,
        clause: "15 CFR 734.13",
        ..ROW
    },
    Row {
        id: "L-16",
        subject: Subject::Undetermined,
        legal: Legal::Indeterminate,
        reason: LegalReason::StatusUndetermined,
        clause: "fail closed",
        ..ROW
    },
    Row {
        id: "L-40",
        only_if: OnlyIf::ALicenseCovers,
        legal: Legal::Licensed,
        reason: LegalReason::Licensed,
        clause: "licence",
        ..ROW
    },
    Row {
        id: "L-17",
        subject: Subject::Workload,
        legal: Legal::Indeterminate,
        reason: LegalReason::WorkloadOperatorsUnknown,
        clause: "fail closed",
        ..ROW
    },
    Row {
        id: "L-02",
        subject: Subject::ForeignPerson,
        at: Where::InUs,
        only_if: OnlyIf::RemoteAccessIsNoRelease,
        legal: Legal::NotControlled,
        reason: LegalReason::RemoteAccessNotARelease,
        clause: "posture remote_access_is_release",
        ..ROW
    },
    Row {
        id: "L-11",
        subject: Subject::ForeignPerson,
        at: Where::InUs,
        legal: Legal::LicenseRequired,
        reason: LegalReason::DeemedExportLicenseRequired,
        clause: "15 CFR 734.13(a)(2)",
        ..ROW
    },
    Row {
        id: "L-12",
        subject: Subject::ForeignPerson,
        at: Where::Abroad,
        legal: Legal::LicenseRequired,
        reason: LegalReason::ExportLicenseRequired,
        clause: "15 CFR 734.13(a)(1), 734.14",
        ..ROW
    },
    Row {
        id: "L-13",
        subject: Subject::UsPerson,
        at: Where::Abroad,
        legal: Legal::LicenseRequired,
        reason: LegalReason::ExportDestinationLicenseRequired,
        clause: "15 CFR 734.13(a)(1)",
        ..ROW
    },
    Row {
        id: "L-14",
        subject: Subject::UsPerson,
        at: Where::InUs,
        only_if: OnlyIf::ForeignOrganised,
        legal: Legal::LicenseRequired,
        reason: LegalReason::ForeignEntityLicenseRequired,
        clause: "15 CFR 772.1",
        ..ROW
    },
    Row {
        id: "L-15",
        subject: Subject::UsPerson,
        at: Where::InUs,
        legal: Legal::LicenseRequired,
        reason: LegalReason::ExportDestinationLicenseRequired,
        clause: "15 CFR 734.13(a)(1)",
        ..ROW
    },
];

/// The legal outcome of a case under a regime.
pub(super) fn legal(remote_access_is_release: bool, regime: &Regime<'_>, case: &Case<'_>) -> Law {
    let Some(row) = ROWS.iter().find(|row| matches(row, remote_access_is_release, regime, case)) else {
        // No row matches: nothing is known that would allow it.
        return Law { row: "L-16", reason: LegalReason::StatusUndetermined, ..Law::unresolved() };
    };
    let mut law =
        Law { legal: row.legal, row: row.id, reason: row.reason, clause: row.clause, ask_server: false };
    match case.who {
        Who::Human { status: PersonStatus::Undetermined, .. } if row.id == "L-21" => {
            law.reason = LegalReason::ExemptEitherStatus;
        }
        Who::Workload(operators) if row.id == "L-17" => match operators {
            Operators::Listed(operators) => {
                law = worst(remote_access_is_release, regime, case, operators).unwrap_or(law);
            }
            Operators::EligibleByIssuance => law.ask_server = true,
            Operators::Eligible | Operators::Unknown => {}
        },
        Who::Human { .. } | Who::Workload(_) => {}
    }
    law
}

/// The row of the worst operator: PROHIBITED, INDETERMINATE, LICENSE_REQUIRED, LICENSED, EXEMPT, NLR_DOMESTIC,
/// NOT_CONTROLLED, worst first. That is the order of `Legal` reversed, but for the first two.
fn worst(
    remote_access_is_release: bool,
    regime: &Regime<'_>,
    case: &Case<'_>,
    operators: &[Operator],
) -> Option<Law> {
    let laws = operators.iter().map(|operator| {
        let relation = if operator.in_good_standing { operator.relation } else { Relation::None };
        let who = Who::Human { status: operator.status, relation, assurance: None };
        legal(remote_access_is_release, regime, &Case { who, ..*case })
    });
    laws.max_by_key(|law| badness(law.legal))
}

const fn badness(legal: Legal) -> u8 {
    match legal {
        Legal::NotControlled => 0,
        Legal::NlrDomestic => 1,
        Legal::Exempt => 2,
        Legal::Licensed => 3,
        Legal::LicenseRequired => 4,
        Legal::Indeterminate => 5,
        Legal::Prohibited => 6,
    }
}

fn matches(row: &Row, remote_access_is_release: bool, regime: &Regime<'_>, case: &Case<'_>) -> bool {
    let reach = match row.reach {
        Reach::NotCovered => regime.imposed_by.is_none(),
        Reach::Covered => regime.imposed_by.is_some(),
        Reach::Lifted(limb) => regime.imposed_by.is_some() && regime.limbs.contains(limb),
    };
    let at = match row.at {
        Where::Anywhere => true,
        Where::Domestic => case.is_within_us(),
        Where::InUs => case.place.is_us(),
        Where::Abroad => !case.place.is_us(),
    };
    let only_if = match row.only_if {
        OnlyIf::Always => true,
        OnlyIf::ALicenseCovers => case.license.is_some(),
        OnlyIf::ForeignOrganised => case.org == Organisation::Foreign,
        OnlyIf::RemoteAccessIsNoRelease => !remote_access_is_release && case.form == AccessForm::Inference,
    };
    reach
        && at
        && only_if
        && row.class.is_none_or(|class| class == case.class)
        && row.relation.is_none_or(|relation| is_relation(case, relation))
        && is_subject(row.subject, case)
}

fn is_relation(case: &Case<'_>, wanted: Relation) -> bool {
    matches!(case.who, Who::Human { relation, .. } if relation == wanted)
}

fn is_subject(wanted: Subject, case: &Case<'_>) -> bool {
    match (wanted, case.who) {
        (Subject::Anyone, _) => true,
        (Subject::UsPerson, Who::Human { status, .. }) => status == PersonStatus::UsPerson,
        (Subject::ForeignPerson, Who::Human { status, .. }) => status == PersonStatus::ForeignPerson,
        (Subject::Undetermined, Who::Human { status, .. }) => status == PersonStatus::Undetermined,
        (Subject::ForeignOrUndetermined, Who::Human { status, .. }) => status != PersonStatus::UsPerson,
        (Subject::Workload, Who::Workload(_)) => true,
        (Subject::EligibleWorkload, Who::Workload(operators)) => match operators {
            Operators::Eligible | Operators::EligibleByIssuance => true,
            Operators::Unknown => false,
            Operators::Listed(operators) => {
                !operators.is_empty() && operators.iter().all(Operator::is_eligible)
            }
        },
        (Subject::Workload | Subject::EligibleWorkload, Who::Human { .. }) => false,
        (
            Subject::UsPerson
            | Subject::ForeignPerson
            | Subject::Undetermined
            | Subject::ForeignOrUndetermined,
            Who::Workload(_),
        ) => false,
    }
}
