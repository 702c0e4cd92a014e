//! `countersign cert lint`: the rules that the authority applies before it signs, on files, without a server.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::certificate::ProfileArguments;
use super::output::table;
use super::{Failure, Outcome, Output, files};
use crate::x509::lint::{Finding, RULES, Report, Rule, examine};
use crate::x509::{Authority, CaCertificate, Profile, Root};

/// The most certificates and lists of one run: a file of 512 KiB has no more.
const ITEMS_MAX: usize = 1_024;

/// Judge certificates and revocation lists by the rules of docs/certificate-profile.md. Proves nothing of revocation.
#[derive(Args)]
#[command(after_help = "Examples:\n  countersign cert lint certificate.pem --issuer access.pem\n  \
                        countersign cert lint --json - < certificate.der\n  \
                        countersign cert lint --profile cnsa certificate.pem\n  \
                        countersign cert lint --rules\n\n\
                        Exit codes: 0 nothing found, 1 something found, 64 wrong usage.")]
pub(super) struct Arguments {
    /// Certificates and revocation lists, PEM or DER; - is standard input.
    #[arg(required_unless_present = "rules", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The authorities and roots that may have issued them, PEM or DER, for the rules that need one.
    #[arg(long, value_name = "FILE", conflicts_with = "rules")]
    issuer: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArguments,
    /// Print the table of rules.
    #[arg(long, conflicts_with = "files")]
    rules: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Outcome, Failure> {
    if arguments.rules {
        print_rules(output);
        return Ok(Outcome::Done);
    }
    let issuers = arguments.issuer.as_deref().map(read_issuers).transpose()?.unwrap_or_default();
    let (mut values, mut text, mut found) = (Vec::new(), String::new(), false);
    for path in &arguments.files {
        let items = read_items(path)?;
        let many = items.len() > 1;
        for (place, der) in items.iter().enumerate() {
            let name = path.display();
            let name = if many { format!("{name}[{place}]") } else { name.to_string() };
            // A file that cannot be read at all names no trust domain; the lint says what is wrong with it.
            let profile = match arguments.profile.profile(der) {
                Ok(profile) => profile,
                Err(_) => arguments.profile.unclaimed()?,
            };
            let report = judge(der, &profile, &issuers);
            found |= !report.findings.is_empty();
            text.push_str(&report_text(&name, &report));
            values.push(report_value(&name, &report));
        }
    }
    output.print(&Value::Array(values), &text);
    Ok(if found { Outcome::Failed } else { Outcome::Done })
}

/// Judged under the authority or the root that the certificate names; when it names none of them, under the first.
fn judge(der: &[u8], profile: &Profile, issuers: &[CaCertificate]) -> Report {
    // What is issued by another has that one's name before its own.
    let place = |issuer: &CaCertificate| {
        let name = issuer.name();
        der.windows(name.len()).position(|window| window == name)
    };
    let named = issuers.iter().filter_map(|issuer| Some((place(issuer)?, issuer)));
    let issuer = named.min_by_key(|(place, _)| *place).map(|(_, issuer)| issuer);
    examine(der, profile, issuer.or_else(|| issuers.first()))
}

fn read_issuers(path: &Path) -> Result<Vec<CaCertificate>, Failure> {
    let named = |fault: String| Failure(format!("{}: {fault}", path.display()));
    let read = |der: &[u8]| match Root::from_der(der) {
        Ok(root) => Ok(root.certificate().clone()),
        Err(_) => Authority::from_der(der).map(|authority| authority.certificate().clone()),
    };
    read_items(path)?.iter().map(|der| read(der).map_err(|fault| named(fault.to_string()))).collect()
}

/// The certificates and lists of a file: all of a PEM, or one DER.
fn read_items(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = if path == Path::new("-") { read_input()? } else { files::read(path)? };
    if let [0x30, ..] = bytes.as_slice() {
        return Ok(vec![bytes]);
    }
    let blocks = pem::parse_many(&bytes).unwrap_or_default().into_iter();
    let items: Vec<_> = blocks
        .filter(|block| matches!(block.tag(), "CERTIFICATE" | "X509 CRL"))
        .map(pem::Pem::into_contents)
        .take(ITEMS_MAX)
        .collect();
    if items.is_empty() {
        let why = "has no PEM block CERTIFICATE or X509 CRL, and is not DER";
        return Err(Failure(format!("{} {why}", path.display())));
    }
    Ok(items)
}

fn read_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(files::FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > files::FILE_LEN_MAX {
        return Err(Failure("standard input is longer than 512 KiB".to_owned()));
    }
    Ok(bytes)
}

fn report_text(name: &str, report: &Report) -> String {
    let (kind, findings) = (report.kind.as_str(), report.findings.len());
    let skipped = report.skipped.iter().filter(|rule| rule.needs() == "issuer").count();
    let mut text = format!("{name}: judged as {kind}, {findings} found");
    if skipped > 0 && findings == 0 {
        text.push_str(&format!("; {skipped} rules need --issuer"));
    }
    text.push('\n');
    for Finding { rule, detail } in &report.findings {
        let severity = rule.severity.as_str();
        text.push_str(&format!("  {severity} {}: {detail}\n", rule.id));
        text.push_str(&format!("    clause {}, {}: {}\n", rule.clause, rule.source, rule.demand));
    }
    text
}

fn report_value(name: &str, report: &Report) -> Value {
    let findings = report.findings.iter().map(|Finding { rule, detail }| {
        json!({
            "rule": rule.id, "severity": rule.severity.as_str(), "clause": rule.clause, "source": rule.source,
            "demand": rule.demand, "detail": detail,
        })
    });
    let skipped = report.skipped.iter().map(|rule| json!({ "rule": rule.id, "needs": rule.needs() }));
    json!({
        "file": name, "kind": report.kind.as_str(), "findings": findings.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
    })
}

fn kinds(rule: &Rule) -> String {
    rule.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
}

fn print_rules(output: &Output) {
    let values = RULES.iter().map(|rule| {
        let kinds: Vec<_> = rule.kinds.iter().map(|kind| kind.as_str()).collect();
        json!({
            "rule": rule.id, "severity": rule.severity.as_str(), "clause": rule.clause, "source": rule.source,
            "kinds": kinds, "needs": rule.needs(), "demand": rule.demand,
        })
    });
    let rows: Vec<_> = RULES
        .iter()
        .map(|rule| {
            let (clause, severity) = (rule.clause.to_owned(), rule.severity.as_str().to_owned());
            let needs = rule.needs().to_owned();
            [
                clause,
                rule.id.to_owned(),
                severity,
                needs,
                kinds(rule),
                rule.source.to_owned(),
                rule.demand.to_owned(),
            ]
        })
        .collect();
    let header = ["CLAUSE", "RULE", "SEVERITY", "NEEDS", "KINDS", "SOURCE", "DEMAND"];
    output.print(&json!(values.collect::<Vec<_>>()), &table(header, &rows));
}
