use super::{assert_lines, spelled};
use crate::domain::approval::{Approval, Basis, Mandate, SignedMandate};
use crate::domain::call::{Origin, SealedCalls};
use crate::domain::certificate::{
    AccessFacts, AuthorityKind, CanaryFacts, CanarySide, EntityFacts, Facts, LineageStep, PersonFacts,
    PrincipalKind, Serial, SystemFacts,
};
use crate::domain::codec::to_bytes;
use crate::domain::command::{Command, ObjectRef};
use crate::domain::decided::{RemovedDecisions, SealedDecisions};
use crate::domain::drill::DrillTimes;
use crate::domain::enforce::{EnforcementEvent, Position};
use crate::domain::entity::{EntityClass, EntityKind, Organisation};
use crate::domain::event::{BarrierOutcome, Cause, Entry, Event, Genesis, Intent, NewEntity};
use crate::domain::id::{
    AnnouncementId, AuthorityId, BootId, Digest, EntityId, Epoch, LineageId, Ordinal, PersonId, ProposalId,
    RequestId, Seq, SubjectId, TokenId,
};
use crate::domain::person::{Assurance, PersonStatus, Relation};
use crate::domain::proposal::Lapse;
use crate::domain::recovery::{RecoverySignature, SignedRecovery};
use crate::domain::revocation::StopScope;
use crate::domain::rotation::RotationStep;
use crate::domain::screening::ScreeningMatch;
use crate::domain::subject::{Employment, SubjectBody, Workload};
use crate::domain::tests::fixtures::*;
use crate::domain::time::Timestamp;

const AT: Timestamp = Timestamp::from_millis(1_782_518_400_000);
const ENTITY: EntityId = EntityId::from_bytes([1; 16]);
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);
const TOKEN: TokenId = TokenId::from_bytes([3; 16]);
const PROPOSAL: ProposalId = ProposalId::from_bytes([4; 16]);
const STEP: LineageStep = LineageStep { lineage: LineageId::from_bytes([5; 16]), generation: 7 };

fn approval() -> Approval {
    Approval { officer: "alice".parse().unwrap(), signature: vec![0xaa; 4] }
}

fn signed() -> SignedMandate {
    SignedMandate { bytes: vec![0xbb; 4], approvals: vec![approval()] }
}

fn access(person: bool) -> Facts {
    Facts::Access(AccessFacts {
        subject: SUBJECT,
        entity: EntityFacts {
            entity: ENTITY,
            class: EntityClass::AnnexA,
            annex_revision: Some(3),
            determination: Some(determination(LIFT)),
        },
        person: person.then_some(PersonFacts {
            status: PersonStatus::ForeignPerson,
            verified_on: AT.day(),
            relation: Relation::Employee,
            assurance: Assurance::Ial2,
        }),
        models: vec![model("mythos-5")],
        step: STEP,
    })
}

fn intent(authority: AuthorityKind, facts: Facts, cause: Cause) -> Event {
    Event::IssuanceIntended(Box::new(Intent {
        authority,
        ordinal: Ordinal(40_812),
        serial: Serial::from_random([6; 16]),
        facts,
        key: Digest([7; 32]),
        not_before: AT,
        not_after: AT.plus_ms(86_400_000),
        cause,
        tbs: vec![0x30],
        issuer: None,
    }))
}

fn intents() -> Vec<Event> {
    let officer = SystemFacts { kind: PrincipalKind::Officer, principal: "alice".parse().unwrap() };
    let canary = CanaryFacts { gateway: "gw-1".parse().unwrap(), side: CanarySide::B };
    vec![
        intent(AuthorityKind::Access, access(true), Cause::Enroll(TOKEN)),
        intent(AuthorityKind::Access, access(false), Cause::Renew(Ordinal(9))),
        intent(AuthorityKind::System, Facts::System(officer), Cause::Register("alice".parse().unwrap())),
        intent(AuthorityKind::Access, Facts::Canary(canary), Cause::Register("gw-1".parse().unwrap())),
    ]
}

fn subjects() -> Vec<Event> {
    let human = SubjectBody::Human(Employment {
        person: PersonId::from_bytes([8; 16]),
        vetting: None,
        relation: Relation::Contractor,
        relation_until: Some(AT),
    });
    let workload = SubjectBody::Workload(Workload { owner: SUBJECT, operators: vec![SUBJECT] });
    let nominated =
        |body, reference| Event::SubjectNominated { id: SUBJECT, entity: ENTITY, body, reference };
    vec![nominated(human.clone(), None), nominated(workload, None), nominated(human, Some(Digest([6; 32])))]
}

fn others() -> Vec<Event> {
    let outcome = BarrierOutcome {
        acked: vec!["a".to_owned()],
        weak: vec!["b".to_owned()],
        lease_expired: vec!["c".to_owned()],
        pending: vec!["d".to_owned()],
        took_ms: 12,
        drill: None,
    };
    let times = DrillTimes { durable_ms: 3, acked_ms: vec![Some(5), None] };
    let drilled = BarrierOutcome { drill: Some(times), ..outcome.clone() };
    vec![
        Event::Genesis { bytes: vec![0xcc; 4], approvals: vec![approval()] },
        Event::ServerStarted { boot: BootId::from_bytes([9; 16]), logic_version: 1 },
        Event::Proposed { id: PROPOSAL, signed: signed() },
        Event::ProposalWithdrawn(PROPOSAL),
        Event::Enacted { signed: signed(), proposal: None },
        Event::Enacted { signed: signed(), proposal: Some(PROPOSAL) },
        Event::EntityApplied(NewEntity {
            id: ENTITY,
            kind: EntityKind::Company,
            name: "Example".to_owned(),
            org: Organisation::Foreign,
            seat: Some(country("FR")),
        }),
        Event::RelationAttested { subject: SUBJECT, relation: Relation::Employee, until: None },
        Event::TokenCreated { id: TOKEN, secret: Digest([7; 32]), subject: SUBJECT, expires_at: AT },
        Event::CertificateIssued {
            authority: AuthorityKind::Access,
            ordinal: Ordinal(40_812),
            signature: vec![0xdd; 4],
            hash: Digest([7; 32]),
        },
        Event::LineageLocked(STEP.lineage),
        Event::CeilingAnnounced(Ordinal(20_000)),
        Event::BlockOpened(Ordinal(20_000)),
        Event::BarrierFinished { at: Seq(10), outcome },
        Event::BarrierFinished { at: Seq(10), outcome: drilled },
        Event::InstantPassed(AT),
        Event::SnapshotTaken { at: Seq(10), hash: Digest([7; 32]), signature: vec![8; 64] },
        Event::Restored,
        Event::RestrictionsCollected {
            gateway: "gw".parse().unwrap(),
            upto: Position { epoch: Epoch(1), seq: Seq(10) },
            events: vec![EnforcementEvent::CertificateRevoked(Ordinal(5))],
        },
        Event::RotationStepped {
            kind: AuthorityKind::Access,
            approval: Seq(10),
            step: RotationStep::Activate(AuthorityId::from_bytes([5; 16])),
        },
        Event::RotationFailed { kind: AuthorityKind::System, approval: Seq(10), why: "x".to_owned() },
        Event::AnnouncementPassed(AnnouncementId::from_bytes([6; 16])),
    ]
}

fn waiting() -> Vec<Event> {
    vec![
        Event::RecoveryAnnounced {
            id: PROPOSAL,
            signed: SignedRecovery {
                bytes: vec![0xbb; 4],
                signatures: vec![RecoverySignature { key: Digest([7; 32]), signature: vec![0xaa; 4] }],
            },
        },
        Event::RecoveryTookEffect(PROPOSAL),
        Event::ProposalRejected { id: PROPOSAL, reason: "no".to_owned() },
        Event::ProposalLapsed { id: PROPOSAL, why: Lapse::Changed(ObjectRef::Policy) },
        Event::ProposalLapsed { id: PROPOSAL, why: Lapse::TooOld },
        Event::ProposalLapsed { id: PROPOSAL, why: Lapse::SignerGone("gw".parse().unwrap()) },
        Event::CallsSealed(Box::new(SealedCalls {
            number: 7,
            origin: Origin::Strangers,
            len: 100,
            batches: 2,
            parts: vec![Digest([7; 32])],
        })),
        Event::DecisionsSealed(Box::new(SealedDecisions {
            number: 7,
            begun: AT,
            len: 100,
            batches: 2,
            parts: vec![Digest([7; 32])],
        })),
        Event::DecisionsRemoved(RemovedDecisions {
            first: 1,
            last: 3,
            since: AT,
            until: AT,
            len: 100,
            is_early: false,
        }),
    ]
}

fn screened() -> Vec<Event> {
    vec![Event::EntityScreened {
        entity: ENTITY,
        list: Digest([7; 32]),
        query: Digest([7; 32]),
        found: vec![ScreeningMatch {
            entry: Digest([7; 32]),
            entry_id: "a1".to_owned(),
            source: "EL".to_owned(),
            score: 90,
            explanation: "its name".to_owned(),
        }],
        more: 3,
    }]
}

#[test]
fn every_event_keeps_its_number_its_name_and_its_encoding() {
    let mut events = [others(), waiting(), screened(), subjects(), intents()].concat();
    events.sort_by_key(Event::number);
    let line = |event: &Event| format!("{} {} {}", event.number(), event.name(), spelled(event));
    let lines: Vec<_> = events.iter().map(line).collect();
    assert_lines(&lines, "
        0 genesis 82008244cccccccc818265616c69636544aaaaaaaa
        1 server.started 820182500909090909090909090909090909090901
        2 proposal.made 82028250040404040404040404040404040404048244bbbbbbbb818265616c69636544aaaaaaaa
        3 proposal.withdrawn 8203815004040404040404040404040404040404
        4 command.enacted 8204818244bbbbbbbb818265616c69636544aaaaaaaa
        4 command.enacted 8204828244bbbbbbbb818265616c69636544aaaaaaaa5004040404040404040404040404040404
        5 partner.applied 82058185500101010101010101010101010101010100674578616d706c6501624652
        6 vet.opened 82068350020202020202020202020202020202025001010101010101010101010101010101820081845008080808080808080808080808080808f6011b0000019f06604400
        6 vet.opened 82068350020202020202020202020202020202025001010101010101010101010101010101820181825002020202020202020202020202020202815002020202020202020202020202020202
        6 vet.opened sha256 ba2d46847de14aeca3fe5b98a7ab5b02f8ad3c6ea99e2fce8a24ea2fff916410
        7 vet.employment_attested 820782500202020202020202020202020202020200
        8 token.created 82088450030303030303030303030303030303035820070707070707070707070707070707070707070707070707070707070707070750020202020202020202020202020202021b0000019f06604400
        9 cert.intended sha256 4987228f4fb30daf1fd08d034360521c679319018dbad964cfc97e1b3f2d1fc1
        9 cert.intended sha256 c08cbe723a8574b038c7179f20eb452f02a5052109a617b498231fe14e835281
        9 cert.intended sha256 1d351230d552d989507eeaf70b42b0431ad2897987eaae413e8a9d0b0950ca73
        9 cert.intended sha256 4a9d1cbb39ad11dfaac4829935a2e341e30696324526323122b2e75656dfdd9c
        10 cert.issued 820a8400199f6c44dddddddd58200707070707070707070707070707070707070707070707070707070707070707
        11 lineage.locked 820b815005050505050505050505050505050505
        12 ordinals.announced 820c81194e20
        13 ordinals.opened 820d81194e20
        14 barrier.finished 820e820a858161618161628161638161640c
        14 barrier.finished 820e820a868161618161628161638161640c82038205f6
        15 instant.passed 820f811b0000019f06604400
        16 snapshot.taken sha256 0f4e9e0f7a8b35a25ac856dbe62b2b25baf27822519492c406b5ee532310c919
        17 record.restored 821180
        18 restrictions.collected 82128362677782010a8182008105
        21 rotation.stepped 821583000a8201815005050505050505050505050505050505
        22 rotation.failed 821683010a6178
        23 announcement.passed 8217815006060606060606060606060606060606
        24 proposal.rejected 821818825004040404040404040404040404040404626e6f
        25 proposal.lapsed 821819825004040404040404040404040404040404820081820580
        25 proposal.lapsed 821819825004040404040404040404040404040404820180
        25 proposal.lapsed 821819825004040404040404040404040404040404820281626777
        26 recovery.announced 82181a8250040404040404040404040404040404048244bbbbbbbb81825820070707070707070707070707070707070707070707070707070707070707070744aaaaaaaa
        27 recovery.effective 82181b815004040404040404040404040404040404
        28 calls.sealed 82181c818507011864028158200707070707070707070707070707070707070707070707070707070707070707
        40 partner.screened sha256 81e52013b6361242add07ed9f9919cc60ef5b8900df88b8f41305457a4604ae6
        51 decisions.sealed 8218338185071b0000019f066044001864028158200707070707070707070707070707070707070707070707070707070707070707
        52 decisions.removed 821834818601031b0000019f066044001b0000019f066044001864f4
        ");
}

#[test]
fn an_events_number_is_the_one_in_its_encoding() {
    let events = [others(), waiting(), screened(), subjects(), intents()].concat();
    let mut numbers: Vec<_> = events.iter().map(Event::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..19).chain(21..29).chain([40, 51, 52]).collect::<Vec<_>>(), "one of each");
    for event in &events {
        let bytes = to_bytes(event);
        // From 24 on a number takes a byte of its own.
        let number = if bytes[1] == 0x18 { bytes[2] } else { bytes[1] };
        assert_eq!((bytes[0], u16::from(number)), (0x82, event.number()), "{}", event.name());
    }
}

#[test]
fn an_entry_and_a_mandate_keep_their_encoding() {
    let entry = Entry {
        event: Event::InstantPassed(AT),
        by: Some("alice".parse().unwrap()),
        request: Some(RequestId::from_bytes([1; 16])),
    };
    let mandate = Mandate {
        trust_domain: TRUST_DOMAIN.to_owned(),
        command: Command::ReleaseStop(StopScope::All),
        basis: vec![Basis { object: ObjectRef::Stop(StopScope::All), revision: Seq(9) }],
        made_at: AT,
    };
    let lines = [spelled(&entry), spelled(&mandate)];
    assert_lines(
        &lines,
        "
        83820f811b0000019f0660440065616c6963655001010101010101010101010101010101
        8473636f756e7465727369676e2e6578616d706c65820c818200808182820681820080091b0000019f06604400
        ",
    );
}

#[test]
fn genesis_keeps_its_encoding() {
    let mut genesis: Genesis = genesis();
    // Keys are made anew for each run of the tests.
    genesis.officers.iter_mut().for_each(|officer| officer.key = vec![0xee; 91]);
    assert_lines(
        &[spelled(&genesis)],
        "
        sha256 03afa40ccab2b8984e0ee553e07d0818b05a017bc02b6ede5f5bae2e9771fa12
        ",
    );
}
