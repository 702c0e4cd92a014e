//! The lint: what a certificate or a revocation list must be, as a table of rules, each with its source.
//!
//! It shares neither the writer (rcgen) nor the strict reader (`cert`): x509-parser reads, and every expected value is
//! derived here again, so that one mistake in one place cannot pass unseen. The authority runs it on the intended bytes
//! before its key is touched, where every finding refuses; `countersign cert lint` runs the same rules on files.
//! The specification is docs/certificate-profile.md, and a test holds the two together.

mod attributes;
mod canonical;
mod extensions;
mod fields;
mod intent;
mod item;
mod list;
mod names;
mod rules;

use std::fmt;

use thiserror::Error;

pub use self::item::Kind;
pub use self::rules::RULES;

use self::item::{Item, List, Subject};
use super::authority::Authority;
use super::ca_certificate::CaCertificate;
use super::crl::CrlContent;
use super::key::PublicKey;
use super::profile::Profile;
use super::root::Root;
use super::template::Content;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::time::Timestamp;

/// How bad a breach is. Both refuse issuance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A MUST or MUST NOT is broken.
    Error,
    /// A SHOULD or SHOULD NOT is broken (RFC 2119, RFC 8174).
    Warning,
}

impl Severity {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What a rule has to say: nothing, or what is wrong.
type Verdict = Result<(), String>;

/// How a rule judges, and what it needs beside the bytes.
#[derive(Debug, Clone, Copy)]
enum Check {
    /// The bytes can be read at all; then the others are asked.
    Read,
    /// The certificate alone.
    Certificate(fn(&Subject<'_>) -> Verdict),
    /// The certificate, and who is said to issue it.
    Issued(fn(&Subject<'_>, &CaCertificate) -> Verdict),
    /// The same, when it carries a signature that counts.
    Signed(fn(&Subject<'_>, &CaCertificate) -> Verdict),
    /// The certificate, and what it is meant to be.
    Intended(fn(&Subject<'_>, &Intent<'_>) -> Verdict),
    /// The list alone.
    List(fn(&List<'_>) -> Verdict),
    /// The list, and who is said to issue it.
    ListIssued(fn(&List<'_>, &CaCertificate) -> Verdict),
    /// The same, when it carries a signature that counts.
    ListSigned(fn(&List<'_>, &CaCertificate) -> Verdict),
    /// The list, and what it is meant to be.
    ListIntended(fn(&List<'_>, &CrlContent) -> Verdict),
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, which never changes.
    pub id: &'static str,
    /// How bad a breach is.
    pub severity: Severity,
    /// The clause of docs/certificate-profile.md that demands it.
    pub clause: &'static str,
    /// Where that comes from: an RFC, or a decision of this service.
    pub source: &'static str,
    /// What it judges.
    pub kinds: &'static [Kind],
    /// What it demands.
    pub demand: &'static str,
    check: Check,
}

impl Rule {
    /// What it needs beside the bytes, in one word.
    pub const fn needs(&self) -> &'static str {
        match self.check {
            Check::Read | Check::Certificate(_) | Check::List(_) => "nothing",
            Check::Issued(_) | Check::Signed(_) | Check::ListIssued(_) | Check::ListSigned(_) => "issuer",
            Check::Intended(_) | Check::ListIntended(_) => "record",
        }
    }

    /// The verdict; `None`: what it needs is not there.
    fn judge(&self, item: &Item<'_>, given: &Given<'_>) -> Option<Verdict> {
        match (self.check, item) {
            (Check::Certificate(check), Item::Certificate(subject)) => Some(check(subject)),
            (Check::Issued(check), Item::Certificate(subject)) => Some(check(subject, given.issuer?)),
            (Check::Signed(check), Item::Certificate(subject)) => {
                Some(check(subject, given.issuer.filter(|_| given.is_signed)?))
            }
            (Check::Intended(check), Item::Certificate(subject)) => match given.meant? {
                Meant::Certificate(intent) => Some(check(subject, intent)),
                Meant::List(_) => None,
            },
            (Check::List(check), Item::List(list)) => Some(check(list)),
            (Check::ListIssued(check), Item::List(list)) => Some(check(list, given.issuer?)),
            (Check::ListSigned(check), Item::List(list)) => {
                Some(check(list, given.issuer.filter(|_| given.is_signed)?))
            }
            (Check::ListIntended(check), Item::List(list)) => match given.meant? {
                Meant::List(content) => Some(check(list, content)),
                Meant::Certificate(_) => None,
            },
            // What is read is not asked again, and a rule is never asked about what is not of its kind.
            (Check::Read, _) | (_, Item::Certificate(_) | Item::List(_)) => Some(Ok(())),
        }
    }
}

/// A rule that was broken.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What is wrong, in this case.
    pub detail: String,
}

impl PartialEq for Finding {
    fn eq(&self, other: &Self) -> bool {
        self.rule.id == other.rule.id && self.detail == other.detail
    }
}

impl Eq for Finding {}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.rule.id, self.rule.source, self.detail)
    }
}

/// What was to be signed breaks rules, and was not signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("refused by the lint: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct LintFault(pub Vec<Finding>);

/// What a certificate is meant to be.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// Who issues it.
    pub authority: &'a Authority,
    /// The profile.
    pub profile: &'a Profile,
    /// The subject's key.
    pub key: &'a PublicKey,
    /// Everything else.
    pub content: &'a Content,
    /// When it is issued.
    pub now: Timestamp,
}

#[derive(Clone, Copy)]
enum Meant<'a> {
    Certificate(&'a Intent<'a>),
    List(&'a CrlContent),
}

/// A root certifies for services of either profile; whether a root and what it certified fit that of a service is asked by
/// the service.
const CEREMONY: AlgorithmProfile = AlgorithmProfile::Standard;

/// What is known beside the bytes.
#[derive(Clone, Copy)]
struct Given<'a> {
    profile: Option<&'a Profile>,
    algorithms: AlgorithmProfile,
    issuer: Option<&'a CaCertificate>,
    is_signed: bool,
    meant: Option<Meant<'a>>,
}

impl Given<'_> {
    /// Nothing but the algorithms.
    const fn under(algorithms: AlgorithmProfile) -> Self {
        Self { profile: None, algorithms, issuer: None, is_signed: false, meant: None }
    }
}

/// What the rules say of some bytes.
#[derive(Debug)]
pub struct Report {
    /// As what they were judged.
    pub kind: Kind,
    /// What was broken, in the order of the table.
    pub findings: Vec<Finding>,
    /// The rules that would have needed something that was not there.
    pub skipped: Vec<&'static Rule>,
}

/// Judges the draft of a leaf against what it is meant to be, signature apart.
///
/// # Errors
/// Every rule that it breaks.
pub fn lint(der: &[u8], intent: &Intent<'_>) -> Result<(), LintFault> {
    let meant = Some(Meant::Certificate(intent));
    let issuer = intent.authority.certificate();
    let (profile, algorithms) = (Some(intent.profile), intent.profile.algorithms());
    let given = Given { profile, algorithms, issuer: Some(issuer), is_signed: false, meant };
    accept(judge(Kind::of_facts(&intent.content.facts), der, &given))
}

/// Judges the draft of an authority's own certificate, signature apart.
///
/// # Errors
/// Every rule that it breaks.
pub fn lint_authority(der: &[u8], algorithms: AlgorithmProfile) -> Result<(), LintFault> {
    accept(judge(Kind::Authority, der, &Given::under(algorithms)))
}

/// Judges the draft of a revocation list against what it is meant to be, signature apart.
///
/// # Errors
/// Every rule that it breaks.
pub fn lint_list(der: &[u8], authority: &Authority, content: &CrlContent) -> Result<(), LintFault> {
    let meant = Some(Meant::List(content));
    let issuer = Some(authority.certificate());
    accept(judge(Kind::List, der, &Given { issuer, meant, ..Given::under(CEREMONY) }))
}

/// Judges the draft of a root's own certificate, signature apart.
///
/// # Errors
/// Every rule that it breaks.
pub fn lint_root(der: &[u8]) -> Result<(), LintFault> {
    accept(judge(Kind::Root, der, &Given::under(CEREMONY)))
}

/// Judges the draft of what a root is to certify, an authority or another root, signature apart.
///
/// # Errors
/// Every rule that it breaks, and that it is neither.
pub fn lint_certified(der: &[u8], root: &Root) -> Result<(), LintFault> {
    let kind = match Kind::of_authority(der) {
        Some(Kind::Cross) => Kind::Cross,
        Some(_) | None => Kind::Subordinate,
    };
    accept(judge(kind, der, &Given { issuer: Some(root.certificate()), ..Given::under(CEREMONY) }))
}

/// Judges the draft of a root's revocation list against what it is meant to be, signature apart.
///
/// # Errors
/// Every rule that it breaks.
pub fn lint_root_list(der: &[u8], root: &Root, content: &CrlContent) -> Result<(), LintFault> {
    let (issuer, meant) = (Some(root.certificate()), Some(Meant::List(content)));
    accept(judge(Kind::RootList, der, &Given { issuer, meant, ..Given::under(CEREMONY) }))
}

/// Judges a root's revocation list that was received, its signature too.
///
/// # Errors
/// Every rule that it breaks.
pub fn check_root_list(der: &[u8], root: &Root) -> Result<(), LintFault> {
    let issuer = Some(root.certificate());
    accept(judge(Kind::RootList, der, &Given { issuer, is_signed: true, ..Given::under(CEREMONY) }))
}

/// Judges a signed certificate or revocation list of which no record is at hand. What it is, it says itself.
pub fn examine(der: &[u8], profile: &Profile, issuer: Option<&CaCertificate>) -> Report {
    let algorithms = profile.algorithms();
    let given = Given { profile: Some(profile), algorithms, issuer, is_signed: true, meant: None };
    judge(Kind::guess(der, profile), der, &given)
}

/// Judges it as what it may not look like.
#[cfg(test)]
pub(super) fn examine_as(kind: Kind, der: &[u8]) -> Report {
    judge(kind, der, &Given { is_signed: true, ..Given::under(CEREMONY) })
}

fn accept(report: Report) -> Result<(), LintFault> {
    if report.findings.is_empty() { Ok(()) } else { Err(LintFault(report.findings)) }
}

fn judge(kind: Kind, der: &[u8], given: &Given<'_>) -> Report {
    let (mut findings, mut skipped) = (Vec::new(), Vec::new());
    let item = Item::read(kind, der, (given.profile, given.algorithms, given.is_signed));
    for rule in RULES.iter().filter(|rule| rule.kinds.contains(&kind)) {
        let verdict = match (&item, rule.check) {
            (Err(why), Check::Read) => Some(Err(why.clone())),
            (Err(_), _) => None,
            (Ok(item), _) => rule.judge(item, given),
        };
        match verdict {
            Some(Ok(())) => {}
            Some(Err(detail)) => findings.push(Finding { rule, detail }),
            None => skipped.push(rule),
        }
    }
    Report { kind, findings, skipped }
}

/// Says what is wrong unless it holds.
fn must(holds: bool, what: &str) -> Verdict {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
