//! Commands and mandates in words: what an officer reads before signing. Every command has its sentence; nothing that a
//! mandate does is left out.

use std::fmt::{Display, Write as _};

use super::{Failure, partners};
use crate::domain::approval::Mandate;
use crate::domain::authority::NewAuthority;
use crate::domain::bundle::{Bundle, BundleParts};
use crate::domain::certificate::Serial;
use crate::domain::command::{Command, NewPrincipal, Ruling, SubjectDecision};
use crate::domain::determination::Determination;
use crate::domain::grant::Grant;
use crate::domain::id::{Digest, SubjectId};
use crate::domain::license::License;
use crate::domain::officer_command::OfficerCommand;
use crate::domain::record_command::RecordCommand;
use crate::domain::root::CrossSubject;
use crate::domain::screening::ScreeningList;
use crate::domain::subject::Vetting;
use crate::domain::time::{Interval, Timestamp};

/// A mandate in words: the command, what it rests on, and the hash of the bytes that are signed.
pub(super) fn mandate(mandate: &Mandate, bytes: &[u8]) -> Result<String, Failure> {
    let signers = mandate.command.signers();
    let roles: Vec<_> = signers.roles.iter().map(|role| role.as_str()).collect();
    described(mandate, bytes, &format!("{} signature(s) of {}", signers.count, roles.join(" or ")))
}

/// The same for what recovery keys sign: no officer does.
pub(super) fn recovery(mandate: &Mandate, bytes: &[u8]) -> Result<String, Failure> {
    let needs = "as many recovery keys as genesis says; then it is announced, and effective 24 hours later unless an officer \
                 rejects it";
    described(mandate, bytes, needs)
}

fn described(mandate: &Mandate, bytes: &[u8], needs: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for line in command(&mandate.command) {
        writeln!(text, "{line}")?;
    }
    writeln!(text, "  in          {}, made {}", mandate.trust_domain, mandate.made_at)?;
    for basis in &mandate.basis {
        match basis.revision.0 {
            0 => writeln!(text, "  rests on    {}, not on record before", basis.object)?,
            seq => writeln!(text, "  rests on    {} as of record {seq}", basis.object)?,
        }
    }
    writeln!(text, "  needs       {needs}")?;
    writeln!(text, "  sha-256     {}", Digest::of(bytes))?;
    Ok(text)
}

/// A command in words: a sentence, and its details one a line.
fn command(command: &Command) -> Vec<String> {
    match command {
        Command::RegisterPrincipal(new) => principal(new),
        Command::RemovePrincipal(id) => {
            vec![format!("Remove the principal {id}: it may call nothing any more")]
        }
        Command::ActivateEntity(id) => {
            vec![format!("Activate the entity {id}: make the applicant a partner")]
        }
        Command::RejectEntity(id) => vec![format!("Reject the applicant {id}, for good")],
        Command::RemoveEntity { entity, reason } => {
            vec![format!("Remove the entity {entity} for good and cut off its certificates ({reason})")]
        }
        Command::AmendAnnex { determination, revision, add, remove } => {
            let head = format!("Amend the annex of {determination}: revision {revision}");
            let add = add.iter().map(|id| format!("  add         {id}"));
            let remove = remove.iter().map(|id| format!("  remove      {id}"));
            std::iter::once(head).chain(add).chain(remove).collect()
        }
        Command::GrantModel { entity, grant: granted } => grant(entity, granted),
        Command::EndGrant { entity, grant } => vec![format!("End the grant {grant} of {entity} now")],
        Command::RegisterLicense(license) => licence(license),
        Command::Partners(command) => partners::words(command),
        Command::AdoptPolicy(parts) => policy(parts),
        Command::Impose(new) => imposition(new),
        Command::Revoke { scope, reason } => {
            vec![format!("Revoke {scope} ({reason}); this cannot be undone")]
        }
        Command::Stop { scope, reason } => {
            vec![format!("Stop {scope} ({reason}), until two officers release it")]
        }
        Command::Drill(scope) => {
            vec![format!(
                "Practise a stop of {scope}: every gateway acknowledges it, and nobody is denied anything"
            )]
        }
        Command::ReleaseStop(scope) => vec![format!("Release the stop of {scope}")],
        Command::Suspend { target, reason } => {
            vec![format!("Suspend {target} ({reason}), until two officers end it")]
        }
        Command::Unsuspend(target) => vec![format!("End the suspension of {target}")],
        Command::Hold { ordinal, reason } => {
            vec![format!("Hold certificate {ordinal} ({reason}), until two officers release it")]
        }
        Command::ReleaseHold(ordinal) => vec![format!("Release the hold on certificate {ordinal}")],
        Command::DecideSubject { subject, decision } => decided(subject, decision),
        Command::DecideSubjects(rulings) => decided_on(rulings),
        Command::ImportScreeningList { list, shrinks } => imported(list, *shrinks),
        Command::ResolveScreeningMatch { .. } | Command::RecordScreening { .. } => screened(command),
        Command::RecordSafeguards { entity, until, reverify_due } => {
            let head = format!("Record that the safeguards of {entity} are attested until {until}");
            std::iter::once(head).chain(reverify_due.map(|at| format!("  verify anew {at}"))).collect()
        }
        Command::AcknowledgeRestore { restored } => vec![
            format!("Go on from the backup that was restored at record {restored}"),
            "  what was recorded after the backup, and no gateway has given back, is lost".to_owned(),
        ],
        Command::BlockKey { key, reason } => vec![
            format!("Block the public key {key} ({reason}): revoke everything issued to it, for good,"),
            "and never certify it again until two officers unblock it".to_owned(),
        ],
        Command::UnblockKey(key) => {
            vec![format!("Unblock the public key {key}; what was issued to it stays revoked")]
        }
        Command::Records(command) => ordered(command),
        Command::AcceptClock(at) => vec![format!("Accept that the server's clock is right: it is {at}")],
        of_authority => rotated(of_authority),
    }
}

/// About orders to keep records.
fn ordered(command: &RecordCommand) -> Vec<String> {
    match command {
        RecordCommand::Hold { id, hold } => vec![
            format!(
                "Keep all records since {}, whatever their age, until two officers release {id}",
                hold.since
            ),
            format!("  because: {}", printable(&hold.reason)),
        ],
        RecordCommand::Release(id) => {
            vec![format!(
                "Let records that {id} holds go after their time: what is older is removed for good"
            )]
        }
    }
}

/// About principals, and emergencies.
fn of_officers(of: &OfficerCommand) -> Vec<String> {
    match of {
        OfficerCommand::Suspend { principal, reason } => vec![
            format!("Suspend the principal {principal} ({reason}): it may call and sign nothing,"),
            "and what it proposed lapses, until two officers release it".to_owned(),
        ],
        OfficerCommand::Release(id) => vec![format!("Release the suspended principal {id}")],
        OfficerCommand::BreakGlass { what, reason } => {
            let mut lines = command(&what.command());
            lines.push("  EMERGENCY   without the role for it; another officer reviews it".to_owned());
            lines.push(format!("  because     {}", printable(reason)));
            lines
        }
        OfficerCommand::CloseReview { review, finding } => vec![
            format!("Close the review of the emergency of record {review}"),
            format!("  finding     {}", printable(finding)),
        ],
    }
}

/// Steps of a rotation.
fn rotated(command: &Command) -> Vec<String> {
    match command {
        Command::PrepareAuthority(new) => prepared(new),
        Command::ActivateAuthority(id) => {
            vec![format!("Issue from the authority {id}; the one that was active retires")]
        }
        Command::TaintAuthority { authority: id, reason } => {
            vec![format!(
                "Issue nothing more from the authority {id}, and all that it issued anew ({reason})"
            )]
        }
        Command::RollbackAuthority(id) => vec![format!("Undo the last step of a rotation to {id}")],
        Command::RetireAuthority(id) => vec![format!("Trust the authority {id} no more")],
        Command::RevokeAuthority { authority: id, reason } => {
            vec![format!(
                "Revoke the authority {id} with all that it issued ({reason}); this cannot be undone"
            )]
        }
        Command::PermitRotation { kind, until, rotations } => vec![
            format!("Let the server rotate the {kind} authorities by itself, {rotations} time(s)"),
            format!("  until       {until}"),
            "  when        it prepares the next at half of the life of the one that issues, and activates it at one sixth"
                .to_owned(),
        ],
        Command::WithdrawRotation(kind) => {
            vec![format!("Let the server rotate the {kind} authorities by itself no more")]
        }
        Command::Officers(command) => of_officers(command),
        of_announcement => announced(of_announcement),
    }
}

/// Announced revocations.
fn announced(command: &Command) -> Vec<String> {
    match command {
        Command::AnnounceRevocation { id, scope, cut_at, reason } => vec![
            format!("Announce {id}: {scope} is to be renewed now ({reason})"),
            format!("  cut at      {cut_at}; what was issued until this command is revoked then, for good"),
        ],
        Command::HastenRevocation { announcement, cut_at } => {
            vec![format!("Cut what {announcement} announced earlier, at {cut_at}")]
        }
        Command::PostponeRevocation { announcement, cut_at: Some(cut_at) } => {
            vec![format!("Cut what {announcement} announced later, at {cut_at}")]
        }
        Command::PostponeRevocation { announcement, cut_at: None } => {
            vec![format!("Withdraw {announcement}: nothing of it is revoked")]
        }
        of_root => hierarchy(of_root),
    }
}

/// What concerns roots.
fn hierarchy(command: &Command) -> Vec<String> {
    match command {
        Command::TrustRoot(new) => vec![
            format!("Trust the root {}, and give it out with every bundle", new.id),
            format!("  until       {}", new.not_after),
            format!("  sha-256     {}", Digest::of(&new.certificate)),
            format!("  list        number {} until {}", new.list.number, new.list.next_update),
        ],
        Command::RenewRootList { root, list } => {
            let mut lines = vec![
                format!("Take the revocation list number {} of {root}", list.number),
                format!("  until       {}", list.next_update),
                "  what it revokes is revoked here too; this cannot be undone".to_owned(),
            ];
            let serial = |serial: &Serial| format!("  revokes     serial {}", hex::encode(serial.as_bytes()));
            lines.extend(list.revoked.iter().map(serial));
            lines
        }
        Command::AddCrossCertificate(new) => {
            let subject = match new.subject {
                CrossSubject::Root(id) => format!("root {id}"),
                CrossSubject::Authority(id) => format!("authority {id}"),
            };
            vec![
                format!("Give out a certificate by the root {} for the {subject}", new.by.root),
                format!("  until       {}", new.not_after),
                format!("  sha-256     {}", Digest::of(&new.certificate)),
            ]
        }
        Command::DropRoot(id) => vec![format!("Trust the root {id} no more, nor what it cross-certified")],
        // Every other command has its words above.
        other => vec![other.name().to_owned()],
    }
}

fn prepared(new: &NewAuthority) -> Vec<String> {
    let mut lines = vec![
        format!("Trust the {} authority {}, which will issue later", new.kind, new.id),
        format!("  until       {}", new.not_after),
        format!("  sha-256     {}", Digest::of(&new.certificate)),
    ];
    lines.extend(new.beneath.map(|beneath| format!("  beneath     {}", beneath.root)));
    lines
}

fn policy(parts: &BundleParts) -> Vec<String> {
    let hash = Bundle::new(parts.clone())
        .map_or_else(|fault| format!("NOT A BUNDLE: {fault}"), |bundle| bundle.hash().to_string());
    let mut lines = vec![
        "Put a policy bundle in force".to_owned(),
        format!("  policy hash {hash}"),
        format!("  models      {}", list(parts.models.iter().map(|model| &model.id))),
        format!("  rules       {}", parts.rules.len()),
    ];
    lines.extend(parts.determinations.iter().map(|determination| {
        format!("  law         {} {} ({})", determination.id, determination.kind, determination.state)
    }));
    lines
}

fn imposition(new: &Determination) -> Vec<String> {
    let at = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let mut lines = vec![
        format!("Impose {} ({}), until two officers end it", new.id, new.kind),
        format!("  models      {}", list(new.models.iter())),
        format!("  from        {}", at(new.effective_at())),
    ];
    lines.extend(new.legal_basis.iter().map(|basis| format!("  law         {}", printable(basis))));
    lines.extend(new.document_sha384.map(|hash| format!("  document    SHA-384 {hash}")));
    lines
}

/// What a vetter says of a party and the screening lists.
fn screened(command: &Command) -> Vec<String> {
    match command {
        Command::ResolveScreeningMatch { entity, entry, score, verdict, reason } => vec![
            format!("Resolve a screening match of {entity}: {verdict}"),
            format!("  entry       {entry}, score {score} of 100"),
            format!("  because     {}", printable(reason)),
        ],
        Command::RecordScreening { entity, screening, reason } => vec![
            format!("Record that {entity} was screened: {}", screening.result),
            format!("  list        {} of {}", screening.list_version, screening.list_date),
            format!("  because     {}", printable(reason)),
        ],
        _ => Vec::new(),
    }
}

fn imported(list: &ScreeningList, shrinks: bool) -> Vec<String> {
    let mut lines = vec![
        format!("Screen every entity against the list {} of {}", printable(&list.version), list.date),
        format!("  entries     {}", list.entries),
        format!("  file        {}", list.file),
        format!("  matches     from a score of {} of 100", list.score_min),
    ];
    if shrinks {
        lines.push("  It may have far fewer entries than the list before.".to_owned());
    }
    lines
}

fn decided_on(rulings: &[Ruling]) -> Vec<String> {
    rulings.iter().flat_map(|ruling| decided(&ruling.subject, &ruling.decision)).collect()
}

fn decided(subject: &SubjectId, decision: &SubjectDecision) -> Vec<String> {
    match decision {
        SubjectDecision::Refuse => vec![format!("Refuse {subject}")],
        SubjectDecision::Approve { vetting, reverify_due } => {
            let mut lines = vec![format!("Approve {subject}")];
            lines.extend(vetting.as_ref().map(vetting_line));
            lines.extend(reverify_due.map(|at| format!("  verify anew {at}")));
            lines
        }
    }
}

fn principal(new: &NewPrincipal) -> Vec<String> {
    let mut lines = vec![
        format!("Register the {} {}", new.kind, new.id),
        format!("  roles       {}", list(new.roles.iter())),
        format!("  key sha-256 {}", Digest::of(&new.key)),
    ];
    lines.extend(new.entity.map(|entity| format!("  acts for    {entity}")));
    lines.extend(new.is_pausable.then(|| "  machine     can be paused: its promises are weak".to_owned()));
    lines
}

fn grant(entity: &crate::domain::id::EntityId, grant: &Grant) -> Vec<String> {
    vec![
        format!("Grant {} to {entity}", grant.model),
        format!("  grant       {}", grant.id),
        format!("  when        {}", interval(grant.interval)),
        format!(
            "  forms       INFERENCE{}",
            grant.forms.iter().map(|f| format!(", {f}")).collect::<String>()
        ),
        format!("  places      US{}", grant.countries.iter().map(|c| format!(", {c}")).collect::<String>()),
        format!("  purposes    {}", or_any(&grant.purposes)),
    ]
}

fn licence(license: &License) -> Vec<String> {
    let mut lines = vec![
        format!("Register the licence {} of {}", license.id, license.holder),
        format!("  models      {}", list(license.models.iter())),
        format!("  when        {}", interval(license.interval)),
        format!("  people      {}", or_any(&license.subjects)),
        format!("  places      US{}", license.countries.iter().map(|c| format!(", {c}")).collect::<String>()),
        format!("  purposes    {}", or_any(&license.purposes)),
        format!("  provisos    {}", if license.provisos_met { "met" } else { "NOT met: it covers nothing" }),
    ];
    let reports = license.reports.iter().flatten();
    lines.extend(reports.map(|duty| format!("  report      {} by {}", printable(&duty.name), duty.due)));
    lines
}

fn vetting_line(vetting: &Vetting) -> String {
    format!(
        "  status      {} on {} of {}, identity {}",
        vetting.status, vetting.evidence, vetting.verified_on, vetting.assurance
    )
}

fn interval(interval: Interval) -> String {
    match interval.until {
        Some(until) => format!("{} until {until}", interval.from),
        None => format!("{}, no end", interval.from),
    }
}

fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn or_any<T: Display>(items: &[T]) -> String {
    if items.is_empty() { "any".to_owned() } else { list(items.iter()) }
}

/// What somebody wrote must not move the cursor of who reads it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
