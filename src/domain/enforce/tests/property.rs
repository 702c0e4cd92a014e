//! The property that gateways rest on: whatever happened, a gateway's own decision is the server's, or it asks.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::domain::certificate::{AuthorityKind, Certificate};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, SubjectDecision};
use crate::domain::decision::{Decision, StateFault};
use crate::domain::enforce::{Chain, Request, decide};
use crate::domain::entity::{Organisation, Screening, ScreeningResult};
use crate::domain::grant::Grant;
use crate::domain::id::{
    AnnouncementId, AuthorityId, Digest, EntityId, GrantId, LicenseId, Ordinal, PersonId, SubjectId,
};
use crate::domain::license::License;
use crate::domain::model::AccessForm;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::state::State;
use crate::domain::subject::{Employment, SubjectBody, Workload};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::{Interval, Now, Timestamp};

const REASON: RevocationReason = RevocationReason::Drill;
const MODELS: [&str; 5] = ["mythos-5", "fable-5", "mythos-5-defender", "sonata-4", "no-such-model"];

/// One step: what, and three numbers that pick on whom and how.
type Step = (u8, u8, u8, u8);

/// A world under random steps, with every certificate that was ever issued in it.
struct Run {
    world: World,
    entities: Vec<EntityId>,
    subjects: Vec<SubjectId>,
    certificates: Vec<Certificate>,
}

fn pick<T: Copy>(from: &[T], number: u8) -> Option<T> {
    from.get(usize::from(number) % from.len().max(1)).copied()
}

impl Run {
    fn new() -> Self {
        let (mut world, member) = World::with_member();
        let firm = world.partner(Organisation::Us);
        let abroad = world.partner(Organisation::Foreign);
        world.now = world.now.plus_ms(5_000);
        let mut run = Self {
            world,
            entities: vec![member, PROVIDER, firm, abroad],
            subjects: vec![],
            certificates: vec![],
        };
        for (entity, status) in
            [(member, FOREIGN), (member, US), (PROVIDER, FOREIGN), (firm, US), (abroad, US)]
        {
            let person = run.world.person(entity, status, EMPLOYEE);
            run.subjects.push(person);
        }
        let job = run.world.workload(member, &run.subjects[..2]);
        let own_job = run.world.workload(PROVIDER, &run.subjects[2..3]);
        run.subjects.extend([job, own_job]);
        for subject in run.subjects.clone() {
            run.certificates.extend(run.world.enroll(subject));
        }
        run
    }

    /// Takes a step, which the record may refuse.
    fn step(&mut self, (what, a, b, c): Step) {
        self.world.now = self.world.now.plus_ms(i64::from(c) * 1_000);
        let entity = pick(&self.entities, a).unwrap();
        let subject = pick(&self.subjects, b).unwrap();
        match what % 28 {
            0..=3 => self.certificates.extend(self.world.enroll(subject)),
            4 => {
                if let Some(before) = self.certificates.get(usize::from(b)).cloned() {
                    self.certificates.extend(self.world.renew(&before));
                }
            }
            5 | 6 => self.nominate(entity, a, b, c),
            7 => self.command(Command::ActivateEntity(entity)),
            8 | 9 => self.attest(subject, a, c),
            10 | 11 => self.decide_subject(subject, a, c),
            12 => {
                let determination = self.world.amendment(&[entity], &[]);
                let removal = self.world.amendment(&[], &[entity]);
                self.command(if c.is_multiple_of(2) { determination } else { removal });
            }
            13 => self.command(self.suspension(entity, subject, c)),
            14 => self.command(self.stop(entity, subject, c)),
            15 => self.command(self.revocation(entity, subject, c)),
            16 => self.command(self.hold(b, c)),
            17 => self.command(self.license(entity, subject, b, c)),
            18 => self.command(self.grant(entity, b, c)),
            19 => self.command(self.screening(entity, c)),
            20 => {
                let until = self.world.now.plus_ms((i64::from(b) - 20) * 600_000);
                let reverify_due = (c.is_multiple_of(3)).then_some(until);
                self.command(Command::RecordSafeguards { entity, until, reverify_due });
            }
            21 if c.is_multiple_of(8) => self.command(Command::RemoveEntity { entity, reason: REASON }),
            22 => {
                let parts = if c.is_multiple_of(2) { sample_parts() } else { rescinded_parts() };
                self.command(Command::AdoptPolicy(Box::new(parts)));
            }
            23 => self.command(self.block(b, c)),
            24 | 25 => self.command(self.rotation(a, b, c)),
            26 | 27 => self.command(self.announcement(entity, subject, b, c)),
            _ => self.world.now = self.world.now.plus_ms(i64::from(c) * 900_000),
        }
    }

    /// The record may refuse it.
    fn command(&mut self, command: Command) {
        let _ = self.world.try_go(command);
    }

    fn nominate(&mut self, entity: EntityId, a: u8, b: u8, c: u8) {
        let of_entity = |id: &&SubjectId| self.world.state.subjects[*id].entity == entity;
        let body = if c.is_multiple_of(3) {
            let people = self.subjects.iter().filter(of_entity);
            let people = people.filter(|id| self.world.state.subjects[*id].employment().is_some());
            let operators: Vec<_> = people.copied().skip(usize::from(b) % 2).take(2).collect();
            let Some(owner) = operators.first().copied() else { return };
            SubjectBody::Workload(Workload { owner, operators })
        } else {
            let relation = pick(Relation::ALL, b).unwrap();
            let person = PersonId::from_bytes([a % 4; 16]);
            let employment = Employment { person, vetting: None, relation, relation_until: None };
            SubjectBody::Human(employment)
        };
        let is_human = matches!(body, SubjectBody::Human(_));
        let Ok(subject) = self.world.nominate(entity, body) else { return };
        self.subjects.push(subject);
        if is_human {
            self.decide_subject(subject, c, 1);
        } else {
            let decision = SubjectDecision::Approve { vetting: None, reverify_due: None };
            self.command(Command::DecideSubject { subject, decision });
        }
        self.certificates.extend(self.world.enroll(subject));
    }

    fn attest(&mut self, subject: SubjectId, a: u8, c: u8) {
        let relation = pick(&[EMPLOYEE, EMPLOYEE, Relation::Contractor, Relation::None], a).unwrap();
        let until = (c.is_multiple_of(2)).then(|| self.world.now.plus_ms(i64::from(c) * 300_000));
        let event = crate::domain::event::Event::RelationAttested { subject, relation, until };
        let _ = self.world.record(entry(event));
    }

    fn decide_subject(&mut self, subject: SubjectId, a: u8, c: u8) {
        let is_human = self.world.state.subjects[&subject].employment().is_some();
        let status = pick(PersonStatus::ALL, a).unwrap();
        let vetting = is_human.then(|| self.world.vetting(status));
        let reverify_due = (c.is_multiple_of(4)).then(|| self.world.now.plus_ms(i64::from(c) * 600_000));
        let decision = match c % 7 {
            6 => SubjectDecision::Refuse,
            _ => SubjectDecision::Approve { vetting, reverify_due },
        };
        self.command(Command::DecideSubject { subject, decision });
    }

    fn suspension(&self, entity: EntityId, subject: SubjectId, c: u8) -> Command {
        let target =
            if c % 4 < 2 { SuspensionTarget::Entity(entity) } else { SuspensionTarget::Subject(subject) };
        match c % 2 {
            0 => Command::Suspend { target, reason: REASON },
            _ => Command::Unsuspend(target),
        }
    }

    fn stop(&self, entity: EntityId, subject: SubjectId, c: u8) -> Command {
        let engaged: Vec<_> = self.world.state.enforcement.stops.iter().cloned().collect();
        if c.is_multiple_of(2)
            && let Some(scope) = engaged.first()
        {
            return Command::ReleaseStop(scope.clone());
        }
        let scope = match c % 10 {
            1 => StopScope::All,
            3 => StopScope::Entity(entity),
            5 => StopScope::Subject(subject),
            7 => StopScope::Issuer(ACCESS_CA),
            _ => StopScope::Model(model("mythos-5")),
        };
        Command::Stop { scope, reason: REASON }
    }

    fn revocation(&self, entity: EntityId, subject: SubjectId, c: u8) -> Command {
        let lift = || LIFT.parse().unwrap();
        let scope = match c % 7 {
            0 => RevocationScope::Certificate(Ordinal(u64::from(c % 16))),
            1 => RevocationScope::Subject(subject),
            2 => RevocationScope::Person(PersonId::from_bytes([c % 4; 16])),
            3 => RevocationScope::Entity(entity),
            4 => RevocationScope::Determination(lift()),
            5 => RevocationScope::AnnexRevision(lift(), u32::from(c % 4)),
            _ => RevocationScope::Lineage(
                self.world.state.lineages.keys().nth(usize::from(c) % 8).copied().unwrap_or(LINEAGE),
            ),
        };
        Command::Revoke { scope, reason: REASON }
    }

    /// Announced more often than moved; around the instants that are asked about.
    fn announcement(&self, entity: EntityId, subject: SubjectId, b: u8, c: u8) -> Command {
        let id = AnnouncementId::from_bytes([b % 4; 16]);
        let cut_at = self.world.now.plus_ms(i64::from(b) * 1_800_000);
        match c % 5 {
            0 => Command::HastenRevocation { announcement: id, cut_at },
            1 => Command::PostponeRevocation {
                announcement: id,
                cut_at: (!b.is_multiple_of(3)).then_some(cut_at),
            },
            _ => {
                let scope = match self.revocation(entity, subject, b) {
                    Command::Revoke { scope, .. } if !c.is_multiple_of(4) => scope,
                    _ => RevocationScope::Issuer(ACCESS_CA),
                };
                Command::AnnounceRevocation { id, scope, cut_at, reason: REASON }
            }
        }
    }

    /// A step of a rotation: prepared and activated more often than taken away.
    fn rotation(&self, a: u8, b: u8, c: u8) -> Command {
        let ids: Vec<_> = self.world.state.authorities.keys().copied().collect();
        let id = pick(&ids, b).unwrap();
        let kind = pick(&[AuthorityKind::Access, AuthorityKind::Access, AuthorityKind::System], a).unwrap();
        match c % 12 {
            0..=3 => Command::PrepareAuthority(new_authority(AuthorityId::from_bytes([a; 16]), kind)),
            4..=7 => Command::ActivateAuthority(id),
            8 => Command::TaintAuthority { authority: id, reason: REASON },
            9 => Command::RollbackAuthority(id),
            10 => Command::RetireAuthority(id),
            _ => Command::RevokeAuthority { authority: id, reason: REASON },
        }
    }

    fn hold(&self, b: u8, c: u8) -> Command {
        let ordinal = Ordinal(u64::from(b % 16));
        if c.is_multiple_of(2) {
            Command::Hold { ordinal, reason: REASON }
        } else {
            Command::ReleaseHold(ordinal)
        }
    }

    fn block(&self, b: u8, c: u8) -> Command {
        let key = pick(&self.certificates.iter().map(|certificate| certificate.key).collect::<Vec<_>>(), b);
        let key = key.unwrap_or(Digest([b; 32]));
        match c % 2 {
            0 => Command::BlockKey { key, reason: REASON },
            _ => Command::UnblockKey(key),
        }
    }

    fn license(&self, holder: EntityId, subject: SubjectId, b: u8, c: u8) -> Command {
        let until = (c.is_multiple_of(2)).then(|| self.world.now.plus_ms(i64::from(b) * 600_000));
        let id: LicenseId = format!("d{}", b % 3).parse().unwrap();
        Command::RegisterLicense(License {
            id,
            holder,
            subjects: if c.is_multiple_of(3) { vec![subject] } else { Vec::new() },
            models: vec![model("mythos-5")],
            countries: vec![country("FR")],
            purposes: if c.is_multiple_of(5) { vec!["cyber-defense".parse().unwrap()] } else { Vec::new() },
            interval: Interval { from: self.world.now, until },
            provisos_met: !c.is_multiple_of(7),
            reports: None,
        })
    }

    fn grant(&self, entity: EntityId, b: u8, c: u8) -> Command {
        let held = &self.world.state.entities[&entity].card.grants;
        if c.is_multiple_of(3)
            && let Some(held) = held.get(usize::from(b) % held.len().max(1))
        {
            return Command::EndGrant { entity, grant: held.id };
        }
        let until = (c.is_multiple_of(4)).then(|| self.world.now.plus_ms(i64::from(b) * 600_000));
        let grant = Grant {
            id: GrantId::from_bytes([b; 16]),
            interval: Interval { from: self.world.now, until },
            forms: if c.is_multiple_of(2) { vec![AccessForm::Weights] } else { Vec::new() },
            countries: if !c.is_multiple_of(5) { vec![country("FR")] } else { Vec::new() },
            purposes: if c.is_multiple_of(7) { vec!["cyber-defense".parse().unwrap()] } else { Vec::new() },
            ..grant(0, MODELS[usize::from(b) % 4])
        };
        Command::GrantModel { entity, grant }
    }

    fn screening(&self, entity: EntityId, c: u8) -> Command {
        let result = match c % 6 {
            0 => ScreeningResult::Unresolved,
            1 => ScreeningResult::Confirmed,
            _ => ScreeningResult::Clear,
        };
        let list_date = self.world.now.plus_ms(-i64::from(c) * 1_200_000);
        let screening = Screening { list_date, ..self.world.screening(result) };
        Command::RecordScreening { entity, screening, reason: "random".to_owned() }
    }
}

const LINEAGE: crate::domain::id::LineageId = crate::domain::id::LineageId::from_bytes([0; 16]);

fn request(run: &Run, (a, b, c, d): Step) -> Request<'static> {
    let place = match a % 5 {
        0..=2 => Place::Us,
        3 => place("FR"),
        _ => place(["", "DE", "IR"][usize::from(b) % 3]),
    };
    let hops = match b % 6 {
        0 => pick(&run.entities, d).into_iter().collect(),
        1 if d.is_multiple_of(8) => vec![EntityId::from_bytes([0xee; 16])],
        _ => Vec::new(),
    };
    Request {
        model: MODELS[usize::from(c) % MODELS.len()],
        form: if d.is_multiple_of(9) { AccessForm::Weights } else { AccessForm::Inference },
        place,
        serving: if a.is_multiple_of(11) { place } else { Place::Us },
        purpose: (d.is_multiple_of(3)).then(|| "cyber-defense".parse().unwrap()),
        chain: Chain { hops, end_user_identified: c.is_multiple_of(2) },
    }
}

/// The instants at which an answer may change: now, and around the ends of the certificate.
fn instants(run: &Run, certificate: &Certificate, step: Step) -> [Timestamp; 3] {
    let now = run.world.now;
    let later = now.plus_ms(i64::from(step.0) * 1_800_000);
    [now, later, certificate.not_after.plus_ms((i64::from(step.1 % 5) - 2) * 500)]
}

/// The property for one certificate and request.
fn agree(
    state: &State,
    holds_cards: bool,
    certificate: &Certificate,
    request: &Request<'_>,
    now: Now,
) -> Result<(), TestCaseError> {
    let gate = if holds_cards { project_all(state) } else { project(state) };
    let server = decide(state, None, Ok(certificate), request, now);
    let own = decide(&gate, None, Ok(certificate), request, now);
    prop_assert!(!server.ask_server, "the server asks nobody");
    let known = Decision { ask_server: false, ..own.clone() };
    if own.ask_server {
        prop_assert!(!holds_cards || own != server, "asked in vain is allowed, but then not a permit");
    } else {
        prop_assert_eq!(&known, &server, "{:?} by {:?}", request, certificate);
    }
    // Whoever does not ask when it should, or gets no answer, still permits nothing that the server denies.
    prop_assert!(own.ask_server || !own.is_permit() || server.is_permit());
    let stale = decide(&gate, Some(StateFault::StaleView), Ok(certificate), request, now);
    prop_assert!(!stale.is_permit() && !stale.ask_server && stale.code() == "STALE_VIEW");
    Ok(())
}

fn check(steps: &[Step], requests: &[Step]) -> Result<(), TestCaseError> {
    let mut run = Run::new();
    for step in steps {
        run.step(*step);
    }
    let state = &run.world.state;
    prop_assert_eq!(run.world.gate.digest, state.feed_digest);
    prop_assert!(run.world.gate.enforcement == state.enforcement);
    let read: State = from_bytes(&to_bytes(state)).unwrap();
    prop_assert!(&read == state, "a snapshot is the state");
    for certificate in &run.certificates {
        for step in requests {
            let request = request(&run, *step);
            for at in instants(&run, certificate, *step) {
                for now in [Now::exactly(at), Now::with_margin(at)] {
                    agree(state, true, certificate, &request, now)?;
                    agree(state, false, certificate, &request, now)?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_gateway_decides_as_the_server_or_asks(
        steps in prop::collection::vec(any::<Step>(), 0..40),
        requests in prop::collection::vec(any::<Step>(), 8),
    ) {
        check(&steps, &requests)?;
    }
}
