//! `countersign principal` and `gateway`: who may call the service. Two officers sign each registration; the certificate
//! is for the registered key and no other.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::identity::{requested_key, write_chain};
use super::mandate::{Check, Commit, Wait, carry_out};
use super::remote::answer;
use super::{Context, Failure, Outcome, gateway, renewal};
use crate::domain::certificate::PrincipalKind;
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::id::{EntityId, PrincipalId};
use crate::domain::officer_command::OfficerCommand;
use crate::domain::principal::Role;
use crate::domain::revocation::RevocationReason;
use crate::pb;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Register an officer or a partner's administrator.
    #[command(
        after_help = "Examples:\n  countersign principal register --name carol --kind officer --role APPROVER \\\n      \
                            --csr carol.csr --commit\n  \
                            countersign principal register --name acme-portal --kind partner --role PARTNER_ADMIN \\\n      \
                            --entity ent_01J... --csr acme.csr --commit"
    )]
    Register {
        /// Its name.
        #[arg(long)]
        name: PrincipalId,
        /// officer, partner or gateway.
        #[arg(long)]
        kind: PrincipalKind,
        /// A role; may be given several times. A wrong word lists all.
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
        /// The entity that a partner acts for.
        #[arg(long)]
        entity: Option<EntityId>,
        /// Certificate request of its key, PEM or DER.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
    /// Suspend a principal at once: it may call and sign nothing, and its open connections end. Two officers release it.
    #[command(after_help = "Examples:\n  countersign principal suspend carol --reason KEY_COMPROMISE\n  \
                            countersign principal suspend gw-1 --reason MISUSE --wait")]
    Suspend {
        /// Its name.
        name: PrincipalId,
        /// Why, for example KEY_COMPROMISE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// Release a suspended principal. Two officers sign.
    #[command(after_help = "Example:\n  countersign principal release carol --commit")]
    Release {
        /// Its name.
        name: PrincipalId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Remove a principal: it may call nothing any more. For ever; two officers sign, and one alone suspends.
    #[command(after_help = "Example:\n  countersign principal remove carol --commit")]
    Remove {
        /// Its name.
        name: PrincipalId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Fetch the certificate of a registered principal.
    #[command(
        after_help = "Example:\n  countersign principal certificate --name carol --csr carol.csr --out carol/certificate.pem"
    )]
    Certificate(CertificateArguments),
    /// Renew the caller's own certificate for its registered key. Officers' commands do that by themselves when two thirds of its
    /// life are over; one that has ended may be renewed for 90 days (a partner's may not).
    #[command(after_help = "Examples:\n  countersign principal renew --identity alice\n  \
                            countersign principal renew --identity gw-1")]
    Renew,
}

#[derive(Subcommand)]
pub(super) enum GatewayVerb {
    /// Register a gateway.
    #[command(after_help = "Example:\n  countersign gateway register --name gw-1 --csr gw-1.csr --commit")]
    Register {
        /// Its name.
        #[arg(long)]
        name: PrincipalId,
        /// Certificate request of its key, PEM or DER.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Its machine can be paused without its clock noticing: its promises are then weak.
        #[arg(long)]
        pausable: bool,
        #[command(flatten)]
        commit: Commit,
    },
    /// Fetch the certificate of a registered gateway.
    #[command(
        after_help = "Example:\n  countersign gateway certificate --name gw-1 --csr gw-1.csr --out gw-1/certificate.pem"
    )]
    Certificate(CertificateArguments),
    /// Every gateway: its sessions, what they applied, how far behind they are, and how much of their lease is left.
    #[command(after_help = "Example:\n  countersign gateway list --json")]
    List,
    /// One gateway: its registration, the end of its certificate, and its sessions.
    #[command(after_help = "Example:\n  countersign gateway show gw-1")]
    Show {
        /// Its name.
        name: PrincipalId,
    },
    /// The list, drawn again whenever it changes, at most once a second; with --json one object a line.
    #[command(
        after_help = "Examples:\n  countersign gateway watch\n  countersign gateway watch --json | jq -c .sessions[]"
    )]
    Watch,
}

#[derive(Args)]
pub(super) struct CertificateArguments {
    /// The registered name.
    #[arg(long)]
    name: PrincipalId,
    /// Certificate request of the registered key, PEM or DER.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// Where the certificate goes, PEM.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Register { name, kind, roles, entity, csr, commit } => {
            let new = NewPrincipal { id: name, kind, roles, entity, key: key_of(&csr)?, is_pausable: false };
            carry_out(context, Command::RegisterPrincipal(new), commit, Wait::default()).await
        }
        Verb::Suspend { name, reason, check, wait } => {
            let command = OfficerCommand::Suspend { principal: name, reason };
            carry_out(context, Command::Officers(command), check, wait).await
        }
        Verb::Release { name, commit } => {
            let command = Command::Officers(OfficerCommand::Release(name));
            carry_out(context, command, commit, Wait::default()).await
        }
        Verb::Remove { name, commit } => {
            carry_out(context, Command::RemovePrincipal(name), commit, Wait::default()).await
        }
        Verb::Certificate(arguments) => certificate(&arguments, context).await,
        Verb::Renew => renewal::run(context).await,
    }
}

pub(super) async fn gateway(verb: GatewayVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        GatewayVerb::Register { name, csr, pausable, commit } => {
            let new = NewPrincipal {
                id: name,
                kind: PrincipalKind::Gateway,
                roles: vec![Role::Gateway],
                entity: None,
                key: key_of(&csr)?,
                is_pausable: pausable,
            };
            carry_out(context, Command::RegisterPrincipal(new), commit, Wait::default()).await
        }
        GatewayVerb::Certificate(arguments) => certificate(&arguments, context).await,
        GatewayVerb::List => gateway::list(context).await,
        GatewayVerb::Show { name } => gateway::show(&name, context).await,
        GatewayVerb::Watch => gateway::watch(context).await,
    }
}

fn key_of(csr: &Path) -> Result<Vec<u8>, Failure> {
    let (requested, _) = requested_key(csr)?;
    Ok(requested.key().spki().to_vec())
}

async fn certificate(arguments: &CertificateArguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (_, csr) = requested_key(&arguments.csr)?;
    let remote = context.connection.remote().await?;
    let request =
        pb::IssuePrincipalCertificateRequest { principal: arguments.name.to_string(), csr: csr.into() };
    let issued = answer(remote.attestation().issue_principal_certificate(request)).await?;
    write_chain(&arguments.out, &issued.certificate, &issued.chain)?;
    let path = arguments.out.display().to_string();
    context.output.print(&json!({ "certificate": path }), &format!("certificate  {path}"));
    Ok(Outcome::Done)
}
