//! `countersign principal` and `gateway`: who may call the service. Two officers sign each registration; the certificate
//! is for the registered key and no other.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::identity::{requested_key, write_certificate};
use super::mandate::{Commit, Wait, carry_out};
use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, words};
use crate::domain::certificate::PrincipalKind;
use crate::domain::command::{Command, NewPrincipal};
use crate::domain::id::{EntityId, PrincipalId};
use crate::domain::principal::Role;
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
    /// Remove a principal: it may call nothing any more.
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
    /// Every gateway's session: what it applied, how far behind it is, and how much of its lease is left.
    #[command(after_help = "Example:\n  countersign gateway list --json")]
    List,
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
        Verb::Remove { name, commit } => {
            carry_out(context, Command::RemovePrincipal(name), commit, Wait::default()).await
        }
        Verb::Certificate(arguments) => certificate(&arguments, context).await,
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
        GatewayVerb::List => list(context).await,
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
    write_certificate(&arguments.out, &issued.certificate)?;
    let path = arguments.out.display().to_string();
    context.output.print(&json!({ "certificate": path }), &format!("certificate  {path}"));
    Ok(Outcome::Done)
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let sessions = answer(remote.enforcement().list_gateways(pb::ListGatewaysRequest {})).await?.sessions;
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            let word = |yes: bool, word: &str| if yes { word.to_owned() } else { "-".to_owned() };
            [
                words::printable(&session.gateway),
                word(session.connected, "yes"),
                session.applied_seq.to_string(),
                session.lag.to_string(),
                session.lease_left_ms.to_string(),
                word(session.weak, "weak"),
                word(!session.last_nack.is_empty(), &words::printable(&session.last_nack)),
            ]
        })
        .collect();
    let value: Vec<_> = sessions
        .iter()
        .map(|session| {
            json!({
                "gateway": session.gateway, "boot_id": session.boot_id, "connected": session.connected,
                "applied_seq": session.applied_seq, "lag": session.lag, "lease_left_ms": session.lease_left_ms,
                "weak": session.weak, "last_nack": session.last_nack,
            })
        })
        .collect();
    let header = ["GATEWAY", "CONNECTED", "APPLIED", "BEHIND", "LEASE MS", "WEAK", "LAST NACK"];
    context.output.print(&json!(value), &table(header, &rows));
    Ok(Outcome::Done)
}
