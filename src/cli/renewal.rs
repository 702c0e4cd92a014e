//! An officer's own certificate: a new one for the registered key, before the verb that was asked for, when two thirds of its life
//! are over or all of it is; and by `principal renew` at any time. The key never changes, and the old certificate stays until
//! the new one is on disk.

use serde_json::json;

use super::identity::{CERTIFICATE, Credential, Identity, write_chain};
use super::remote::{Remote, answer};
use super::{Context, Failure, Outcome};
use crate::domain::certificate::PrincipalKind;
use crate::domain::time::Timestamp;
use crate::pb;

/// When it is renewed: after two thirds of its life. The service gives a new one from half of it on.
const AGE: (i64, i64) = (2, 3);

/// How a certificate stands to its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Nothing is to be done, or not here: gateways renew their own, and a subject gets a new key.
    Fresh,
    /// Two thirds of its life are over.
    Due,
    /// It has ended; for a while it may be renewed, and do nothing else.
    Ended,
}

/// When two thirds of its life are over.
pub(super) const fn due(credential: &Credential) -> Timestamp {
    let life_ms = credential.not_after.millis().saturating_sub(credential.not_before.millis());
    credential.not_before.plus_ms(life_ms / AGE.1 * AGE.0)
}

/// How old a certificate is now.
pub(super) fn age(credential: &Credential, now: Timestamp) -> Age {
    match credential.name.as_ref().map(|name| name.kind) {
        Some(PrincipalKind::Officer | PrincipalKind::Gateway) if now > credential.not_after => Age::Ended,
        Some(PrincipalKind::Officer | PrincipalKind::Partner) if now >= due(credential) => Age::Due,
        Some(_) | None => Age::Fresh,
    }
}

/// What came of asking for another certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    /// There is a new one, until then.
    Until(Timestamp),
    /// The service gives none yet that would live longer.
    NotYet,
}

/// Asks for another certificate over this connection, checks what comes and keeps it in place of the old one.
pub(super) async fn renew(identity: &Identity, remote: &Remote) -> Result<Renewed, Failure> {
    let old = identity.credential()?;
    let request = pb::RenewPrincipalCertificateRequest { csr: identity.request()?.into() };
    let issued = answer(remote.attestation().renew_principal_certificate(request)).await?;
    let new = Credential::of(&issued.certificate)
        .map_err(|Failure(why)| Failure(format!("what the server sent is no certificate: {why}")))?;
    if new.name != old.name || new.key != old.key {
        return Err(Failure(
            "the certificate that the server sent is not one of this key and name".to_owned(),
        ));
    }
    // One of the next authority is taken also when it ends no later.
    if new.issuer == old.issuer && new.not_after <= old.not_after {
        return Ok(Renewed::NotYet);
    }
    write_chain(&identity.path(CERTIFICATE), &issued.certificate, &issued.chain)?;
    Ok(Renewed::Until(new.not_after))
}

/// Renews one whose time has come, or is over. When it does not work the command goes on with the old one, and its holder is told.
pub(super) async fn renew_own(identity: &Identity, remote: &Remote) {
    let path = identity.path(CERTIFICATE);
    let path = path.display();
    match renew(identity, remote).await {
        Ok(Renewed::Until(until)) => eprintln!("countersign: {path} was renewed until {until}"),
        Ok(Renewed::NotYet) => {}
        Err(Failure(why)) => {
            let until = identity.credential().map(|old| old.not_after.to_string()).unwrap_or_default();
            eprintln!(
                "countersign: {path} ends at {until} and could not be renewed: {why}\n  its key may renew it until 90 days \
                 after its end, unless its holder is suspended or removed; another officer can make one as well: countersign \
                 principal certificate --help"
            );
        }
    }
}

/// `principal renew`.
pub(super) async fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let identity = context.connection.identity()?;
    let before = identity.credential()?;
    if before.name.is_none() {
        return Err(Failure(format!(
            "{} is not a principal's; a person or workload renews with a new key: countersign renew --out DIR",
            identity.path(CERTIFICATE).display()
        )));
    }
    // Who connects may be renewed by that already.
    let remote = context.connection.remote().await?;
    let connected = identity.credential()?.not_after;
    let until = match renew(&identity, &remote).await? {
        Renewed::Until(until) => until,
        Renewed::NotYet => connected,
    };
    let is_new = identity.credential()? != before;
    let path = identity.path(CERTIFICATE).display().to_string();
    let text = match is_new {
        true => format!("certificate  {path}\nends         {until}"),
        false => format!("{path} ends at {until}; until half of its life is over the service gives no other"),
    };
    context
        .output
        .print(&json!({ "certificate": path, "renewed": is_new, "not_after": until.to_string() }), &text);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::identity::SpiffeName;

    fn credential(kind: Option<PrincipalKind>) -> Credential {
        let trust_domain = "example.org".to_owned();
        let name = kind.map(|kind| SpiffeName { trust_domain, kind, principal: "alice".parse().unwrap() });
        Credential {
            name,
            key: "00".repeat(32),
            issuer: "OU=SYSTEM".to_owned(),
            not_before: Timestamp::from_millis(0),
            not_after: Timestamp::from_millis(9_000),
        }
    }

    #[test]
    fn an_officers_is_due_at_two_thirds_and_what_others_renew_is_left_to_them() {
        let age_at = |kind, ms| age(&credential(kind), Timestamp::from_millis(ms));
        for (ms, officer, gateway, partner, subject) in [
            (5_999, Age::Fresh, Age::Fresh, Age::Fresh, Age::Fresh),
            (6_000, Age::Due, Age::Fresh, Age::Due, Age::Fresh),
            (9_000, Age::Due, Age::Fresh, Age::Due, Age::Fresh),
            (9_001, Age::Ended, Age::Ended, Age::Due, Age::Fresh),
        ] {
            assert_eq!(age_at(Some(PrincipalKind::Officer), ms), officer, "{ms}");
            assert_eq!(age_at(Some(PrincipalKind::Gateway), ms), gateway, "{ms}");
            assert_eq!(age_at(Some(PrincipalKind::Partner), ms), partner, "{ms}");
            assert_eq!(age_at(None, ms), subject, "{ms}");
        }
    }
}
