//! What differs between two bundles, fact by fact: for whoever approves a change of law or policy, in words or as data.
//!
//! Every part of a bundle is taken apart into facts that are compared by name, so that the order of the files and of
//! their entries makes no difference. Instants are facts of their own: a change of one letter that moves the instant of
//! a rule elsewhere shows there too.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Bundle;
use crate::domain::determination::Determination;
use crate::domain::policy::Edge;
use crate::domain::time::Timestamp;
use crate::domain::word::words;

words! {
    /// What sort of part of a bundle differs.
    Part {
        /// A model.
        Model = 0, "MODEL";
        /// A determination.
        Determination = 1, "DETERMINATION";
        /// A rule of provider policy.
        Rule = 2, "RULE";
        /// A reading of an open question.
        Posture = 3, "POSTURE";
    }
}

/// One fact that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of what sort of part.
    pub part: Part,
    /// Of which.
    pub name: String,
    /// Which fact.
    pub field: &'static str,
    /// What it was; none: it was not there.
    pub before: Option<String>,
    /// What it is; none: it is not there any more.
    pub after: Option<String>,
}

/// Part, its name, and the name of the fact.
type Fact = (Part, String, &'static str);

/// Every fact in which two bundles differ, in the order of part, name and fact.
pub fn diff(before: &Bundle, after: &Bundle) -> Vec<Change> {
    let (mut old, mut new) = (facts(before), facts(after));
    let mut changes = Vec::new();
    for (fact, was) in std::mem::take(&mut old) {
        let is = new.remove(&fact);
        if is.as_ref() != Some(&was) {
            changes.push((fact, Some(was), is));
        }
    }
    changes.extend(new.into_iter().map(|(fact, is)| (fact, None, Some(is))));
    changes.sort();
    let change = |((part, name, field), before, after)| Change { part, name, field, before, after };
    changes.into_iter().map(change).collect()
}

/// The changes in words: a line for each part that came, went or changed, and its facts indented.
pub fn in_words(changes: &[Change]) -> Vec<String> {
    let mut lines = Vec::new();
    for group in changes.chunk_by(|a, b| (a.part, &a.name) == (b.part, &b.name)) {
        let Some(first) = group.first() else { continue };
        // The fact that every part of its sort has says whether the part itself came or went.
        let whole = group.iter().find(|change| ["registered", "kind", "from"].contains(&change.field));
        let sign = match whole {
            Some(Change { before: None, .. }) => "+",
            Some(Change { after: None, .. }) => "-",
            Some(_) | None => "~",
        };
        lines.push(
            format!("{sign} {} {}", first.part.as_str().to_lowercase(), first.name).trim_end().to_owned(),
        );
        lines.extend(group.iter().map(|change| match (&change.before, &change.after) {
            (Some(before), Some(after)) => format!("    {}: {before} -> {after}", change.field),
            (None, Some(after)) if sign == "~" => format!("    {}: none -> {after}", change.field),
            (Some(before), None) if sign == "~" => format!("    {}: {before} -> none", change.field),
            (before, after) => {
                format!(
                    "    {}: {}",
                    change.field,
                    after.as_ref().or(before.as_ref()).map_or("", String::as_str)
                )
            }
        }));
    }
    lines
}

fn facts(bundle: &Bundle) -> BTreeMap<Fact, String> {
    let mut facts = BTreeMap::new();
    let parts = bundle.parts();
    let mut note = |part: Part, name: &str, field: &'static str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert((part, name.to_owned(), field), value);
        }
    };
    for model in &parts.models {
        note(Part::Model, model.id.as_str(), "registered", Some("yes".to_owned()));
        note(Part::Model, model.id.as_str(), "aliases", some(list(&model.aliases)));
        let parent = model.descends_from.as_ref().map(ToString::to_string);
        note(Part::Model, model.id.as_str(), "descends from", parent);
    }
    for determination in &parts.determinations {
        for (field, value) in of_determination(determination) {
            note(Part::Determination, determination.id.as_str(), field, value);
        }
    }
    for (name, (from, until)) in rules(bundle) {
        let instant =
            |edge: Option<&Edge>| edge.and_then(|edge| bundle.edge_at(edge)).map(|at| at.to_string());
        note(Part::Rule, &name, "from", Some(from.map_or_else(|| "always".to_owned(), in_edge)));
        note(Part::Rule, &name, "until", Some(until.map_or_else(|| "no end".to_owned(), in_edge)));
        // An edge that is an instant already says it.
        let by_law = |edge: &&Edge| !matches!(edge, Edge::At(_));
        note(Part::Rule, &name, "begins", instant(from.filter(by_law)));
        note(Part::Rule, &name, "ends", instant(until.filter(by_law)));
    }
    let posture = &parts.posture;
    let reading = if posture.remote_access_is_release { "yes" } else { "no" };
    note(Part::Posture, "", "remote access is a release", Some(reading.to_owned()));
    note(Part::Posture, "", "least identity assurance", Some(posture.assurance_min.to_string()));
    note(Part::Posture, "", "embargoed", Some(list(&posture.embargoed)));
    let hours = posture.screening_fresh_ms / 3_600_000;
    note(Part::Posture, "", "screening stays fresh", Some(format!("{hours} h")));
    facts
}

fn of_determination(determination: &Determination) -> Vec<(&'static str, Option<String>)> {
    let at = |instant: Option<Timestamp>| instant.map(|at| at.to_string());
    let instants = determination.instants;
    vec![
        ("kind", Some(determination.kind.to_string())),
        ("state", Some(determination.state.to_string())),
        ("stated at", at(instants.stated_at)),
        ("received at", at(instants.received_at)),
        ("approved at", at(instants.approved_at)),
        ("takes effect", Some(at(determination.effective_at()).unwrap_or_else(|| "never".to_owned()))),
        ("models", some(list(&determination.models))),
        ("beneficiaries", some(list(&determination.beneficiaries))),
        ("amends", some(list(&determination.amends))),
        ("legal basis", some(list(&determination.legal_basis))),
        ("ended at", at(determination.ended_at)),
        ("superseded by", determination.superseded_by.as_ref().map(ToString::to_string)),
        ("document SHA-384", determination.document_sha384.map(|digest| digest.to_string())),
        ("document", determination.document.map(|digest| digest.to_string())),
    ]
}

/// The interval of each rule for each model, by a name that does not depend on the order of the rules.
fn rules(bundle: &Bundle) -> BTreeMap<String, (Option<&Edge>, Option<&Edge>)> {
    let mut rules = BTreeMap::new();
    for rule in &bundle.parts().rules {
        for model in &rule.models {
            let name = format!("{} for {model}", rule.rule);
            let again = (2_usize..).map(|n| format!("{name} ({n})"));
            let free = std::iter::once(name.clone()).chain(again).find(|name| !rules.contains_key(name));
            rules.insert(free.unwrap_or(name), (rule.from.as_ref(), rule.until.as_ref()));
        }
    }
    rules
}

fn in_edge(edge: &Edge) -> String {
    match edge {
        Edge::At(at) => at.to_string(),
        Edge::Effective(id) => format!("when {id} takes effect"),
        Edge::RescissionOf(id) => format!("when {id} is rescinded"),
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
