//! `countersign person`, `workload` and `token`: who acts for a partner. The partner nominates, a vetter decides.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::import::{Import, Tokens, Vet, import, tokens, vet};
use super::mandate::{Check, Commit, Wait, carry_out};
use super::output::{every_page, table};
use super::remote::{answer, request_id};
use super::{Context, Failure, Outcome, words};
use crate::domain::command::{Command, SubjectDecision};
use crate::domain::id::{EntityId, PersonId, SubjectId};
use crate::domain::person::{Assurance, EvidenceKind, Relation, SubjectKind};
use crate::domain::revocation::{RevocationReason, SuspensionTarget};
use crate::domain::subject::Vetting;
use crate::domain::time::{Day, Timestamp};
use crate::pb;

#[derive(Subcommand)]
pub(super) enum PersonVerb {
    /// Nominate a person of an entity; a vetter decides.
    #[command(after_help = "Example:\n  countersign person nominate --entity ent_01J... --relation EMPLOYEE")]
    Nominate {
        /// The entity that the person acts for.
        #[arg(long)]
        entity: EntityId,
        #[command(flatten)]
        relation: Attested,
        /// The person, when on record already through another employment.
        #[arg(long)]
        person: Option<PersonId>,
        #[command(flatten)]
        check: Check,
    },
    /// Nominate many people of entities from a file, or attest their relations anew; a vetter decides.
    #[command(
        after_help = "Examples:\n  countersign person import people.csv\n  countersign person import people.csv --commit \
                      --results subjects.jsonl\n  countersign person import roster-2026q4.jsonl --attest --commit\n\n\
                      people.csv:\n  entity_id,reference,relation,relation_until\n  \
                      ent_01J...,E-1001,EMPLOYEE,2027-03-31T00:00:00Z\n\nA reference is the entity's own name for the \
                      person, a number of staff for example, and the same in every file. Only a digest of it is kept. When \
                      an import ends half way, run the same command again: nobody is recorded twice. Exit 1: somebody was \
                      not taken."
    )]
    Import(Import),
    /// Decide on many people from a file: sign as a vetter who nominated none of those that are approved.
    #[command(
        after_help = "Examples:\n  countersign person vet decisions.csv\n  countersign person vet decisions.csv --commit\n\n\
                      decisions.csv:\n  subject_id,decision,evidence,verified_on,assurance,reverify_due\n  \
                      sub_01J...,APPROVE,CITIZEN_OR_NATIONAL,2026-06-27,IAL2,2027-06-27T00:00:00Z\n  sub_01K...,REFUSE,,,,\n\n\
                      Each signature is over at most a thousand decisions, which are all in the record. When it ends half way, \
                      run the same command again. Exit 1: somebody was not decided on."
    )]
    Vet(Vet),
    /// Make enrollment tokens for many people from a file. Their secrets are made here and the server never has them.
    #[command(after_help = "Examples:\n  countersign person tokens subjects.jsonl --out tokens.jsonl\n  \
                      countersign person tokens subjects.jsonl --out tokens.jsonl --ttl-hours 24 --commit\n\nsubjects.jsonl is \
                      the file of person import --results, for example. When it ends half way, run the same command again: \
                      nobody gets a second token. Exit 1: somebody gets none.")]
    Tokens(Tokens),
    /// Attest the relation of a person to the entity anew.
    #[command(after_help = "Example:\n  countersign person attest sub_01J... --relation CONTRACTOR")]
    Attest {
        /// The person in this employment.
        subject: SubjectId,
        #[command(flatten)]
        relation: Attested,
        #[command(flatten)]
        check: Check,
    },
    /// Approve a person with what was established. The status follows from the evidence, which is never stored.
    #[command(
        after_help = "Example:\n  countersign person approve sub_01J... --evidence CITIZEN_OR_NATIONAL \\\n      \
                            --verified-on 2026-06-27 --assurance IAL2 --commit"
    )]
    Approve {
        /// The person in this employment.
        subject: SubjectId,
        /// CITIZEN_OR_NATIONAL, LAWFUL_PERMANENT_RESIDENT, PROTECTED_INDIVIDUAL, NO_US_STATUS or NONE. Without it,
        /// what was established before stands.
        #[arg(long, requires_all = ["verified_on", "assurance"])]
        evidence: Option<EvidenceKind>,
        /// The UTC day on which it was verified.
        #[arg(long, requires = "evidence", value_name = "YYYY-MM-DD")]
        verified_on: Option<Day>,
        /// IAL1, IAL2 or IAL3 (NIST SP 800-63A-4).
        #[arg(long, requires = "evidence")]
        assurance: Option<Assurance>,
        /// When it must be verified anew; certificates never outlive it.
        #[arg(long, value_name = "RFC3339")]
        reverify_due: Option<Timestamp>,
        #[command(flatten)]
        commit: Commit,
    },
    #[command(flatten)]
    Shared(SharedVerb),
}

#[derive(Subcommand)]
pub(super) enum WorkloadVerb {
    /// Nominate a workload of an entity; a vetter decides.
    #[command(
        after_help = "Example:\n  countersign workload nominate --entity ent_01J... --owner sub_01J... \\\n      \
                            --operator sub_01J... --operator sub_01K..."
    )]
    Nominate {
        /// The entity that the workload acts for.
        #[arg(long)]
        entity: EntityId,
        /// The person who answers for it.
        #[arg(long)]
        owner: SubjectId,
        /// Everybody who operates it, the owner included; may be given several times.
        #[arg(long = "operator", required = true)]
        operators: Vec<SubjectId>,
        #[command(flatten)]
        check: Check,
    },
    /// Approve a workload.
    #[command(after_help = "Example:\n  countersign workload approve sub_01J... --commit")]
    Approve {
        /// The workload.
        subject: SubjectId,
        /// When it must be looked at anew; certificates never outlive it.
        #[arg(long, value_name = "RFC3339")]
        reverify_due: Option<Timestamp>,
        #[command(flatten)]
        commit: Commit,
    },
    #[command(flatten)]
    Shared(SharedVerb),
}

/// What is the same for people and workloads.
#[derive(Subcommand)]
pub(super) enum SharedVerb {
    /// Refuse one that was nominated, or remove one that was approved.
    #[command(after_help = "Example:\n  countersign person refuse sub_01J... --commit")]
    Refuse {
        /// Whom.
        subject: SubjectId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Suspend at once; reversible.
    #[command(after_help = "Example:\n  countersign person suspend sub_01J... --reason MISUSE --wait")]
    Suspend {
        /// Whom.
        subject: SubjectId,
        /// Why, for example MISUSE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a suspension. Two officers sign.
    #[command(after_help = "Example:\n  countersign person unsuspend sub_01J... --commit")]
    Unsuspend {
        /// Whom.
        subject: SubjectId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Show one.
    #[command(after_help = "Example:\n  countersign person show sub_01J...")]
    Show {
        /// Whom.
        subject: SubjectId,
    },
    /// List those of an entity.
    #[command(after_help = "Example:\n  countersign person list --entity ent_01J...")]
    List {
        /// Whose.
        #[arg(long)]
        entity: EntityId,
    },
}

#[derive(Subcommand)]
pub(super) enum TokenVerb {
    /// Make a one-time enrollment token. Its secret is shown once and never stored.
    #[command(after_help = "Example:\n  countersign token create sub_01J... --ttl-hours 24")]
    Create {
        /// For whom.
        subject: SubjectId,
        /// How long it may be redeemed, in hours.
        #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=336))]
        ttl_hours: u32,
        #[command(flatten)]
        check: Check,
    },
}

/// A relation as the entity attests it.
#[derive(Args)]
pub(super) struct Attested {
    /// EMPLOYEE, CONTRACTOR or NONE.
    #[arg(long)]
    relation: Relation,
    /// Until when, RFC 3339 [default: no end is known]
    #[arg(long, value_name = "RFC3339")]
    until: Option<Timestamp>,
}

impl Attested {
    fn until(&self) -> String {
        self.until.map(|until| until.to_string()).unwrap_or_default()
    }
}

pub(super) async fn person(verb: PersonVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        PersonVerb::Nominate { entity, relation, person, check } => {
            let person = pb::NominatedPerson {
                relation_until: relation.until(),
                relation: relation.relation.to_string(),
                person_id: person.map(|id| id.to_string()).unwrap_or_default(),
            };
            nominate(context, entity, pb::nominate_subject_request::Body::Person(person), check).await
        }
        PersonVerb::Import(file) => import(file, context).await,
        PersonVerb::Vet(file) => vet(file, context).await,
        PersonVerb::Tokens(file) => tokens(file, context).await,
        PersonVerb::Attest { subject, relation, check } => {
            let request = pb::AttestRelationRequest {
                subject_id: subject.to_string(),
                relation_until: relation.until(),
                relation: relation.relation.to_string(),
                request_id: request_id(),
                validate_only: check.dry_run,
            };
            let remote = context.connection.remote().await?;
            let done = answer(remote.provisioning().attest_relation(request)).await?;
            context.recorded(check, ("subject", subject.to_string()), done.position)
        }
        PersonVerb::Approve { subject, evidence, verified_on, assurance, reverify_due, commit } => {
            let established = evidence.zip(verified_on).zip(assurance);
            let vetting = established.map(|((evidence, verified_on), assurance)| Vetting {
                status: evidence.status(),
                evidence,
                verified_on,
                assurance,
            });
            decide(context, subject, SubjectDecision::Approve { vetting, reverify_due }, commit).await
        }
        PersonVerb::Shared(verb) => shared(verb, SubjectKind::Human, context).await,
    }
}

pub(super) async fn workload(verb: WorkloadVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        WorkloadVerb::Nominate { entity, owner, operators, check } => {
            let workload = pb::NominatedWorkload {
                owner: owner.to_string(),
                operators: operators.iter().map(ToString::to_string).collect(),
            };
            nominate(context, entity, pb::nominate_subject_request::Body::Workload(workload), check).await
        }
        WorkloadVerb::Approve { subject, reverify_due, commit } => {
            let decision = SubjectDecision::Approve { vetting: None, reverify_due };
            decide(context, subject, decision, commit).await
        }
        WorkloadVerb::Shared(verb) => shared(verb, SubjectKind::Workload, context).await,
    }
}

async fn shared(verb: SharedVerb, kind: SubjectKind, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        SharedVerb::Refuse { subject, commit } => {
            decide(context, subject, SubjectDecision::Refuse, commit).await
        }
        SharedVerb::Suspend { subject, reason, check, wait } => {
            let command = Command::Suspend { target: SuspensionTarget::Subject(subject), reason };
            carry_out(context, command, check, wait).await
        }
        SharedVerb::Unsuspend { subject, commit } => {
            let command = Command::Unsuspend(SuspensionTarget::Subject(subject));
            carry_out(context, command, commit, Wait::default()).await
        }
        SharedVerb::Show { subject } => {
            let remote = context.connection.remote().await?;
            let request = pb::GetSubjectRequest { subject_id: subject.to_string() };
            let subject =
                answer(remote.provisioning().get_subject(request)).await?.subject.unwrap_or_default();
            let mut shown = value(&subject);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("issuance_refusal".to_owned(), json!(subject.issuance_refusal));
            }
            context.output.print(&shown, &text(&subject));
            Ok(Outcome::Done)
        }
        SharedVerb::List { entity } => list(entity, kind, context).await,
    }
}

pub(super) async fn token(verb: TokenVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let TokenVerb::Create { subject, ttl_hours, check } = verb;
    let request = pb::CreateTokenRequest {
        subject_id: subject.to_string(),
        ttl_s: ttl_hours * 3_600,
        request_id: request_id(),
        validate_only: check.dry_run,
    };
    let remote = context.connection.remote().await?;
    let made = answer(remote.provisioning().create_token(request)).await?;
    if check.dry_run {
        return context.recorded(check, ("subject", subject.to_string()), made.position);
    }
    let text = format!(
        "{}\nIt is shown only here. Give it to the person, who redeems it until {}:\n  \
         countersign enroll --token - --system-bundle system-bundle.pem --out DIR",
        made.token, made.expires_at
    );
    context.output.print(&json!({ "token": made.token, "expires_at": made.expires_at }), &text);
    Ok(Outcome::Done)
}

async fn decide(
    context: &Context<'_>,
    subject: SubjectId,
    decision: SubjectDecision,
    commit: Commit,
) -> Result<Outcome, Failure> {
    carry_out(context, Command::DecideSubject { subject, decision }, commit, Wait::default()).await
}

async fn nominate(
    context: &Context<'_>,
    entity: EntityId,
    body: pb::nominate_subject_request::Body,
    check: Check,
) -> Result<Outcome, Failure> {
    let request = pb::NominateSubjectRequest {
        entity_id: entity.to_string(),
        body: Some(body),
        request_id: request_id(),
        validate_only: check.dry_run,
    };
    let remote = context.connection.remote().await?;
    let done = answer(remote.provisioning().nominate_subject(request)).await?;
    context.recorded(check, ("subject", done.subject_id), done.position)
}

async fn list(entity: EntityId, kind: SubjectKind, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let mut subjects = every_page(async |page_token| {
        let request = pb::ListSubjectsRequest { entity_id: entity.to_string(), page_size: 0, page_token };
        let page = answer(remote.provisioning().list_subjects(request)).await?;
        Ok((page.subjects, page.next_page_token))
    })
    .await?;
    subjects.retain(|subject| subject.kind == kind.as_str());
    let rows: Vec<_> = subjects
        .iter()
        .map(|subject| {
            let suspended = if subject.suspended { ", suspended" } else { "" };
            let detail = match kind {
                SubjectKind::Human => format!("{} {}", subject.person_status, subject.relation),
                SubjectKind::Workload => subject.owner.clone(),
            };
            [subject.subject_id.clone(), format!("{}{suspended}", subject.status), detail]
        })
        .collect();
    let header = match kind {
        SubjectKind::Human => ["PERSON", "STATUS", "ESTABLISHED"],
        SubjectKind::Workload => ["WORKLOAD", "STATUS", "OWNER"],
    };
    let values: Vec<_> = subjects.iter().map(value).collect();
    context.output.print(&json!(values), &table(header, &rows));
    Ok(Outcome::Done)
}

fn value(subject: &pb::Subject) -> Value {
    json!({
        "subject_id": subject.subject_id, "entity_id": subject.entity_id, "kind": subject.kind,
        "status": subject.status, "suspended": subject.suspended, "person_status": subject.person_status,
        "relation": subject.relation, "assurance": subject.assurance, "owner": subject.owner,
        "operators": subject.operators, "revision": subject.revision,
    })
}

fn text(subject: &pb::Subject) -> String {
    let suspended = if subject.suspended { ", SUSPENDED" } else { "" };
    let refusal = match subject.issuance_refusal.as_str() {
        "" => String::new(),
        why => format!("none can be issued: {why}"),
    };
    let rows = [
        ("entity", subject.entity_id.clone()),
        ("status", format!("{}{suspended}", subject.status)),
        ("established", format!("{} {}", subject.person_status, subject.assurance)),
        ("relation", subject.relation.clone()),
        ("owner", subject.owner.clone()),
        ("operators", subject.operators.join(", ")),
        ("certificate", refusal),
        ("revision", subject.revision.to_string()),
    ];
    let mut text = format!("{}  {}\n", subject.subject_id, subject.kind);
    for (label, value) in rows.into_iter().filter(|(_, value)| !value.trim().is_empty()) {
        text.push_str(&format!("  {label:<12} {}\n", words::printable(&value)));
    }
    text
}
