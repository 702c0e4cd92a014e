//! `countersign revoke` and `countersign stop`: one officer takes away, at once; two give back what can be given back.

use clap::{Args, Subcommand};
use serde_json::json;

use super::announce::{self, AnnounceVerb};
use super::mandate::{Check, Commit, Wait, Waiting, carry_out};
use super::remote::answer;
use super::{Context, Failure, Outcome, drill};
use crate::domain::command::Command;
use crate::domain::id::{
    AuthorityId, DeterminationId, EntityId, LineageId, ModelId, Ordinal, PersonId, SubjectId,
};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use crate::pb;

/// An ordinal from a command line.
pub(super) fn ordinal(text: &str) -> Result<Ordinal, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(Ordinal(number)),
        _ => Err("a number from 1 is needed: `countersign cert show FILE` prints it as ordinal".to_owned()),
    }
}

#[derive(Subcommand)]
pub(super) enum RevokeVerb {
    /// Every certificate issued so far to the people and workloads of an entity.
    #[command(
        after_help = "Example:\n  countersign revoke entity ent_01J... --reason ANNEX_REMOVED --wait --commit"
    )]
    Entity {
        /// The entity.
        entity: EntityId,
        #[command(flatten)]
        how: How,
    },
    /// Every certificate issued so far to a person, in every employment.
    #[command(
        after_help = "Example:\n  countersign revoke person per_01J... --reason STATUS_MISSTATED --wait --commit"
    )]
    Person {
        /// The person.
        person: PersonId,
        #[command(flatten)]
        how: How,
    },
    /// Every certificate issued so far to one employment or workload.
    #[command(
        after_help = "Example:\n  countersign revoke subject sub_01J... --reason AFFILIATION_ENDED --wait --commit"
    )]
    Subject {
        /// The employment or workload.
        subject: SubjectId,
        #[command(flatten)]
        how: How,
    },
    /// A chain of renewals.
    #[command(
        after_help = "Example:\n  countersign revoke lineage lin_01J... --reason KEY_COMPROMISE --wait --commit"
    )]
    Lineage {
        /// The lineage.
        lineage: LineageId,
        #[command(flatten)]
        how: How,
    },
    /// Every certificate issued so far that states a determination, or one revision of its annex.
    #[command(after_help = "Examples:\n  \
                            countersign revoke determination 2026-06-26-lift --reason DETERMINATION_CHANGED --wait --commit\n  \
                            countersign revoke determination 2026-06-26-lift --annex-revision 3 \
                            --reason ISSUED_IN_ERROR --wait --commit")]
    Determination {
        /// The determination, as `cert show` prints it.
        determination: DeterminationId,
        /// Only certificates that state this revision of its annex.
        #[arg(long, value_name = "NUMBER")]
        annex_revision: Option<u32>,
        #[command(flatten)]
        how: How,
    },
    #[command(flatten)]
    Announced(AnnounceVerb),
    /// One certificate.
    #[command(
        after_help = "Example:\n  countersign revoke certificate 40812 --reason KEY_COMPROMISE --wait --commit"
    )]
    Certificate {
        /// Its ordinal, as `cert show` prints it.
        #[arg(value_parser = ordinal)]
        ordinal: Ordinal,
        #[command(flatten)]
        how: How,
    },
}

/// Why, and how long to wait.
#[derive(Args)]
pub(super) struct How {
    /// Why, for example KEY_COMPROMISE; a wrong word lists all.
    #[arg(long)]
    pub(super) reason: RevocationReason,
    #[command(flatten)]
    pub(super) commit: Commit,
    #[command(flatten)]
    pub(super) wait: Wait,
}

pub(super) async fn revoke(verb: RevokeVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (scope, how) = match verb {
        RevokeVerb::Announced(verb) => return announce::run(verb, context).await,
        RevokeVerb::Entity { entity, how } => (RevocationScope::Entity(entity), how),
        RevokeVerb::Person { person, how } => (RevocationScope::Person(person), how),
        RevokeVerb::Subject { subject, how } => (RevocationScope::Subject(subject), how),
        RevokeVerb::Lineage { lineage, how } => (RevocationScope::Lineage(lineage), how),
        RevokeVerb::Determination { determination, annex_revision: None, how } => {
            (RevocationScope::Determination(determination), how)
        }
        RevokeVerb::Determination { determination, annex_revision: Some(revision), how } => {
            (RevocationScope::AnnexRevision(determination, revision), how)
        }
        RevokeVerb::Certificate { ordinal, how } => (RevocationScope::Certificate(ordinal), how),
    };
    carry_out(context, Command::Revoke { scope, reason: how.reason }, how.commit, how.wait).await
}

#[derive(Subcommand)]
pub(super) enum StopVerb {
    /// Stop at once, with one signature. Two officers release it.
    #[command(
        after_help = "Examples:\n  countersign stop engage --model mythos-5 --reason GOVERNMENT_ORDER --wait\n  \
                            countersign stop engage --all --reason MISUSE --wait --deadline-ms 5000"
    )]
    Engage {
        #[command(flatten)]
        scope: Scope,
        /// Why, for example GOVERNMENT_ORDER; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// Release a stop. Two officers sign.
    #[command(after_help = "Example:\n  countersign stop release --model mythos-5 --commit")]
    Release {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        commit: Commit,
    },
    /// Practise a stop: every gateway acknowledges it like one, nobody is denied anything, and the record keeps how long it
    /// took.
    #[command(after_help = "Examples:\n  countersign stop drill --model mythos-5 --wait\n  \
                            countersign stop drill --all --wait --json")]
    Drill {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Waiting,
    },
    /// Earlier drills, with how long each took.
    #[command(after_help = "Example:\n  countersign stop drills")]
    Drills,
    /// What is stopped, suspended, held and revoked now.
    #[command(after_help = "Example:\n  countersign stop list")]
    List,
}

/// What a stop reaches: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Scope {
    /// A model and everything that descends from it.
    #[arg(long)]
    model: Option<ModelId>,
    /// An entity.
    #[arg(long)]
    entity: Option<EntityId>,
    /// An employment or workload.
    #[arg(long)]
    subject: Option<SubjectId>,
    /// Everybody with a certificate of this authority.
    #[arg(long)]
    issuer: Option<AuthorityId>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

impl Scope {
    fn scope(self) -> StopScope {
        let model = self.model.map(StopScope::Model);
        let entity = self.entity.map(StopScope::Entity);
        let subject = self.subject.map(StopScope::Subject);
        let issuer = self.issuer.map(StopScope::Issuer);
        // One of them is given, or `all`: the group says so.
        model.or(entity).or(subject).or(issuer).unwrap_or(StopScope::All)
    }
}

pub(super) async fn stop(verb: StopVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        StopVerb::Engage { scope, reason, check, wait } => {
            carry_out(context, Command::Stop { scope: scope.scope(), reason }, check, wait).await
        }
        StopVerb::Release { scope, commit } => {
            carry_out(context, Command::ReleaseStop(scope.scope()), commit, Wait::default()).await
        }
        StopVerb::Drill { scope, check, wait } => drill::run(context, scope.scope(), check, wait).await,
        StopVerb::Drills => drill::list(context).await,
        StopVerb::List => list(context).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let now = answer(remote.revocation().list_restrictions(pb::ListRestrictionsRequest {})).await?;
    let held: Vec<_> = now.held_ordinals.iter().map(ToString::to_string).collect();
    let or_none = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let seq = now.as_of.unwrap_or_default().seq;
    let text = format!(
        "stopped      {}\nsuspended    {}\nprincipals   {} suspended\nheld         {}\nrevoked      {} certificates, {} lineages\n\
         cut off      {} subjects, {} entities, {} determinations or revisions of their annex\nissuers      {}\nkeys         {} blocked\nas of record {seq}",
        or_none(&now.stops),
        or_none(&now.suspensions),
        or_none(&now.suspended_principals),
        or_none(&held),
        now.revoked_certificates,
        now.revoked_lineages,
        now.subject_cutoffs,
        now.entity_cutoffs,
        now.determination_cutoffs,
        or_none(&now.revoked_issuers),
        now.blocked_keys_total,
    );
    let value = json!({
        "stops": now.stops, "suspensions": now.suspensions,
        "suspended_principals": now.suspended_principals, "held_ordinals": now.held_ordinals,
        "revoked_certificates": now.revoked_certificates, "revoked_lineages": now.revoked_lineages,
        "subject_cutoffs": now.subject_cutoffs, "entity_cutoffs": now.entity_cutoffs,
        "determination_cutoffs": now.determination_cutoffs,
        "revoked_issuers": now.revoked_issuers, "blocked_keys": now.blocked_keys,
        "blocked_keys_total": now.blocked_keys_total, "as_of": seq,
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}
