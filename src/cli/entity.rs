//! `countersign entity`, `annex`, `grant` and `license`: partners and what they may use.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::mandate::{Check, Commit, Wait, carry_out};
use super::output::{every_page, table};
use super::remote::{answer, request_id};
use super::{Context, Failure, Outcome, partners, simulate, words};
use crate::domain::command::Command;
use crate::domain::entity::{EntityKind, Organisation};
use crate::domain::grant::Grant;
use crate::domain::id::{DeterminationId, EntityId, GrantId, LicenseId, ModelId, PurposeId, SubjectId};
use crate::domain::license::License;
use crate::domain::model::AccessForm;
use crate::domain::policy::Country;
use crate::domain::revocation::{RevocationReason, SuspensionTarget};
use crate::domain::time::{Interval, Timestamp};
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::pb;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Register an applicant. Grants nothing.
    #[command(after_help = "Example:\n  countersign entity apply --name 'Acme Inc.' --organisation US")]
    Apply {
        /// Legal name. Never in a certificate or a log line.
        #[arg(long)]
        name: String,
        /// COMPANY, FEDERAL_AGENCY, STATE_AGENCY or CRITICAL_INFRASTRUCTURE.
        #[arg(long, default_value = "COMPANY")]
        kind: EntityKind,
        /// US or FOREIGN; what is not known is FOREIGN.
        #[arg(long)]
        organisation: Organisation,
        /// Two-letter country of the seat, when not the United States.
        #[arg(long)]
        seat: Option<Country>,
        #[command(flatten)]
        check: Check,
    },
    /// Show one entity.
    #[command(after_help = "Example:\n  countersign entity show ent_01J...")]
    Show {
        /// The entity.
        entity: EntityId,
    },
    /// List entities.
    #[command(after_help = "Example:\n  countersign entity list --json")]
    List,
    /// Make an applicant a partner. Two officers sign.
    #[command(after_help = "Example:\n  countersign entity activate ent_01J... --commit")]
    Activate {
        /// The applicant.
        entity: EntityId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Reject an applicant for good.
    #[command(after_help = "Example:\n  countersign entity reject ent_01J... --commit")]
    Reject {
        /// The applicant.
        entity: EntityId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Remove a partner for good and cut off its certificates.
    #[command(
        after_help = "Example:\n  countersign entity remove ent_01J... --reason ANNEX_REMOVED --commit"
    )]
    Remove {
        /// The partner.
        entity: EntityId,
        /// Why, for example ANNEX_REMOVED; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        commit: Commit,
        #[command(flatten)]
        wait: Wait,
    },
    /// Suspend a partner at once; reversible.
    #[command(after_help = "Example:\n  countersign entity suspend ent_01J... --reason SCREENING_HIT --wait")]
    Suspend {
        /// The partner.
        entity: EntityId,
        /// Why, for example SCREENING_HIT; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a suspension. Two officers sign.
    #[command(after_help = "Example:\n  countersign entity unsuspend ent_01J... --commit")]
    Unsuspend {
        /// The partner.
        entity: EntityId,
        #[command(flatten)]
        commit: Commit,
    },
}

#[derive(Subcommand)]
pub(super) enum AnnexVerb {
    /// Say who would lose or gain access by an amendment. Nothing is signed and nothing changes.
    #[command(
        after_help = "Example:\n  countersign annex simulate --determination 2026-06-26-lift --revision 2 \\\n      \
                            --add ent_01J... --remove ent_01K..."
    )]
    Simulate {
        #[command(flatten)]
        amendment: Amendment,
    },
    /// Add entities to the annex of a determination (two officers sign) or remove some (one, at once).
    #[command(
        after_help = "Example:\n  countersign annex amend --determination 2026-06-26-lift --revision 2 \\\n      \
                            --add ent_01J... --remove ent_01K... --commit"
    )]
    Amend {
        #[command(flatten)]
        amendment: Amendment,
        #[command(flatten)]
        commit: Commit,
    },
}

/// A revision of an annex.
#[derive(Args)]
pub(super) struct Amendment {
    /// Whose annex.
    #[arg(long)]
    determination: DeterminationId,
    /// The number of this revision, one above the last.
    #[arg(long)]
    revision: u32,
    /// An entity to add; may be given several times.
    #[arg(long, required_unless_present = "remove")]
    add: Vec<EntityId>,
    /// An entity to remove; may be given several times.
    #[arg(long)]
    remove: Vec<EntityId>,
}

impl From<Amendment> for Command {
    fn from(amendment: Amendment) -> Self {
        let Amendment { determination, revision, add, remove } = amendment;
        Self::AmendAnnex { determination, revision, add, remove }
    }
}

#[derive(Subcommand)]
pub(super) enum GrantVerb {
    /// Permit an entity to use a model. Two officers sign. The law is judged besides, at each use.
    #[command(
        after_help = "Example:\n  countersign grant add ent_01J... --model mythos-5 --country GB \\\n      \
                            --until 2027-01-01T00:00:00Z --commit"
    )]
    Add {
        /// To whom.
        entity: EntityId,
        /// The model and everything that descends from it.
        #[arg(long)]
        model: ModelId,
        #[command(flatten)]
        period: Period,
        /// WEIGHTS or INTERNALS beside INFERENCE; may be given several times.
        #[arg(long = "form")]
        forms: Vec<AccessForm>,
        #[command(flatten)]
        conditions: Conditions,
        #[command(flatten)]
        commit: Commit,
    },
    /// End a grant now.
    #[command(after_help = "Examples:\n  countersign grant end ent_01J... grt_01J... --commit --wait\n  \
                            countersign grant end ent_01J... grt_01J... --commit \\\n      \
                            --break-glass 'the licence was withdrawn by telephone, nobody of security answers'")]
    End {
        /// Whose.
        entity: EntityId,
        /// Which.
        grant: GrantId,
        #[command(flatten)]
        commit: Commit,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Subcommand)]
pub(super) enum LicenseVerb {
    /// Register a licence, or replace the one with its number. Two officers sign.
    #[command(
        after_help = "Example:\n  countersign license register --id d1234567 --holder ent_01J... \\\n      \
                            --model mythos-5 --country GB --provisos-met --commit"
    )]
    Register {
        /// The licence number, in lower case.
        #[arg(long)]
        id: LicenseId,
        /// The entity that holds it.
        #[arg(long)]
        holder: EntityId,
        /// A model family it covers; may be given several times.
        #[arg(long = "model", required = true)]
        models: Vec<ModelId>,
        /// A person it names; none: every person of the holder.
        #[arg(long = "subject")]
        subjects: Vec<SubjectId>,
        #[command(flatten)]
        period: Period,
        #[command(flatten)]
        conditions: Conditions,
        /// Its provisos are met. Without this flag it covers nothing.
        #[arg(long)]
        provisos_met: bool,
        /// A report that its holder owes, NAME=RFC3339; may be given several times. One that is overdue makes it cover nothing.
        #[arg(long = "report", value_name = "NAME=RFC3339")]
        reports: Vec<partners::Duty>,
        #[command(flatten)]
        commit: Commit,
    },
    /// Record that the holder of a licence filed a report that it owed. Two officers sign.
    #[command(
        after_help = "Example:\n  countersign license file-report --id d1234567 --report annual-2026 --document report.pdf --commit"
    )]
    FileReport(partners::Filed),
}

/// When something holds.
#[derive(Args)]
pub(super) struct Period {
    /// From when, RFC 3339; it holds a second later, as the clock margin asks [default: now]
    #[arg(long)]
    from: Option<Timestamp>,
    /// Until when, RFC 3339 [default: no end]
    #[arg(long)]
    until: Option<Timestamp>,
}

impl Period {
    fn interval(&self) -> Result<Interval, Failure> {
        let from = self.from.unwrap_or_else(|| SystemClock.now());
        match self.until {
            Some(until) if until <= from => {
                Err(Failure(format!("it would end at {until}, before it begins")))
            }
            until => Ok(Interval { from, until }),
        }
    }
}

/// Where and for what.
#[derive(Args)]
pub(super) struct Conditions {
    /// A country other than the United States where it may be used; may be given several times.
    #[arg(long = "country")]
    countries: Vec<Country>,
    /// A purpose it is limited to; may be given several times. Without one: any.
    #[arg(long = "purpose")]
    purposes: Vec<PurposeId>,
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Apply { name, kind, organisation, seat, check } => {
            let request = pb::ApplyEntityRequest {
                name,
                kind: kind.to_string(),
                organisation: organisation.to_string(),
                seat: seat.map(|seat| seat.to_string()).unwrap_or_default(),
                request_id: request_id(),
                validate_only: check.dry_run,
            };
            let remote = context.connection.remote().await?;
            let done = answer(remote.provisioning().apply_entity(request)).await?;
            context.recorded(check, ("entity", done.entity_id), done.position)
        }
        Verb::Show { entity } => {
            let remote = context.connection.remote().await?;
            let request = pb::GetEntityRequest { entity_id: entity.to_string() };
            let entity = answer(remote.provisioning().get_entity(request)).await?.entity.unwrap_or_default();
            context.output.print(&entity_value(&entity), &entity_text(&entity));
            Ok(Outcome::Done)
        }
        Verb::List => list(context).await,
        Verb::Activate { entity, commit } => sign(context, Command::ActivateEntity(entity), commit).await,
        Verb::Reject { entity, commit } => sign(context, Command::RejectEntity(entity), commit).await,
        Verb::Remove { entity, reason, commit, wait } => {
            carry_out(context, Command::RemoveEntity { entity, reason }, commit, wait).await
        }
        Verb::Suspend { entity, reason, check, wait } => {
            let command = Command::Suspend { target: SuspensionTarget::Entity(entity), reason };
            carry_out(context, command, check, wait).await
        }
        Verb::Unsuspend { entity, commit } => {
            sign(context, Command::Unsuspend(SuspensionTarget::Entity(entity)), commit).await
        }
    }
}

async fn sign(context: &Context<'_>, command: Command, commit: Commit) -> Result<Outcome, Failure> {
    carry_out(context, command, commit, Wait::default()).await
}

pub(super) async fn annex(verb: AnnexVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        AnnexVerb::Simulate { amendment } => simulate::run(context, &amendment.into()).await,
        AnnexVerb::Amend { amendment, commit } => sign(context, amendment.into(), commit).await,
    }
}

pub(super) async fn grant(verb: GrantVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        GrantVerb::Add { entity, model, period, forms, conditions, commit } => {
            let grant = Grant {
                id: GrantId::from_parts(SystemClock.now(), SystemEntropy.bytes16()),
                model,
                interval: period.interval()?,
                forms: sorted(forms),
                countries: sorted(conditions.countries),
                purposes: sorted(conditions.purposes),
            };
            sign(context, Command::GrantModel { entity, grant }, commit).await
        }
        GrantVerb::End { entity, grant, commit, wait } => {
            carry_out(context, Command::EndGrant { entity, grant }, commit, wait).await
        }
    }
}

pub(super) async fn license(verb: LicenseVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (id, holder, models, subjects, period, conditions, provisos_met, reports, commit) = match verb {
        LicenseVerb::FileReport(filed) => return partners::file_report(filed, context).await,
        LicenseVerb::Register {
            id,
            holder,
            models,
            subjects,
            period,
            conditions,
            provisos_met,
            reports,
            commit,
        } => (id, holder, models, subjects, period, conditions, provisos_met, reports, commit),
    };
    let reports: Vec<_> = reports.into_iter().map(|duty| duty.0).collect();
    let license = License {
        id,
        holder,
        subjects,
        models,
        countries: sorted(conditions.countries),
        purposes: sorted(conditions.purposes),
        interval: period.interval()?,
        provisos_met,
        reports: (!reports.is_empty()).then_some(reports),
    };
    sign(context, Command::RegisterLicense(license), commit).await
}

/// The record keeps these lists sorted and without repeats.
fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let entities = every_page(async |page_token| {
        let request = pb::ListEntitiesRequest { page_size: 0, page_token };
        let page = answer(remote.provisioning().list_entities(request)).await?;
        Ok((page.entities, page.next_page_token))
    })
    .await?;
    let rows: Vec<_> = entities
        .iter()
        .map(|entity| {
            let suspended = if entity.suspended { ", suspended" } else { "" };
            [
                entity.entity_id.clone(),
                format!("{}{suspended}", entity.status),
                entity.entity_class.clone(),
                entity.screening.clone(),
                entity.grants.iter().filter(|grant| grant.active).count().to_string(),
                words::printable(&entity.name),
            ]
        })
        .collect();
    let values: Vec<_> = entities.iter().map(entity_value).collect();
    let header = ["ENTITY", "STATUS", "CLASS", "SCREENING", "GRANTS", "NAME"];
    context.output.print(&json!(values), &table(header, &rows));
    Ok(Outcome::Done)
}

fn entity_value(entity: &pb::Entity) -> Value {
    let grants: Vec<_> = entity
        .grants
        .iter()
        .map(|grant| {
            json!({
                "grant_id": grant.grant_id, "model": grant.model, "from": grant.from, "until": grant.until,
                "countries": grant.countries, "purposes": grant.purposes, "active": grant.active,
            })
        })
        .collect();
    json!({
        "entity_id": entity.entity_id, "name": entity.name, "kind": entity.kind,
        "organisation": entity.organisation, "seat": entity.seat, "status": entity.status,
        "suspended": entity.suspended, "entity_class": entity.entity_class, "screening": entity.screening,
        "grants": grants, "revision": entity.revision,
    })
}

fn entity_text(entity: &pb::Entity) -> String {
    let seat = if entity.seat.is_empty() { "US" } else { &entity.seat };
    let mut text = format!(
        "{}  {}\n  kind       {}, organised {}, seat {seat}\n  status     {}{}\n  class      {} now\n  \
         screening  {} now\n  revision   {}\n",
        entity.entity_id,
        words::printable(&entity.name),
        entity.kind,
        entity.organisation,
        entity.status,
        if entity.suspended { ", SUSPENDED" } else { "" },
        entity.entity_class,
        entity.screening,
        entity.revision
    );
    for grant in &entity.grants {
        let until = if grant.until.is_empty() { "no end" } else { &grant.until };
        let state = if grant.active { "active" } else { "not active" };
        text.push_str(&format!(
            "  grant      {} {} from {} until {until} ({state})\n",
            grant.grant_id, grant.model, grant.from
        ));
    }
    text
}
