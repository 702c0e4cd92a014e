//! `countersign authority`: the list of authorities and every step of a rotation, with who knows of it and what still holds a
//! certificate from which.

use std::io::Write as _;
use std::iter;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::files::{self, Access};
use super::mandate::{Check, Commit, Wait, Waiting, approve, carry_out, check, print_done};
use super::output::table;
use super::remote::{Remote, answer, incoming, request_id};
use super::words::{self, printable};
use super::{Context, Failure, Outcome, hierarchy};
use crate::domain::authority::NewAuthority;
use crate::domain::certificate::AuthorityKind;
use crate::domain::command::Command;
use crate::domain::id::{AuthorityId, ProposalId};
use crate::domain::revocation::{RevocationReason, StopScope};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::x509::bundle::certificate_pem;
use crate::x509::{Authority, AuthorityRequest, root_row};

/// The most names that a row of the list shows.
const NAMED_MAX: usize = 3;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Every authority: where it stands, which gateways do not know it yet, and how many certificates of it are good.
    #[command(after_help = "Example:\n  countersign authority list --json")]
    List,
    /// One authority, with its certificate and whose certificates it issued are still good.
    #[command(after_help = "Examples:\n  countersign authority show aut_01J... --out next.pem\n  \
                      countersign authority show aut_01J... --chain --out chain.pem")]
    Show {
        /// The authority.
        authority: AuthorityId,
        /// Where its certificate goes, PEM.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// With what leads up from it: cross-certificates, and last the root that it stands beneath.
        #[arg(long, requires = "out")]
        chain: bool,
    },
    /// The list, again whenever it changes; with --json one object a line.
    #[command(
        after_help = "Examples:\n  countersign authority watch\n  countersign authority watch --json | jq -c .authorities[]"
    )]
    Watch,
    /// Have the server make the key of the next authority, and everybody trust it. Two officers sign.
    #[command(
        after_help = "Examples:\n  countersign authority prepare --kind ACCESS --life-days 1825 --out next.pem --commit\n  \
                      countersign authority prepare --kind ACCESS --beneath-root --out next.csr --commit\n  \
                      countersign authority prepare --kind ACCESS --beneath-root --certificate next.pem --commit"
    )]
    Prepare {
        /// ACCESS or SYSTEM.
        #[arg(long)]
        kind: AuthorityKind,
        /// How long it lives; 0: as long as the one that issues now.
        #[arg(long, value_name = "DAYS", default_value_t = 0)]
        life_days: u32,
        /// Have a root certify it: the server makes the key and gives the request, which goes to --out.
        #[arg(long, conflicts_with = "life_days")]
        beneath_root: bool,
        /// What the root certified, PEM; then two officers have everybody trust it.
        #[arg(long, value_name = "FILE", requires = "beneath_root")]
        certificate: Option<PathBuf>,
        /// Where its certificate, or its request, goes, PEM.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        commit: Commit,
    },
    /// Roots: trust one, take its newer revocation list, give out a cross-certificate.
    #[command(subcommand)]
    Root(hierarchy::Verb),
    /// Issue from a prepared authority; the one before retires. Refused until every gateway knows it. Two officers sign.
    #[command(after_help = "Example:\n  countersign authority activate aut_01J... --commit")]
    Activate {
        /// The authority.
        authority: AuthorityId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Issue nothing more from an authority that is known to be bad. What it issued stays good until it is replaced.
    #[command(after_help = "Example:\n  countersign authority taint aut_01J... --reason CA_COMPROMISE")]
    Taint {
        /// The authority.
        authority: AuthorityId,
        /// Why, for example CA_COMPROMISE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        check: Check,
        #[command(flatten)]
        wait: Wait,
    },
    /// Undo the last step: a prepared authority goes, an active one gives its place back. Two officers sign.
    #[command(after_help = "Example:\n  countersign authority rollback aut_01J... --commit")]
    Rollback {
        /// The authority.
        authority: AuthorityId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Trust an authority no more. Refused while certificates of it are good. Two officers sign.
    #[command(after_help = "Example:\n  countersign authority retire aut_01J... --commit")]
    Retire {
        /// The authority.
        authority: AuthorityId,
        #[command(flatten)]
        commit: Commit,
    },
    /// Have the server rotate by itself: the next authority is prepared at half of the life of the one that issues, and
    /// activated at one sixth. A standing approval of two officers, for a time and a number of rotations.
    #[command(
        after_help = "Example:\n  countersign authority automate --kind ACCESS --until 2027-12-01T00:00:00Z --rotations 4 --commit"
    )]
    Automate {
        /// ACCESS or SYSTEM.
        #[arg(long)]
        kind: AuthorityKind,
        /// Until when, RFC 3339; at most two years ahead.
        #[arg(long, value_name = "TIME")]
        until: Timestamp,
        /// How many authorities it may prepare.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
        rotations: u32,
        #[command(flatten)]
        commit: Commit,
    },
    /// Rotate by hand again: the server takes no more steps by itself. One officer signs.
    #[command(after_help = "Example:\n  countersign authority by-hand --kind ACCESS")]
    ByHand {
        /// ACCESS or SYSTEM.
        #[arg(long)]
        kind: AuthorityKind,
        #[command(flatten)]
        check: Check,
    },
    /// Revoke an authority with all that it issued: an access authority is stopped at once, and two officers make it final.
    #[command(
        after_help = "Example:\n  countersign authority revoke aut_01J... --reason CA_COMPROMISE --wait --commit"
    )]
    Revoke {
        /// The authority.
        authority: AuthorityId,
        /// Why, for example CA_COMPROMISE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        commit: Commit,
        #[command(flatten)]
        wait: Waiting,
    },
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::List => list(context).await,
        Verb::Show { authority, out, chain } => show(authority, (out, chain), context).await,
        Verb::Watch => watch(context).await,
        Verb::Prepare { kind, life_days, beneath_root, certificate, out, commit } => {
            let certificate = match certificate {
                Some(path) => files::read_der(&path, "CERTIFICATE")?.into(),
                None => Default::default(),
            };
            let request =
                pb::PrepareAuthorityRequest { kind: kind.to_string(), life_days, beneath_root, certificate };
            prepare((kind, request), out, commit, context).await
        }
        Verb::Root(verb) => hierarchy::run(verb, context).await,
        Verb::Activate { authority, commit } => {
            carry_out(context, Command::ActivateAuthority(authority), commit, Wait::default()).await
        }
        Verb::Taint { authority, reason, check, wait } => {
            carry_out(context, Command::TaintAuthority { authority, reason }, check, wait).await
        }
        Verb::Rollback { authority, commit } => {
            carry_out(context, Command::RollbackAuthority(authority), commit, Wait::default()).await
        }
        Verb::Retire { authority, commit } => {
            carry_out(context, Command::RetireAuthority(authority), commit, Wait::default()).await
        }
        Verb::Automate { kind, until, rotations, commit } => {
            let command = Command::PermitRotation { kind, until, rotations };
            carry_out(context, command, commit, Wait::default()).await
        }
        Verb::ByHand { kind, check } => {
            carry_out(context, Command::WithdrawRotation(kind), check, Wait::default()).await
        }
        Verb::Revoke { authority, reason, commit, wait } => {
            if commit.commit {
                stop(authority, reason, wait, context).await?;
            }
            carry_out(context, Command::RevokeAuthority { authority, reason }, commit, Wait::default()).await
        }
    }
}

/// One officer alone stops an access authority, at once; nobody alone shuts out who calls this service.
async fn stop(
    authority: AuthorityId,
    reason: RevocationReason,
    wait: Waiting,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let remote = context.connection.remote().await?;
    let kind = get(&remote, authority).await?.kind;
    let scope = StopScope::Issuer(authority);
    let now = answer(remote.revocation().list_restrictions(pb::ListRestrictionsRequest {})).await?;
    if kind == AuthorityKind::Access.as_str() && !now.stops.contains(&scope.to_string()) {
        carry_out(context, Command::Stop { scope, reason }, Commit { commit: true }, wait).await?;
    }
    Ok(())
}

async fn prepare(
    (kind, request): (AuthorityKind, pb::PrepareAuthorityRequest),
    out: Option<PathBuf>,
    commit: Commit,
    context: &Context<'_>,
) -> Result<Outcome, Failure> {
    if !commit.commit {
        let text = format!(
            "The server would make a key for the next {kind} authority, and two officers would have everybody trust it. \
             Nothing was made; add --commit to do it."
        );
        context.output.print(&json!({ "checked": true, "committed": false }), &text);
        return Ok(Outcome::Done);
    }
    let identity = context.connection.identity()?;
    let remote = context.connection.remote().await?;
    let made = answer(remote.authorities().prepare_authority(request)).await?;
    if made.mandate.is_empty() {
        return requested(&made, kind, out.as_deref(), context);
    }
    let mandate = check(&made.mandate, &identity.name()?.trust_domain)?;
    let Command::PrepareAuthority(new) = &mandate.command else {
        return Err(Failure("the server prepared another command; nothing was signed".to_owned()));
    };
    check_made(new, kind)?;
    context.output.note(&words::mandate(&mandate, &made.mandate)?);
    if let Some(out) = &out {
        files::write(out, certificate_pem(&new.certificate).as_bytes(), Access::Public)?;
    }
    let approvals = vec![approve(&identity, &made.mandate)?];
    let mandate = Some(pb::SignedMandate { mandate: made.mandate, approvals });
    let request = pb::SubmitMandateRequest { mandate, request_id: request_id(), validate_only: false };
    let done = answer(remote.mandates().submit_mandate(request)).await?;
    context.output.note(&format!("authority {}\n", new.id));
    let proposal = done.proposal_id.parse::<ProposalId>().ok();
    print_done(context.output, done.position, proposal, done.signatures_missing)
}

/// The request of a key that a root is to certify.
fn requested(
    made: &pb::PrepareAuthorityResponse,
    kind: AuthorityKind,
    out: Option<&Path>,
    context: &Context<'_>,
) -> Result<Outcome, Failure> {
    let request = AuthorityRequest::from_der(&made.certificate_request)?;
    let pem = files::request_pem(&made.certificate_request);
    if let Some(out) = out {
        files::write(out, pem.as_bytes(), Access::Public)?;
    }
    let text = format!(
        "authority {}\nkey sha-256 {}\n{}\nTake the request to the root, and then:\n  countersign authority prepare --kind {kind} \
         --beneath-root --certificate FILE --commit",
        request.id,
        request.key.digest(),
        out.map_or(pem.clone(), |out| format!("request   {}", out.display())),
    );
    let value = json!({ "authority_id": request.id.to_string(), "request": pem, "committed": false });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

/// What is signed is what the certificate says, by this machine's own reading.
fn check_made(new: &NewAuthority, kind: AuthorityKind) -> Result<(), Failure> {
    let read = Authority::from_der(&new.certificate)?;
    let is_same = (read.id(), read.kind(), read.not_after()) == (new.id, new.kind, new.not_after);
    match is_same && new.kind == kind && new.beneath == root_row::beneath(&read) {
        true => Ok(()),
        false => Err(Failure(
            "the certificate is not that of the authority that was asked for; nothing was signed".to_owned(),
        )),
    }
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let found = answer(remote.authorities().list_authorities(pb::ListAuthoritiesRequest {})).await?;
    let text = format!("{}\n{}", rows(&found.authorities), rotations(&found.rotations));
    context.output.print(&listed_all(&found.authorities, &found.rotations), text.trim_end());
    Ok(Outcome::Done)
}

async fn get(remote: &Remote, authority: AuthorityId) -> Result<pb::Authority, Failure> {
    let request = pb::GetAuthorityRequest { authority_id: authority.to_string() };
    let found = answer(remote.authorities().get_authority(request)).await?;
    Ok(found.authority.unwrap_or_default())
}

async fn show(
    authority: AuthorityId,
    (out, with_chain): (Option<PathBuf>, bool),
    context: &Context<'_>,
) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let request = pb::GetAuthorityRequest { authority_id: authority.to_string() };
    let found = answer(remote.authorities().get_authority(request)).await?;
    if let Some(out) = out {
        let above = if with_chain { found.chain.as_slice() } else { &[] };
        let pem: String =
            iter::once(&found.certificate).chain(above).map(|der| certificate_pem(der)).collect();
        files::write(&out, pem.as_bytes(), Access::Public)?;
    }
    let authority = found.authority.unwrap_or_default();
    let key = if authority.has_key { "at this server" } else { "NOT at this server" };
    let mut text = format!(
        "authority    {}\nkind         {}\nstate        {}\nuntil        {}\nsha-256      {}\nkey          {key}\n\
         predecessor  {}\nissued until {}\nknown by     {}\nwaiting for  {}\ncertificates {}\n",
        printable(&authority.authority_id),
        printable(&authority.kind),
        printable(&authority.state),
        printable(&authority.not_after),
        printable(&authority.sha256),
        or_dash(&authority.predecessor),
        or_dash(&authority.issued_until),
        or_dash(&authority.known_by.join(", ")),
        waiting(&authority, usize::MAX),
        authority.certificates,
    );
    for holder in &authority.holders {
        let who = if holder.entity_id.is_empty() { "principals and canaries" } else { &holder.entity_id };
        text.push_str(&format!("  {:<12} {}\n", holder.certificates, printable(who)));
    }
    context.output.print(&value(&authority), &text);
    Ok(Outcome::Done)
}

/// Prints the list and prints it again whenever it changed, until it is interrupted or nobody reads.
async fn watch(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    loop {
        // The server ends a watch after an hour; this one goes on.
        let request = pb::WatchAuthoritiesRequest {};
        let mut lists = incoming(remote.authorities().watch_authorities(request)).await?;
        while let Some(list) = lists.next().await? {
            let text = match context.output.is_json() {
                true => json!({ "authorities": listed_all(&list.authorities, &list.rotations) }).to_string(),
                false => format!("{}\n{}", rows(&list.authorities), rotations(&list.rotations)),
            };
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                return Ok(Outcome::Done);
            }
        }
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// Who does not know it yet, and for how long at most it can be without.
fn waiting(authority: &pb::Authority, named_max: usize) -> String {
    if authority.known_everywhere {
        return "-".to_owned();
    }
    let unaware = &authority.unaware;
    let named = unaware.iter().take(named_max);
    let names = named.map(|row| format!("{} ({} ms)", printable(&row.participant), row.left_ms));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if unaware.len() > named_max {
        text.push_str(&format!(" and {} more", unaware.len() - named_max));
    }
    text
}

fn rows(authorities: &[pb::Authority]) -> String {
    let row = |authority: &pb::Authority| {
        [
            printable(&authority.authority_id),
            printable(&authority.kind),
            printable(&authority.state),
            printable(&authority.not_after),
            or_dash(&authority.root_list_until),
            authority.certificates.to_string(),
            authority.known_by.len().to_string(),
            waiting(authority, NAMED_MAX),
        ]
    };
    let header =
        ["AUTHORITY", "KIND", "STATE", "UNTIL", "ROOT LIST UNTIL", "CERTIFICATES", "KNOWN BY", "WAITING FOR"];
    table(header, &authorities.iter().map(row).collect::<Vec<_>>())
}

/// What the server does by itself, and when.
fn rotations(rotations: &[pb::StandingRotation]) -> String {
    let row = |row: &pb::StandingRotation| {
        let by = match (row.approved_seq, row.failed_seq) {
            (0, _) => "hand".to_owned(),
            _ if row.lapsed_seq != 0 => format!(
                "hand: {}, who permitted it, ceased to act at record {}",
                printable(&row.lost_signer),
                row.lapsed_seq
            ),
            (_, 0) => format!("itself until {}, {} left", printable(&row.until), row.rotations_left),
            (_, failed) => format!("hand: a step failed at record {failed}"),
        };
        let next = |at: &str| or_dash(at);
        [printable(&row.kind), by, next(&row.prepare_at), next(&row.activate_at)]
    };
    table(
        ["KIND", "ROTATES BY", "NEXT PREPARED", "ACTIVATED"],
        &rotations.iter().map(row).collect::<Vec<_>>(),
    )
}

fn listed_all(authorities: &[pb::Authority], rotations: &[pb::StandingRotation]) -> Value {
    Value::from_iter(authorities.iter().map(|authority| listed(authority, rotations)))
}

/// An authority; the one that issues with how and when its successor comes.
fn listed(authority: &pb::Authority, rotations: &[pb::StandingRotation]) -> Value {
    let mut shown = value(authority);
    let of_kind = rotations.iter().find(|row| row.kind == authority.kind && authority.state == "ACTIVE");
    if let (Some(row), Some(shown)) = (of_kind, shown.as_object_mut()) {
        let rotation = json!({
            "approved_seq": row.approved_seq, "until": row.until, "rotations_left": row.rotations_left,
            "failed_seq": row.failed_seq, "lapsed_seq": row.lapsed_seq, "lost_signer": row.lost_signer,
            "prepare_at": row.prepare_at, "activate_at": row.activate_at,
        });
        shown.insert("rotation".to_owned(), rotation);
    }
    shown
}

fn value(authority: &pb::Authority) -> Value {
    let unaware = authority.unaware.iter();
    let unaware = unaware.map(|row| json!({ "participant": row.participant, "left_ms": row.left_ms }));
    let holders = authority.holders.iter();
    let holders =
        holders.map(|holder| json!({ "entity_id": holder.entity_id, "certificates": holder.certificates }));
    json!({
        "authority_id": authority.authority_id, "kind": authority.kind, "state": authority.state,
        "not_after": authority.not_after, "sha256": authority.sha256, "predecessor": authority.predecessor,
        "issued_until": authority.issued_until, "has_key": authority.has_key, "known_by": authority.known_by,
        "lease_expired": authority.lease_expired, "unaware": Value::from_iter(unaware),
        "known_everywhere": authority.known_everywhere, "certificates": authority.certificates,
        "holders": Value::from_iter(holders), "root_id": authority.root_id,
        "root_list_until": authority.root_list_until,
    })
}
