//! `countersign cert`: read and verify certificates without a server; revoke, hold and release them with one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::mandate::{Check, Commit, Wait, carry_out};
use super::output::{every_page, table};
use super::remote::answer;
use super::restrict::{How, RevokeVerb, ordinal, revoke};
use super::{Context, Failure, Outcome, Output};
use super::{files, lint};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::command::Command;
use crate::domain::id::{EntityId, Ordinal, SubjectId};
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};
use crate::pb::{self, list_certificates_request::By};
use crate::x509::explain::explain;
use crate::x509::{Arc, Profile, TrustBundle, TrustDomain, chain, check_validity};

#[derive(Subcommand)]
pub(super) enum Verb {
    #[command(flatten)]
    Local(LocalVerb),
    #[command(flatten)]
    Remote(RemoteVerb),
}

#[derive(Subcommand)]
pub(super) enum LocalVerb {
    /// Explain any certificate line by line. Proves nothing.
    #[command(after_help = "Example:\n  countersign cert show certificate.pem --trust-domain example.org")]
    Show {
        /// Certificate, PEM or DER.
        file: PathBuf,
        #[command(flatten)]
        profile: ProfileArguments,
    },
    /// Verify signature and dates against a bundle. Says nothing of revocation: ask the server for that.
    #[command(
        after_help = "Example:\n  countersign cert verify certificate.pem --bundle access.pem \\\n      \
                            --trust-domain example.org\n\nExit code 2: the certificate is not good."
    )]
    Verify {
        /// Certificate, PEM or DER.
        file: PathBuf,
        /// Trust bundle, PEM.
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
        #[command(flatten)]
        profile: ProfileArguments,
        /// Judge the dates at this instant, RFC 3339 [default: now]
        #[arg(long, value_name = "RFC3339")]
        at: Option<Timestamp>,
    },
    Lint(lint::Arguments),
}

#[derive(Subcommand)]
pub(super) enum RemoteVerb {
    /// List the certificates of an entity or a subject, or find one.
    #[command(after_help = "Examples:\n  countersign cert list --entity ent_01J9ZQ4R8W3T5V7X9Y1A2B3C4D\n  \
                            countersign cert list --ordinal 40812")]
    List(Which),
    /// Print the certificates of the access authorities, to verify others against.
    #[command(after_help = "Example:\n  countersign cert bundle > access.pem")]
    Bundle,
    /// Revoke one certificate for good; the same as `revoke certificate`.
    #[command(
        after_help = "Example:\n  countersign cert revoke 40812 --reason KEY_COMPROMISE --wait --commit"
    )]
    Revoke {
        /// Its ordinal, as `cert show` prints it.
        #[arg(value_parser = ordinal)]
        ordinal: Ordinal,
        #[command(flatten)]
        how: How,
    },
    /// Put a certificate on hold, at once; reversible.
    #[command(after_help = "Example:\n  countersign cert hold 40812 --reason MISUSE --wait")]
    Hold {
        /// Its ordinal, as `cert show` prints it.
        #[arg(value_parser = ordinal)]
        ordinal: Ordinal,
        /// Why, for example MISUSE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// Release a hold. Two officers sign.
    #[command(after_help = "Example:\n  countersign cert release 40812 --commit")]
    Release {
        /// Its ordinal.
        #[arg(value_parser = ordinal)]
        ordinal: Ordinal,
        #[command(flatten)]
        commit: Commit,
    },
}

/// Which certificates.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// All of this entity.
    #[arg(long)]
    entity: Option<EntityId>,
    /// All of this person or workload.
    #[arg(long)]
    subject: Option<SubjectId>,
    /// The one with this ordinal.
    #[arg(long, value_parser = ordinal)]
    ordinal: Option<Ordinal>,
    /// The one with this serial number, 32 hexadecimal digits.
    #[arg(long)]
    serial: Option<String>,
}

/// What the operator chose at `init`.
#[derive(Args)]
pub(super) struct ProfileArguments {
    /// The SPIFFE trust domain; without it, the one that the certificate claims.
    #[arg(long)]
    trust_domain: Option<TrustDomain>,
    /// Private enterprise arc of the attributes.
    #[arg(long, default_value = "1.3.6.1.4.1.32473")]
    arc: Arc,
    /// Its profile of algorithms: standard or cnsa.
    #[arg(long = "profile", value_name = "PROFILE", default_value = "standard")]
    algorithms: AlgorithmProfile,
}

impl ProfileArguments {
    /// The profile when the certificate claims no trust domain.
    pub(super) fn unclaimed(&self) -> Result<Profile, Failure> {
        let trust_domain = self.trust_domain.clone().map_or_else(|| "unknown".parse(), Ok)?;
        Ok(Profile::new(trust_domain, self.arc.clone(), None).with_algorithms(self.algorithms))
    }

    pub(super) fn profile(&self, certificate: &[u8]) -> Result<Profile, Failure> {
        let trust_domain = match &self.trust_domain {
            Some(trust_domain) => trust_domain.clone(),
            None => claimed(certificate, &self.arc)?,
        };
        Ok(Profile::new(trust_domain, self.arc.clone(), None).with_algorithms(self.algorithms))
    }
}

/// The trust domain of the SPIFFE ID in a certificate; any other word when it has none.
fn claimed(certificate: &[u8], arc: &Arc) -> Result<TrustDomain, Failure> {
    let none: TrustDomain = "unknown".parse()?;
    let explained = explain(certificate, &Profile::new(none.clone(), arc.clone(), None))?;
    let names = explained.lines.iter().filter_map(|line| line.value.strip_prefix("spiffe://"));
    let mut names = names.filter_map(|name| name.split('/').next()?.parse().ok());
    Ok(names.next().unwrap_or(none))
}

pub(super) fn local(verb: &LocalVerb, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        LocalVerb::Show { file, profile } => {
            let bytes = files::read(file)?;
            let named = |fault| Failure(format!("{}: {fault}", file.display()));
            let profile = profile.profile(&bytes).map_err(|Failure(why)| named(why))?;
            let explained = explain(&bytes, &profile).map_err(|fault| named(fault.to_string()))?;
            let lines = explained
                .lines
                .iter()
                .map(|line| json!({ "label": line.label, "value": line.value, "meaning": line.meaning }));
            output.print(&json!(lines.collect::<Vec<_>>()), &explained.to_text());
            Ok(Outcome::Done)
        }
        LocalVerb::Verify { file, bundle, profile, at } => {
            verify(file, bundle, profile, at.unwrap_or_else(|| SystemClock.now()), output)
        }
        LocalVerb::Lint(arguments) => lint::run(arguments, output),
    }
}

fn verify(
    file: &Path,
    bundle: &Path,
    profile: &ProfileArguments,
    at: Timestamp,
    output: &Output,
) -> Result<Outcome, Failure> {
    let der = files::read_der(file, "CERTIFICATE")?;
    let trusted = TrustBundle::from_pem(&files::read_text(bundle)?)
        .map_err(|fault| Failure(format!("{}: {fault}", bundle.display())))?;
    let profile = profile.profile(&der)?;
    let checked = chain::read(&der, &profile, &trusted)
        .and_then(|certificate| check_validity(&certificate, at).map(|()| certificate));
    match checked {
        Ok(certificate) => {
            let text = format!(
                "good: signed by {}, ordinal {}, until {}\n\
                 Revocation was not checked: only the server and gateways know it.",
                certificate.issuer, certificate.ordinal, certificate.not_after
            );
            let value = json!({
                "valid": true, "issuer": certificate.issuer.to_string(), "ordinal": certificate.ordinal.0,
                "serial": certificate.serial.to_string(), "not_after": certificate.not_after.to_string(),
            });
            output.print(&value, &text);
            Ok(Outcome::Done)
        }
        Err(fault) => {
            let value = json!({ "valid": false, "code": fault.code(), "explanation": fault.to_string() });
            output.print(&value, &format!("NOT good: {} ({fault})", fault.code()));
            Ok(Outcome::Denied)
        }
    }
}

pub(super) async fn remote(verb: RemoteVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        RemoteVerb::List(which) => list(which, context).await,
        RemoteVerb::Bundle => {
            let remote = context.connection.remote().await?;
            let bundle = answer(remote.attestation().get_trust_bundle(pb::GetTrustBundleRequest {})).await?;
            let value = json!({ "access_pem": bundle.access_pem, "system_pem": bundle.system_pem });
            context.output.print(&value, bundle.access_pem.trim_end());
            Ok(Outcome::Done)
        }
        RemoteVerb::Revoke { ordinal, how } => {
            revoke(RevokeVerb::Certificate { ordinal, how }, context).await
        }
        RemoteVerb::Hold { ordinal, reason, check, wait } => {
            carry_out(context, Command::Hold { ordinal, reason }, check, wait).await
        }
        RemoteVerb::Release { ordinal, commit } => {
            carry_out(context, Command::ReleaseHold(ordinal), commit, Wait::default()).await
        }
    }
}

async fn list(which: Which, context: &Context<'_>) -> Result<Outcome, Failure> {
    let by = match which {
        Which { entity: Some(id), .. } => By::EntityId(id.to_string()),
        Which { subject: Some(id), .. } => By::SubjectId(id.to_string()),
        Which { ordinal: Some(ordinal), .. } => By::Ordinal(ordinal.0),
        Which { serial, .. } => By::Serial(serial.unwrap_or_default()),
    };
    let remote = context.connection.remote().await?;
    let certificates = every_page(async |page_token| {
        let request = pb::ListCertificatesRequest { by: Some(by.clone()), page_size: 0, page_token };
        let page = answer(remote.attestation().list_certificates(request)).await?;
        Ok((page.certificates, page.next_page_token))
    })
    .await?;
    let rows: Vec<_> = certificates
        .iter()
        .map(|row| {
            let lineage = format!("{}/{}", row.lineage_id, row.generation);
            let (ordinal, until) = (row.ordinal.to_string(), row.not_after.clone());
            let state = if row.issued_seq == 0 { "never signed" } else { "issued" };
            [ordinal, row.serial.clone(), row.subject_id.clone(), lineage, until, state.to_owned()]
        })
        .collect();
    let values = certificates.iter().map(|row| {
        json!({
            "authority": row.authority, "ordinal": row.ordinal, "serial": row.serial, "entity": row.entity_id,
            "subject": row.subject_id, "lineage": row.lineage_id, "generation": row.generation,
            "not_before": row.not_before, "not_after": row.not_after, "issued": row.issued_seq != 0,
        })
    });
    let header = ["ORDINAL", "SERIAL", "SUBJECT", "LINEAGE", "NOT AFTER", "STATE"];
    context.output.print(&json!(values.collect::<Vec<_>>()), &table(header, &rows));
    Ok(Outcome::Done)
}
