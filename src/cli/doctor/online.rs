//! A service as one of its officers sees it.

use super::super::Failure;
use super::super::identity::CERTIFICATE;
use super::super::output::every_page;
use super::super::remote::{Connection, Remote, answer};
use super::super::renewal;
use super::DAY_MS;
use super::finding::{Findings, Remedy, remedy};
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};
use crate::pb;

/// Records that a healthy gateway may be behind: what is on its way.
const LAG_MAX: u64 = 1_000;
/// An authority is rotated by then.
const AUTHORITY_LEFT_MS: i64 = 30 * DAY_MS;
/// The newest screening list is replaced by then: a day before decisions that rest on it are denied.
const LIST_LEFT_MS: i64 = DAY_MS;
/// A stop is practised every week.
const DRILL_AGE_MS: i64 = 8 * DAY_MS;
/// The most names in one line.
const NAMES_MAX: usize = 10;

/// Everything that an officer may ask.
pub(super) async fn check(connection: &Connection, findings: &mut Findings) {
    if let Err(failure) = connection.identity().and_then(|identity| identity.credential()) {
        let how = remedy(
            "an officer without a certificate can do nothing",
            "countersign principal certificate --help",
        );
        return findings.fail("identity", failure.0, how);
    }
    let remote = match connection.remote().await {
        Ok(remote) => remote,
        Err(failure) => {
            identity(connection, findings);
            let how = remedy(
                "nobody can be answered, or by somebody else",
                "what the line above says; then journalctl -u countersign",
            );
            return findings.fail("server", failure.0, how);
        }
    };
    identity(connection, findings);
    head(connection, findings);
    let checks = [
        ("health", health(&remote, findings).await),
        ("restore", restore(&remote, findings).await),
        ("gateways", gateways(&remote, findings).await),
        ("authority", authorities(&remote, findings).await),
        ("proposals", proposals(&remote, findings).await),
        ("stops", stops(&remote, findings).await),
        ("drill", drills(&remote, findings).await),
        ("screening", screenings(&remote, findings).await),
        ("list", list(&remote, findings).await),
    ];
    for (name, answered) in checks {
        if let Err(failure) = answered {
            let how =
                remedy("it is not known how it is", "look at the server's log: journalctl -u countersign");
            findings.fail(name, failure.0, how);
        }
    }
}

/// By now a certificate whose time had come was renewed.
fn identity(connection: &Connection, findings: &mut Findings) {
    let read = connection
        .identity()
        .and_then(|identity| Ok((identity.credential()?, identity.path(CERTIFICATE).display().to_string())));
    let (credential, path) = match read {
        Ok(read) => read,
        Err(failure) => {
            return findings.fail("identity", failure.0, remedy("it was there a moment ago", "doctor again"));
        }
    };
    let now = SystemClock.now();
    let how = remedy(
        "without it you can neither stop nor approve, and it was not renewed by itself",
        "countersign principal renew says why",
    );
    if now > credential.not_after {
        findings.fail("identity", format!("{path} ended at {}", credential.not_after), how);
    } else if now >= renewal::due(&credential) {
        findings.warn("identity", format!("{path} ends at {}", credential.not_after), how);
    } else {
        findings.ok("identity", format!("{path} ends at {}", credential.not_after));
    }
}

/// That it follows the remembered one was seen when the server was reached.
fn head(connection: &Connection, findings: &mut Findings) {
    let remembers = connection.identity().is_ok_and(|identity| identity.path("log-key.pem").exists());
    match remembers {
        true => findings.ok("head", "it is signed with the log key and follows the one that was seen last"),
        false => findings.warn(
            "head",
            "nothing is compared: the identity has no log-key.pem",
            remedy(
                "a server that lost its record is not noticed",
                "copy the operator's trust/log.pem into the identity as log-key.pem",
            ),
        ),
    }
}

async fn health(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    match remote.is_serving().await? {
        true => findings.ok("health", "it serves"),
        false => findings.fail(
            "health",
            "it does not serve: it permits nothing",
            remedy(
                "every gateway denies when its lease has ended",
                "countersign doctor --config FILE on its machine says why: disk, clock, restore",
            ),
        ),
    }
    Ok(())
}

async fn restore(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let restore = answer(remote.audit().get_restore(pb::GetRestoreRequest {})).await?.restore;
    match restore {
        Some(restore) if restore.acknowledged_seq == 0 => findings.fail(
            "restore",
            format!("the backup of {} was restored and waits for officers", restore.time),
            remedy(
                "nothing is permitted until two officers have seen what may be lost",
                "countersign restore show; countersign restore acknowledge --commit",
            ),
        ),
        Some(_) => findings.ok("restore", "the last restore is acknowledged"),
        None => findings.ok("restore", "the record was never restored"),
    }
    Ok(())
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

async fn gateways(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let sessions = every_page(async |page_token| {
        let request = pb::ListGatewaysRequest { page_token, ..Default::default() };
        let page = answer(remote.enforcement().list_gateways(request)).await?;
        Ok((page.sessions, page.next_page_token))
    })
    .await?;
    fleet(&sessions, findings);
    Ok(())
}

/// Who is not as every gateway should be.
pub(super) fn fleet(sessions: &[pb::GatewaySession], findings: &mut Findings) {
    let connected = sessions.iter().filter(|row| row.connected).count();
    let mut is_well = true;
    let mut tell = |what: &str, is: &dyn Fn(&pb::GatewaySession) -> bool, how: Remedy| {
        let found: Vec<_> = sessions.iter().filter(|row| is(row)).map(|row| row.gateway.as_str()).collect();
        if !found.is_empty() {
            is_well = false;
            findings.warn("gateways", format!("{} {what}: {}", found.len(), named(found.into_iter())), how);
        }
    };
    let show = "countersign gateway show NAME";
    tell(
        "not connected",
        &|row| !row.connected,
        remedy("they deny everything once their lease has ended", show),
    );
    tell("behind", &|row| row.connected && row.lag > LAG_MAX, remedy("a restriction waits for them", show));
    tell(
        "weak",
        &|row| row.weak,
        remedy(
            "a restriction is PARTIAL because of them",
            "countersign gateway show NAME says why; docs/gateways.md what a strong one does",
        ),
    );
    if is_well {
        findings.ok("gateways", format!("{connected} are connected, none is behind or weak"));
    }
}

async fn authorities(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let request = pb::ListAuthoritiesRequest::default();
    let authorities = answer(remote.authorities().list_authorities(request)).await?.authorities;
    lives(&authorities, SystemClock.now(), findings)
}

/// Which authorities end soon, or should have been revoked.
pub(super) fn lives(
    authorities: &[pb::Authority],
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), Failure> {
    for authority in
        authorities.iter().filter(|authority| authority.state == "ACTIVE" || authority.state == "TAINTED")
    {
        let until: Timestamp = authority.not_after.parse()?;
        let what =
            format!("{} {} {} ends at {until}", authority.kind, authority.authority_id, authority.state);
        let left_ms = until.millis() - now.millis();
        let rotate = format!("countersign authority prepare --kind {} --commit", authority.kind);
        if authority.state == "TAINTED" {
            let how = format!(
                "countersign authority revoke {} --reason CA_COMPROMISE --commit",
                authority.authority_id
            );
            findings.warn("authority", what, remedy("what it issued is still trusted", how));
        } else if left_ms <= 0 {
            findings.fail("authority", what, remedy("nothing that it issued is valid", rotate));
        } else if left_ms < AUTHORITY_LEFT_MS {
            findings.warn("authority", what, remedy("no certificate outlives its authority", rotate));
        } else {
            findings.ok("authority", what);
        }
    }
    Ok(())
}

async fn proposals(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let proposals = every_page(async |page_token| {
        let request = pb::ListProposalsRequest { page_size: 0, page_token };
        let page = answer(remote.mandates().list_proposals(request)).await?;
        Ok((page.proposals, page.next_page_token))
    })
    .await?;
    match proposals.iter().map(|proposal| proposal.made_at.as_str()).min() {
        None => findings.ok("proposals", "none waits for a signature"),
        Some(oldest) => findings.warn(
            "proposals",
            format!("{} wait for a signature, the oldest since {oldest}", proposals.len()),
            remedy(
                "they lapse after seven days",
                "countersign approvals list; countersign approvals approve ID, or reject ID --reason WHY --commit",
            ),
        ),
    }
    Ok(())
}

async fn stops(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let now = answer(remote.revocation().list_restrictions(pb::ListRestrictionsRequest {})).await?;
    let engaged: Vec<_> = now.stops.iter().chain(&now.suspensions).map(String::as_str).collect();
    match engaged.is_empty() {
        true => findings.ok("stops", "nothing is stopped or suspended"),
        false => findings.warn(
            "stops",
            format!("{} stops and suspensions: {}", engaged.len(), named(engaged.iter().copied())),
            remedy(
                "whom they reach is denied until two officers release them",
                "countersign stop list; countersign stop release --help",
            ),
        ),
    }
    Ok(())
}

async fn drills(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let drills = answer(remote.revocation().list_drills(pb::ListDrillsRequest {})).await?.drills;
    practised(&drills, SystemClock.now(), findings)
}

/// Was a stop practised lately, and did it reach everybody?
pub(super) fn practised(
    drills: &[pb::DrillRecord],
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let how = |why| remedy(why, "countersign stop drill --all --wait");
    let Some(last) = drills.iter().find(|drill| drill.report_seq > 0) else {
        findings.warn(
            "drill",
            "an emergency stop was never practised",
            how("whether a stop reaches every gateway is not known"),
        );
        return Ok(());
    };
    let at: Timestamp = last.time.parse()?;
    let what = format!("the last one, of {at}, took {} ms", last.took_ms);
    if now.millis() - at.millis() > DRILL_AGE_MS {
        findings.warn("drill", what, how("the fleet may have changed since"));
    } else if last.weak + last.pending + last.lease_expired > 0 {
        let what = format!(
            "{what}; {} weak, {} pending, {} closed by their lease only",
            last.weak, last.pending, last.lease_expired
        );
        findings.warn("drill", what, how("a stop would not have reached them in time"));
    } else {
        findings.ok("drill", what);
    }
    Ok(())
}

async fn screenings(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let entities = every_page(async |page_token| {
        let request = pb::ListEntitiesRequest { page_token, ..Default::default() };
        let page = answer(remote.provisioning().list_entities(request)).await?;
        Ok((page.entities, page.next_page_token))
    })
    .await?;
    screened(&entities, findings);
    Ok(())
}

async fn list(remote: &Remote, findings: &mut Findings) -> Result<(), Failure> {
    let standing = answer(remote.screening().get_screening(pb::GetScreeningRequest {})).await?;
    listed(&standing, SystemClock.now(), findings)
}

/// Is the screening list there and new, and did somebody look at what was found?
pub(super) fn listed(
    standing: &pb::GetScreeningResponse,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let import = |why| remedy(why, "countersign screening import --help");
    if standing.list_version.is_empty() {
        let what = "no screening list was imported";
        findings.warn("list", what, import("entities are screened by hand only"));
        return Ok(());
    }
    let until: Timestamp = standing.fresh_until.parse()?;
    let what = format!("{} is fresh until {until}", standing.list_version);
    let left_ms = until.millis() - now.millis();
    if standing.file_missing {
        let what = format!("the file of {} is not at the server", standing.list_version);
        findings.fail("list", what, import("whoever applies is compared with nothing; upload it again"));
    } else if left_ms <= 0 {
        findings.fail("list", what, import("everything that rests on it is denied with SCREENING_STALE"));
    } else if left_ms < LIST_LEFT_MS {
        findings.warn("list", what, import("then everything that rests on it is denied"));
    } else if standing.open_matches > 0 {
        let what = format!("{what}; {} matches wait to be resolved", standing.open_matches);
        let how = remedy("until then these entities are denied", "countersign screening list");
        findings.warn("list", what, how);
    } else {
        findings.ok("list", what);
    }
    Ok(())
}

/// Which partners nobody can act for, because they are not screened.
pub(super) fn screened(entities: &[pb::Entity], findings: &mut Findings) {
    let is_due = |entity: &&pb::Entity| {
        entity.status == "ACTIVE" && matches!(entity.screening.as_str(), "PENDING" | "STALE")
    };
    let due: Vec<_> = entities.iter().filter(is_due).map(|entity| entity.entity_id.as_str()).collect();
    match due.is_empty() {
        true => findings.ok("screening", "every active partner is screened against a list that is fresh"),
        false => findings.warn(
            "screening",
            format!(
                "{} active partners are not screened, or against an old list: {}",
                due.len(),
                named(due.iter().copied())
            ),
            remedy("their people are denied until they are", "countersign screening record ENTITY --help"),
        ),
    }
}
