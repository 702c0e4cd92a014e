//! Decision vectors: a CSV of cases with their expected outcomes, run against a bundle.
//!
//! Columns: `at,model,subject,relation,entity,org,place,licence,grant,legal,rule,policy,access`. `place=ABROAD` means a
//! country that the grant does not list, `licence=COVERING` one that covers the request, and the model `UNCOVERED` any
//! registered model that no determination names. A workload's relation is ignored: for a lift that names the annex's
//! entities its operators are eligible, for every other row they are unknown.

use std::io::Read;
use std::str::FromStr;

use thiserror::Error;

use crate::domain::bundle::Bundle;
use crate::domain::decision::{Case, ChainFacts, Decision, Operators, ScreeningState, Standing, Who, judge};
use crate::domain::entity::EntityClass;
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, LicenseId, ModelId};
use crate::domain::model::AccessForm;
use crate::domain::person::Assurance;
use crate::domain::policy::Place;
use crate::domain::time::{Interval, Now, Timestamp};

const COLUMNS: [&str; 13] = [
    "at", "model", "subject", "relation", "entity", "org", "place", "licence", "grant", "legal", "rule",
    "policy", "access",
];

/// Why vectors cannot be run.
#[derive(Debug, Error)]
pub enum VectorError {
    /// The file is not CSV.
    #[error("not a CSV file: {0}")]
    Csv(#[from] csv::Error),
    /// The header line differs.
    #[error("the columns must be {}", COLUMNS.join(","))]
    Columns,
    /// A value is not one of its column's words.
    #[error("line {line}, column {column}: {why}")]
    Value {
        /// Line in the file, from 1.
        line: u64,
        /// Name of the column.
        column: &'static str,
        /// What is wrong.
        why: String,
    },
    /// UNCOVERED is asked for, but every registered model is named by a determination.
    #[error("no registered model is uncovered")]
    NoUncoveredModel,
}

/// A vector whose outcome differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Line in the file, from 1.
    pub line: u64,
    /// The inputs, as in the file.
    pub inputs: String,
    /// `legal,rule,policy,access` as in the file.
    pub expected: String,
    /// The same, as decided.
    pub decided: String,
}

/// What a run of vectors showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VectorReport {
    /// How many vectors were run.
    pub vectors: u64,
    /// Those that differ, in the order of the file.
    pub mismatches: Vec<Mismatch>,
}

/// Runs every vector against the bundle, judged at exactly the stated instant.
///
/// # Errors
/// A file that is not in the format; nothing is reported of its earlier lines then.
pub fn run(bundle: &Bundle, vectors: impl Read) -> Result<VectorReport, VectorError> {
    let mut reader = csv::Reader::from_reader(vectors);
    if reader.headers()?.iter().ne(COLUMNS) {
        return Err(VectorError::Columns);
    }
    let mut report = VectorReport::default();
    for record in reader.records() {
        let record = record?;
        let row = Row { line: record.position().map_or(0, csv::Position::line), record: &record };
        let decision = decide(bundle, &row)?;
        let policy = decision.policy.map_or("", |rule| rule.as_str());
        let decided = format!("{},{},{policy},{}", decision.legal, decision.rule, decision.access);
        let expected = row.record.iter().skip(9).collect::<Vec<_>>().join(",");
        report.vectors += 1;
        if decided != expected {
            let inputs = row.record.iter().take(9).collect::<Vec<_>>().join(",");
            report.mismatches.push(Mismatch { line: row.line, inputs, expected, decided });
        }
    }
    Ok(report)
}

struct Row<'a> {
    line: u64,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    fn text(&self, column: &'static str) -> &str {
        COLUMNS.iter().position(|c| *c == column).and_then(|i| self.record.get(i)).unwrap_or_default()
    }

    fn word<T: FromStr<Err: std::fmt::Display>>(&self, column: &'static str) -> Result<T, VectorError> {
        self.text(column).parse().map_err(|e: T::Err| self.wrong(column, &e.to_string()))
    }

    /// One of two words: true for the first.
    fn either(&self, column: &'static str, first: &str, second: &str) -> Result<bool, VectorError> {
        match self.text(column) {
            text if text == first => Ok(true),
            text if text == second => Ok(false),
            _ => Err(self.wrong(column, &format!("{first} or {second} is needed"))),
        }
    }

    fn wrong(&self, column: &'static str, why: &str) -> VectorError {
        VectorError::Value { line: self.line, column, why: why.to_owned() }
    }
}

fn uncovered(bundle: &Bundle) -> Result<&ModelId, VectorError> {
    let named = |id: &ModelId| {
        bundle.registry().resolve(id.as_str()).is_some_and(|family| {
            bundle.parts().determinations.iter().any(|determination| determination.names(family))
        })
    };
    bundle.registry().models().map(|m| &m.id).find(|id| !named(id)).ok_or(VectorError::NoUncoveredModel)
}

fn decide(bundle: &Bundle, row: &Row<'_>) -> Result<Decision, VectorError> {
    let now = Now::exactly(row.word::<Timestamp>("at")?);
    let name = match row.text("model") {
        "UNCOVERED" => uncovered(bundle)?.as_str(),
        name => name,
    };
    let family = bundle.registry().resolve(name);
    let class: EntityClass = row.word("entity")?;
    let relation = row.word("relation")?;
    let who = if row.text("subject") == "WORKLOAD" {
        let lifted = family.is_some_and(|family| bundle.regime(family, now).lifted_by.is_some());
        let eligible = lifted && class == EntityClass::AnnexA;
        Who::Workload(if eligible { Operators::Eligible } else { Operators::Unknown })
    } else {
        Who::Human { status: row.word("subject")?, relation, assurance: Some(Assurance::Ial2) }
    };
    let license: Option<LicenseId> =
        row.either("licence", "COVERING", "NONE")?.then(|| "covering".parse().ok()).flatten();
    let granted = row.either("grant", "ACTIVE", "NONE")?;
    let grant = family.and_then(<[ModelId]>::last).filter(|_| granted).map(|model| Grant {
        id: GrantId::from_bytes([0; 16]),
        model: model.clone(),
        interval: Interval { from: Timestamp::default(), until: None },
        forms: Vec::new(),
        countries: Vec::new(),
        purposes: Vec::new(),
    });
    let place = if row.either("place", "US", "ABROAD")? { Place::Us } else { Place::Unknown };
    let case = Case {
        state: None,
        credential: None,
        stopped: false,
        family,
        model_not_listed: false,
        form: AccessForm::Inference,
        who,
        class,
        org: row.word("org")?,
        place,
        serving: Place::Us,
        seat: None,
        mi_flag: false,
        license: license.as_ref(),
        grant: grant.as_ref(),
        standing: Standing {
            provisioned: true,
            suspended: false,
            reverify_overdue: false,
            safeguard_lapsed: false,
            quota_exhausted: false,
        },
        screening: ScreeningState::Clear,
        chain: ChainFacts::Direct,
        purpose: None,
    };
    Ok(judge(bundle, &case, now))
}
