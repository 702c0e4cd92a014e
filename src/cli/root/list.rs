//! A root's revocation list: everything that was on the last one, and what this ceremony adds, under the next number.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::DAY_MS;
use super::folder::{Folder, Step};
use crate::ca::root::RootIssuer;
use crate::ca::{ListOrder, backdated};
use crate::cli::files::{self, Access};
use crate::cli::output::confirm;
use crate::cli::unlock::Unlock;
use crate::cli::{Failure, Outcome, Output};
use crate::domain::certificate::Serial;
use crate::domain::id::Digest;
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, SystemClock};
use crate::x509::bundle::crl_pem;
use crate::x509::{Authority, CrlEntry, CrlNumber, CrossCertificate, ReasonCode, Root};

pub(super) fn sign(
    root: &Path,
    (revoke, reason, days): (&[PathBuf], RevocationReason, u32),
    (out, yes): (&Path, bool),
    (unlock, output): (&Unlock, &Output),
) -> Result<Outcome, Failure> {
    let folder = Folder::at(root);
    let (own, signer) = (folder.root()?, folder.signer(unlock)?);
    let issuer = RootIssuer::new(own.clone(), signer.as_ref())?;
    let now = SystemClock.now();
    folder.note_unlogged(now)?;
    let order = next(&folder, &own, (revoke, reason), until(now, days))?;
    output.note(&describe(&own, &order)?);
    confirm("Sign this list?", yes)?;
    let (count, next_update) = (order.entries.len(), order.next_update);
    let number = order.number.count().unwrap_or_default();
    let signed = issuer.sign_list(order)?;
    let sha256 = Digest::of(&signed.der);
    folder.keep_list(&signed.der)?;
    folder.note(&Step {
        what: "crl",
        at: now,
        serial: number.to_string(),
        sha256,
        about: format!("{count} revoked, until {next_update}"),
    })?;
    files::write(out, crl_pem(&signed.der).as_bytes(), Access::Public)?;
    let text = format!(
        "list         {}\nnumber       {number}\nrevoked      {count}\nuntil        {next_update}\nsha-256      {sha256}",
        out.display()
    );
    let value = json!({
        "list": out.display().to_string(), "number": number, "revoked": count,
        "next_update": next_update.to_string(), "sha256": sha256.to_string(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

fn until(now: Timestamp, days: u32) -> Timestamp {
    Timestamp::from_millis(now.plus_ms(i64::from(days) * DAY_MS).seconds().saturating_mul(1_000))
}

/// What the next list says: nothing that was revoked is forgotten, and the number rises.
fn next(
    folder: &Folder,
    root: &Root,
    (revoke, reason): (&[PathBuf], RevocationReason),
    next_update: Timestamp,
) -> Result<ListOrder, Failure> {
    let last = folder.list(root)?;
    let last_number = last.as_ref().map_or(Some(0), |list| list.number.count());
    let last_number =
        last_number.ok_or_else(|| Failure("the last list has no number of a ceremony".to_owned()))?;
    let number = last_number.max(folder.last_number()?).checked_add(1);
    let number = number.ok_or_else(|| Failure("the numbers of lists are used up".to_owned()))?;
    let mut entries = last.map(|list| list.entries).unwrap_or_default();
    let this_update = backdated(SystemClock.now());
    for path in revoke {
        let serial = certified(path, root)?;
        if entries.iter().all(|entry| entry.serial != serial) {
            entries.push(CrlEntry { serial, at: this_update, reason: ReasonCode::from(reason) });
        }
    }
    let this_update = this_update.max(root.certificate().not_before());
    Ok(ListOrder { address: None, number: CrlNumber::counted(number), this_update, next_update, entries })
}

/// The serial of a certificate that this root signed.
fn certified(path: &Path, root: &Root) -> Result<Serial, Failure> {
    let der = files::read_der(path, "CERTIFICATE")?;
    let named = |fault: String| Failure(format!("{}: {fault}; nothing was signed", path.display()));
    if let Ok(cross) = CrossCertificate::from_der(&der) {
        root.check_cross(&cross).map_err(|fault| named(fault.to_string()))?;
        return Ok(cross.certificate().serial());
    }
    let authority = Authority::from_der(&der).map_err(|fault| named(fault.to_string()))?;
    root.check_issued(&authority).map_err(|fault| named(fault.to_string()))?;
    Ok(authority.serial())
}

fn describe(root: &Root, order: &ListOrder) -> Result<String, Failure> {
    let mut text = format!("A revocation list of root {}:\n", root.id());
    writeln!(text, "  number         {}", order.number.count().unwrap_or_default())?;
    writeln!(text, "  until          {}", order.next_update)?;
    writeln!(text, "  revoked        {}", order.entries.len())?;
    for entry in &order.entries {
        writeln!(text, "    serial {} since {}", hex::encode(entry.serial.as_bytes()), entry.at)?;
    }
    Ok(text)
}
