//! The specification of certificates and the lint say the same.

use std::collections::BTreeMap;

use countersign::x509::lint::{RULES, Severity};

/// Clauses without their rule, rules without their clause, and clauses whose word is not that of the rule's severity.
pub(super) fn clause_problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut clauses = BTreeMap::new();
    for line in text.lines() {
        let Some((clause, said)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("** ")) else {
            continue;
        };
        let rule = said.strip_suffix('`').and_then(|said| said.rsplit_once('`')).map(|(_, rule)| rule);
        let Some(rule) = rule else {
            problems.push(format!("{path}: clause {clause} ends with no rule"));
            continue;
        };
        let word = if said.contains("MUST") { Severity::Error } else { Severity::Warning };
        match RULES.iter().find(|known| known.id == rule) {
            None => problems.push(format!("{path}: clause {clause} names {rule}, which is no rule")),
            Some(known) if known.severity != word => {
                problems.push(format!("{path}: clause {clause} and the severity of {rule} differ"));
            }
            Some(_) => {}
        }
        if clauses.insert(rule.to_owned(), clause.to_owned()).is_some() {
            problems.push(format!("{path}: {rule} is named twice"));
        }
    }
    for rule in RULES {
        if clauses.get(rule.id).map(String::as_str) != Some(rule.clause) {
            problems.push(format!("{path}: {} is not the rule of clause {}", rule.id, rule.clause));
        }
    }
    problems
}

#[test]
fn a_missing_and_an_invented_rule_are_found() {
    let good: String = RULES
        .iter()
        .map(|rule| {
            let word = if rule.severity == Severity::Error { "MUST" } else { "SHOULD" };
            format!("- **{}** It {word}. `{}`\n", rule.clause, rule.id)
        })
        .collect();
    assert_eq!(clause_problems("p", &good), [""; 0]);
    for (bad, count) in [
        (good.replacen("`der_encoding`", "`der_spelling`", 1), 2),
        (good.replacen("**1.1**", "**1.99**", 1), 1),
        (good.replacen("MUST", "SHOULD", 1), 1),
        (good.lines().skip(1).collect::<Vec<_>>().join("\n"), 1),
        (format!("{good}- **8.1** It MUST."), 1),
    ] {
        assert_eq!(clause_problems("p", &bad).len(), count);
    }
}
