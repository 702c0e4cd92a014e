use super::{assert_lines, spelled};
use crate::domain::authority::NewAuthority;
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::command::{Command, ObjectRef, SubjectDecision};
use crate::domain::entity::{Screening, ScreeningResult};
use crate::domain::grant::Grant;
use crate::domain::id::{
    AnnouncementId, AuthorityId, Digest, EntityId, GrantId, LineageId, Ordinal, PersonId, PrincipalId,
    RootId, Seq, SubjectId,
};
use crate::domain::license::{License, ReportDuty};
use crate::domain::model::AccessForm;
use crate::domain::officer_command::{Emergency, OfficerCommand};
use crate::domain::partner_command::{PartnerCommand, SafeguardEvidence, SafeguardItem};
use crate::domain::person::{Assurance, EvidenceKind, PersonStatus};
use crate::domain::record_command::{RecordCommand, RecordHold};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::root::{Beneath, CrossCertificate, CrossSubject};
use crate::domain::screening::{MatchVerdict, SCORE_MIN, ScreeningList};
use crate::domain::subject::Vetting;
use crate::domain::tests::fixtures::*;
use crate::domain::time::{Interval, Timestamp};

const AT: Timestamp = Timestamp::from_millis(1_782_518_400_000);
const ENTITY: EntityId = EntityId::from_bytes([1; 16]);
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);
const ROOT: RootId = RootId::from_bytes([9; 16]);
const KEY: Digest = Digest([8; 32]);
const REASON: RevocationReason = RevocationReason::GovernmentOrder;

fn officer() -> PrincipalId {
    "alice".parse().unwrap()
}

fn license() -> License {
    License {
        id: "d123456".parse().unwrap(),
        holder: ENTITY,
        subjects: vec![SUBJECT],
        models: vec![model("mythos-5")],
        countries: vec![country("GB")],
        purposes: vec!["cyber-defense".parse().unwrap()],
        interval: Interval { from: AT, until: Some(AT) },
        provisos_met: true,
        reports: None,
    }
}

fn loosening() -> Vec<Command> {
    let mut new = alice().principal();
    new.key = vec![0xee; 91];
    let grant = Grant {
        forms: vec![AccessForm::Weights],
        countries: vec![country("FR")],
        purposes: vec!["cyber-defense".parse().unwrap()],
        ..grant(5, "mythos-5")
    };
    vec![
        Command::RegisterPrincipal(new),
        Command::RemovePrincipal(officer()),
        Command::ActivateEntity(ENTITY),
        Command::GrantModel { entity: ENTITY, grant },
        Command::RegisterLicense(license()),
        Command::AdoptPolicy(Box::new(sample_parts())),
        Command::ReleaseStop(StopScope::All),
        Command::Unsuspend(SuspensionTarget::Subject(SUBJECT)),
        Command::ReleaseHold(Ordinal(7)),
        Command::AcceptClock(AT),
        Command::Records(RecordCommand::Release("doj-1".parse().unwrap())),
        Command::AcknowledgeRestore { restored: Seq(12) },
        Command::UnblockKey(KEY),
        Command::AmendAnnex {
            determination: determination(LIFT),
            revision: 2,
            add: vec![ENTITY],
            remove: vec![],
        },
    ]
}

fn restricting() -> Vec<Command> {
    let revoke = |scope| Command::Revoke { scope, reason: REASON };
    vec![
        Command::BlockKey { key: KEY, reason: REASON },
        Command::Drill(StopScope::Entity(ENTITY)),
        Command::Records(RecordCommand::Hold {
            id: "doj-1".parse().unwrap(),
            hold: RecordHold { since: AT, reason: "why".to_owned() },
        }),
        Command::RejectEntity(ENTITY),
        Command::RemoveEntity { entity: ENTITY, reason: REASON },
        Command::EndGrant { entity: ENTITY, grant: GrantId::from_bytes([5; 16]) },
        revoke(RevocationScope::Certificate(Ordinal(7))),
        revoke(RevocationScope::Lineage(LineageId::from_bytes([3; 16]))),
        revoke(RevocationScope::Subject(SUBJECT)),
        revoke(RevocationScope::Person(PersonId::from_bytes([4; 16]))),
        revoke(RevocationScope::Entity(ENTITY)),
        revoke(RevocationScope::Issuer(AuthorityId::from_bytes([5; 16]))),
        revoke(RevocationScope::Determination(determination(LIFT))),
        revoke(RevocationScope::AnnexRevision(determination(LIFT), 3)),
        Command::Stop { scope: StopScope::Model(model("mythos-5")), reason: REASON },
        Command::Suspend { target: SuspensionTarget::Entity(ENTITY), reason: REASON },
        Command::Hold { ordinal: Ordinal(7), reason: REASON },
        Command::Impose(Box::new(sample_parts().determinations.remove(0))),
    ]
}

fn vetting() -> Vec<Command> {
    let vetting = Vetting {
        status: PersonStatus::UsPerson,
        evidence: EvidenceKind::ProtectedIndividual,
        verified_on: AT.day(),
        assurance: Assurance::Ial3,
    };
    let approve = SubjectDecision::Approve { vetting: Some(vetting), reverify_due: Some(AT) };
    let screening =
        Screening { list_version: "csl-1".to_owned(), list_date: AT, result: ScreeningResult::Confirmed };
    vec![
        Command::DecideSubject { subject: SUBJECT, decision: approve },
        Command::DecideSubject { subject: SUBJECT, decision: SubjectDecision::Refuse },
        Command::RecordScreening { entity: ENTITY, screening, reason: "a match".to_owned() },
        Command::RecordSafeguards { entity: ENTITY, until: AT, reverify_due: None },
    ]
}

/// All but those of screening.
fn others() -> Vec<Command> {
    [loosening(), restricting(), vetting(), rotating(), announcing(), of_officers()].concat()
}

fn screening() -> Vec<Command> {
    let list = ScreeningList {
        version: "csl-1".to_owned(),
        date: AT,
        file: KEY,
        entries: 12_000,
        score_min: SCORE_MIN,
    };
    let resolve = |score, verdict| Command::ResolveScreeningMatch {
        entity: ENTITY,
        entry: KEY,
        score,
        verdict,
        reason: "same name".to_owned(),
    };
    vec![
        Command::ImportScreeningList { list: list.clone(), shrinks: false },
        Command::ImportScreeningList { list, shrinks: true },
        resolve(84, MatchVerdict::FalsePositive),
        resolve(95, MatchVerdict::FalsePositive),
        resolve(95, MatchVerdict::Confirmed),
        resolve(84, MatchVerdict::Withdrawn),
    ]
}

fn rotating() -> Vec<Command> {
    let authority = AuthorityId::from_bytes([5; 16]);
    vec![
        Command::PrepareAuthority(new_authority(authority, AuthorityKind::System)),
        Command::ActivateAuthority(authority),
        Command::TaintAuthority { authority, reason: REASON },
        Command::RollbackAuthority(authority),
        Command::RetireAuthority(authority),
        Command::RevokeAuthority { authority, reason: REASON },
        Command::PermitRotation { kind: AuthorityKind::System, until: AT, rotations: 7 },
        Command::WithdrawRotation(AuthorityKind::System),
    ]
}

fn announcing() -> Vec<Command> {
    let announcement = AnnouncementId::from_bytes([6; 16]);
    vec![
        Command::AnnounceRevocation {
            id: announcement,
            scope: RevocationScope::Entity(ENTITY),
            cut_at: AT,
            reason: REASON,
        },
        Command::HastenRevocation { announcement, cut_at: AT },
        Command::PostponeRevocation { announcement, cut_at: Some(AT) },
        Command::PostponeRevocation { announcement, cut_at: None },
    ]
}

fn of_officers() -> Vec<Command> {
    let of = Command::Officers;
    let glass = |what| of(OfficerCommand::BreakGlass { what, reason: "x".to_owned() });
    let (authority, target) = (AuthorityId::from_bytes([5; 16]), SuspensionTarget::Entity(ENTITY));
    vec![
        of(OfficerCommand::Suspend { principal: officer(), reason: REASON }),
        of(OfficerCommand::Release(officer())),
        glass(Emergency::Revoke(RevocationScope::Entity(ENTITY), REASON)),
        glass(Emergency::Stop(StopScope::All, REASON)),
        glass(Emergency::Suspend(target, REASON)),
        glass(Emergency::Hold(Ordinal(7), REASON)),
        glass(Emergency::BlockKey(KEY, REASON)),
        glass(Emergency::Taint(authority, REASON)),
        glass(Emergency::SuspendPrincipal(officer(), REASON)),
        of(OfficerCommand::CloseReview { review: Seq(12), finding: "x".to_owned() }),
    ]
}

fn of_roots() -> Vec<Command> {
    let beneath = Beneath { root: ROOT, serial: Serial::from_random([6; 16]) };
    let authority = AuthorityId::from_bytes([5; 16]);
    let cross = |subject| CrossCertificate { certificate: vec![0x30], subject, by: beneath, not_after: AT };
    let prepared = NewAuthority { beneath: Some(beneath), ..new_authority(authority, AuthorityKind::Access) };
    vec![
        Command::PrepareAuthority(prepared),
        Command::TrustRoot(new_root(ROOT, &[])),
        Command::RenewRootList { root: ROOT, list: root_list(2, &[beneath.serial]) },
        Command::AddCrossCertificate(cross(CrossSubject::Root(ROOT))),
        Command::AddCrossCertificate(cross(CrossSubject::Authority(authority))),
        Command::DropRoot(ROOT),
    ]
}

#[test]
fn every_command_keeps_its_encoding_its_objects_and_its_signers() {
    let commands = others();
    let line =
        |command: &Command| format!("{} {} {}", command.name(), command.signers().count, spelled(command));
    let lines: Vec<_> = commands.iter().map(line).collect();
    assert_lines(&lines, "
        REGISTER_PRINCIPAL 2 sha256 fafd9f059ac72cdcd94d23761553033e2eb90099c38c3c8cc17aca6588d9c6e3
        REMOVE_PRINCIPAL 2 82018165616c696365
        ACTIVATE_ENTITY 2 8202815001010101010101010101010101010101
        GRANT_MODEL 2 8206825001010101010101010101010101010101865005050505050505050505050505050505686d7974686f732d358100810181624652816d63796265722d646566656e7365
        REGISTER_LICENSE 2 820881886764313233343536500101010101010101010101010101010181500202020202020202020202020202020281686d7974686f732d3581624742816d63796265722d646566656e7365821b0000019f066044001b0000019f06604400f5
        ADOPT_POLICY 2 sha256 9d2bd4d5b6668adfaf78c29ea3019b67e5ce6c094d7ba8c5ab4e9987c9e91c47
        RELEASE_STOP 2 820c81820080
        UNSUSPEND 2 820e818201815002020202020202020202020202020202
        RELEASE_HOLD 2 82108107
        ACCEPT_CLOCK 2 8214811b0000019f06604400
        RELEASE_RECORDS 2 8218558182018165646f6a2d31
        ACKNOWLEDGE_RESTORE 2 8217810c
        UNBLOCK_KEY 2 82168158200808080808080808080808080808080808080808080808080808080808080808
        AMEND_ANNEX 2 8205846f323032362d30362d32362d6c6966740281500101010101010101010101010101010180
        BLOCK_KEY 1 821582582008080808080808080808080808080808080808080808080808080808080808080d
        DRILL 1 821832818202815001010101010101010101010101010101
        HOLD_RECORDS 1 8218558182008265646f6a2d31821b0000019f0660440063776879
        REJECT_ENTITY 1 8203815001010101010101010101010101010101
        REMOVE_ENTITY 1 82048250010101010101010101010101010101010d
        END_GRANT 1 82078250010101010101010101010101010101015005050505050505050505050505050505
        REVOKE 1 820a82820081070d
        REVOKE 1 820a8282018150030303030303030303030303030303030d
        REVOKE 1 820a8282028150020202020202020202020202020202020d
        REVOKE 1 820a8282038150040404040404040404040404040404040d
        REVOKE 1 820a8282048150010101010101010101010101010101010d
        REVOKE 1 820a8282058150050505050505050505050505050505050d
        REVOKE 1 820a828206816f323032362d30362d32362d6c6966740d
        REVOKE 1 820a828207826f323032362d30362d32362d6c696674030d
        STOP 1 820b82820181686d7974686f732d350d
        SUSPEND 1 820d8282008150010101010101010101010101010101010d
        HOLD 1 820f82070d
        IMPOSE 1 821833818875323032362d30362d31322d696d706f736974696f6e000182f61b0000019ebdb5aa6082676661626c652d35686d7974686f732d358080827135302055534320343831372862292831296d313520434652203734342e3232
        DECIDE_SUBJECT 1 8211825002020202020202020202020202020202820082840002195097031b0000019f06604400
        DECIDE_SUBJECT 1 8211825002020202020202020202020202020202820180
        RECORD_SCREENING 1 8212835001010101010101010101010101010101836563736c2d311b0000019f06604400026761206d61746368
        RECORD_SAFEGUARDS 1 82138250010101010101010101010101010101011b0000019f06604400
        PREPARE_AUTHORITY 2 821818818450050505050505050505050505050505050141301b000001a5d82c1800
        ACTIVATE_AUTHORITY 2 821819815005050505050505050505050505050505
        TAINT_AUTHORITY 1 82181a8250050505050505050505050505050505050d
        ROLLBACK_AUTHORITY 2 82181b815005050505050505050505050505050505
        RETIRE_AUTHORITY 2 82181c815005050505050505050505050505050505
        REVOKE_AUTHORITY 2 82181d8250050505050505050505050505050505050d
        PERMIT_ROTATION 2 82182383011b0000019f0660440007
        WITHDRAW_ROTATION 1 8218278101
        ANNOUNCE_REVOCATION 1 82182484500606060606060606060606060606060682048150010101010101010101010101010101011b0000019f066044000d
        HASTEN_REVOCATION 1 8218258250060606060606060606060606060606061b0000019f06604400
        POSTPONE_REVOCATION 2 8218268250060606060606060606060606060606061b0000019f06604400
        POSTPONE_REVOCATION 2 821826815006060606060606060606060606060606
        SUSPEND_PRINCIPAL 1 8218288182008265616c6963650d
        RELEASE_PRINCIPAL 2 8218288182018165616c696365
        BREAK_GLASS 1 8218288182028282008282048150010101010101010101010101010101010d6178
        BREAK_GLASS 1 821828818202828201828200800d6178
        BREAK_GLASS 1 8218288182028282028282008150010101010101010101010101010101010d6178
        BREAK_GLASS 1 82182881820282820382070d6178
        BREAK_GLASS 1 82182881820282820482582008080808080808080808080808080808080808080808080808080808080808080d6178
        BREAK_GLASS 1 8218288182028282058250050505050505050505050505050505050d6178
        BREAK_GLASS 1 8218288182028282068265616c6963650d6178
        CLOSE_REVIEW 1 821828818203820c6178
        ");
}

#[test]
fn every_command_of_screening_keeps_its_encoding_and_its_signers() {
    let line =
        |command: &Command| format!("{} {} {}", command.name(), command.signers().count, spelled(command));
    let lines: Vec<_> = screening().iter().map(line).collect();
    assert_lines(&lines, "
        IMPORT_SCREENING_LIST 1 82183c82856563736c2d311b0000019f0660440058200808080808080808080808080808080808080808080808080808080808080808192ee01852f4
        IMPORT_SCREENING_LIST 2 82183c82856563736c2d311b0000019f0660440058200808080808080808080808080808080808080808080808080808080808080808192ee01852f5
        RESOLVE_SCREENING_MATCH 1 82183d855001010101010101010101010101010101582008080808080808080808080808080808080808080808080808080808080808081854006973616d65206e616d65
        RESOLVE_SCREENING_MATCH 2 82183d85500101010101010101010101010101010158200808080808080808080808080808080808080808080808080808080808080808185f006973616d65206e616d65
        RESOLVE_SCREENING_MATCH 1 82183d85500101010101010101010101010101010158200808080808080808080808080808080808080808080808080808080808080808185f016973616d65206e616d65
        RESOLVE_SCREENING_MATCH 2 82183d855001010101010101010101010101010101582008080808080808080808080808080808080808080808080808080808080808081854026973616d65206e616d65
        ");
}

fn of_partners() -> Vec<Command> {
    let of = Command::Partners;
    let report = "annual".to_owned();
    let item =
        SafeguardItem { name: "mfa".to_owned(), asks: "x".to_owned(), models: vec![model("mythos-5")] };
    let evidence = vec![SafeguardEvidence { item: "mfa".to_owned(), document: KEY }];
    let owing = License { reports: Some(vec![ReportDuty { name: report.clone(), due: AT }]), ..license() };
    vec![
        Command::RegisterLicense(owing),
        of(PartnerCommand::FileReport { license: license().id, report, document: KEY }),
        of(PartnerCommand::SetChecklist(vec![item])),
        of(PartnerCommand::AttestSafeguards { entity: ENTITY, evidence, until: AT, reverify_due: None }),
        of(PartnerCommand::Correct { wrong: Seq(7), right: Seq(12), reason: "x".to_owned() }),
    ]
}

#[test]
fn every_command_of_partners_keeps_its_encoding_and_its_signers() {
    let line =
        |command: &Command| format!("{} {} {}", command.name(), command.signers().count, spelled(command));
    let lines: Vec<_> = of_partners().iter().map(line).collect();
    assert_lines(
        &lines,
        "
        REGISTER_LICENSE 2 sha256 089fa2de9881e8248ace7a80eda679a18c1c6be96f9a26ce5514c83b73d89b4a
        FILE_REPORT 2 82184681820083676431323334353666616e6e75616c58200808080808080808080808080808080808080808080808080808080808080808
        SET_CHECKLIST 2 821846818201818183636d6661617881686d7974686f732d35
        ATTEST_SAFEGUARDS 1 8218468182028350010101010101010101010101010101018182636d6661582008080808080808080808080808080808080808080808080808080808080808081b0000019f06604400
        CORRECT 1 82184681820383070c6178
        ",
    );
}

#[test]
fn every_command_is_in_a_test_of_its_encoding() {
    let commands = [others(), screening(), of_partners()].concat();
    let mut names: Vec<_> = commands.iter().map(Command::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 49, "one of each");
}

#[test]
fn every_command_about_roots_keeps_its_encoding_and_its_signers() {
    let line =
        |command: &Command| format!("{} {} {}", command.name(), command.signers().count, spelled(command));
    let lines: Vec<_> = of_roots().iter().map(line).collect();
    assert_lines(&lines, "
        PREPARE_AUTHORITY 2 821818818550050505050505050505050505050505050041301b000001a5d82c18008250090909090909090909090909090909095046060606060606060606060606060606
        TRUST_ROOT 2 82181e8184500909090909090909090909090909090941311b0000020cb875f000854132011b0000019e807aec001b000001a5d82c180080
        RENEW_ROOT_LIST 1 82181f825009090909090909090909090909090909854132021b0000019e807aec001b000001a5d82c1800815046060606060606060606060606060606
        ADD_CROSS_CERTIFICATE 2 82182081844130820081500909090909090909090909090909090982500909090909090909090909090909090950460606060606060606060606060606061b0000019f06604400
        ADD_CROSS_CERTIFICATE 2 82182081844130820181500505050505050505050505050505050582500909090909090909090909090909090950460606060606060606060606060606061b0000019f06604400
        DROP_ROOT 2 821821815009090909090909090909090909090909
        ");
}

#[test]
fn every_reference_to_an_object_keeps_its_encoding() {
    let objects = [
        ObjectRef::Principal(officer()),
        ObjectRef::Entity(ENTITY),
        ObjectRef::Subject(SUBJECT),
        ObjectRef::Annex(determination(LIFT)),
        ObjectRef::License("d123456".parse().unwrap()),
        ObjectRef::Policy,
        ObjectRef::Stop(StopScope::Subject(SUBJECT)),
        ObjectRef::Suspension(SuspensionTarget::Entity(ENTITY)),
        ObjectRef::Hold(Ordinal(7)),
        ObjectRef::Clock,
        ObjectRef::Key(KEY),
        ObjectRef::Authorities,
        ObjectRef::Roots,
        ObjectRef::RootList(ROOT),
        ObjectRef::Rotation(AuthorityKind::System),
        ObjectRef::Announcement(AnnouncementId::from_bytes([6; 16])),
        ObjectRef::Drills,
        ObjectRef::Review(Seq(12)),
        ObjectRef::ScreeningList,
        ObjectRef::Screening(ENTITY),
        ObjectRef::Checklist,
        ObjectRef::Correction(Seq(12)),
        ObjectRef::RecordHold("doj-1".parse().unwrap()),
    ];
    let lines: Vec<_> = objects.iter().map(|object| format!("{} {object}", spelled(object))).collect();
    assert_lines(
        &lines,
        "
        82008165616c696365 principal alice
        8201815001010101010101010101010101010101 entity ent_01040G2081040G2081040G2081
        8202815002020202020202020202020202020202 subject sub_02081040G2081040G2081040G2
        8203816f323032362d30362d32362d6c696674 annex of 2026-06-26-lift
        8204816764313233343536 licence d123456
        820580 policy
        8206818203815002020202020202020202020202020202 stop of subject sub_02081040G2081040G2081040G2
        8207818200815001010101010101010101010101010101 suspension of entity ent_01040G2081040G2081040G2081
        82088107 hold on certificate 7
        820980 clock
        820a8158200808080808080808080808080808080808080808080808080808080808080808 block of key 0808080808080808080808080808080808080808080808080808080808080808
        820c80 list of authorities
        820d80 list of roots
        820e815009090909090909090909090909090909 revocation list of root_09144GJ289144GJ289144GJ289
        820f8101 standing approval of SYSTEM rotations
        8210815006060606060606060606060606060606 announcement ann_060R30C1G60R30C1G60R30C1G6
        821480 drills
        8211810c review of record 12
        82181e80 screening list
        82181f815001010101010101010101010101010101 screening of ent_01040G2081040G2081040G2081
        82182280 checklist of safeguards
        821823810c corrections of record 12
        8218288165646f6a2d31 hold doj-1 on records
        ",
    );
}
