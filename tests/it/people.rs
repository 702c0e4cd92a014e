//! Lists of people: each is taken once, by whoever acts for the entity, and grants nothing.

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::principal::Role;
use countersign::pb;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::refused;
use crate::world::World;

fn person(entity: EntityId, reference: &str) -> pb::ImportedPerson {
    pb::ImportedPerson {
        entity_id: entity.to_string(),
        reference: reference.to_owned(),
        relation: "EMPLOYEE".to_owned(),
        ..Default::default()
    }
}

fn batch(people: Vec<pb::ImportedPerson>) -> pb::ImportPeopleRequest {
    pb::ImportPeopleRequest { people, ..Default::default() }
}

async fn import(
    channel: &Channel,
    batches: Vec<pb::ImportPeopleRequest>,
) -> Result<pb::ImportPeopleResponse, Status> {
    let mut client = ProvisioningServiceClient::new(channel.clone());
    Ok(client.import_people(tokio_stream::iter(batches)).await?.into_inner())
}

fn outcomes(answer: &pb::ImportPeopleResponse) -> Vec<(&str, &str)> {
    answer.outcomes.iter().map(|one| (one.outcome.as_str(), one.reason.as_str())).collect()
}

const NOMINATED: (&str, &str) = ("NOMINATED", "");
const UNCHANGED: (&str, &str) = ("UNCHANGED", "");

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_taken_once_and_grants_nothing() {
    let world = World::start().await;
    let (one, two) = (world.partner().await, world.partner().await);
    let list = || {
        vec![
            batch(vec![person(one, "E-1"), person(one, "E-2")]),
            batch(vec![person(two, "E-1"), person(one, "E-1")]),
        ]
    };
    let before = world.running().app().state();
    let checked = list().into_iter().map(|batch| pb::ImportPeopleRequest { validate_only: true, ..batch });
    let checked = import(&world.alice(), checked.collect()).await.unwrap();
    assert_eq!(outcomes(&checked), [NOMINATED; 4], "batches are checked one by one");
    assert!(checked.outcomes.iter().all(|outcome| outcome.subject_id.is_empty()));
    assert!(*world.running().app().state() == *before, "a check changes nothing");

    let first = import(&world.alice(), list()).await.unwrap();
    assert_eq!(outcomes(&first), [NOMINATED, NOMINATED, NOMINATED, UNCHANGED]);
    assert_eq!(first.outcomes[0].subject_id, first.outcomes[3].subject_id);
    assert_eq!(first.position.unwrap().seq, before.position.seq.0 + 3);
    let again = import(&world.alice(), list()).await.unwrap();
    assert_eq!(outcomes(&again), [UNCHANGED; 4]);
    let ids = |answer: &pb::ImportPeopleResponse| {
        answer.outcomes.iter().map(|outcome| outcome.subject_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&again), ids(&first));
    assert_eq!(again.position, first.position, "nothing was recorded");
    let mut client = ProvisioningServiceClient::new(world.alice());
    let subject_id = first.outcomes[0].subject_id.clone();
    let token = pb::CreateTokenRequest { subject_id, ..Default::default() };
    refused(client.create_token(token).await, Code::FailedPrecondition, "NOMINATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_record_otherwise_is_attested_anew_only_by_a_roster() {
    let world = World::start().await;
    let entity = world.partner().await;
    let first = import(&world.alice(), vec![batch(vec![person(entity, "E-1")])]).await.unwrap();
    let id = first.outcomes[0].subject_id.clone();
    let until = "2027-03-31T00:00:00.000Z".to_owned();
    let quarter = |row: pb::ImportedPerson| pb::ImportedPerson { relation_until: until.clone(), ..row };
    let rows = vec![quarter(person(entity, "E-1"))];
    let refused = import(&world.alice(), vec![batch(rows.clone())]).await.unwrap();
    assert_eq!(outcomes(&refused), [("REFUSED", "CONFLICT")]);
    let roster = pb::ImportPeopleRequest { attest: true, ..batch(rows) };
    let attested = import(&world.alice(), vec![roster.clone()]).await.unwrap();
    assert_eq!(outcomes(&attested), [("ATTESTED", "")]);
    let state = world.running().app().state();
    let subject: SubjectId = id.parse().unwrap();
    assert_eq!(state.subjects[&subject].employment().unwrap().relation_until, until.parse().ok());
    assert_eq!(outcomes(&import(&world.alice(), vec![roster]).await.unwrap()), [UNCHANGED]);
    // By the name of the subject it is the same person, and one batch names a person once.
    let by_id =
        quarter(pb::ImportedPerson { reference: String::new(), subject_id: id, ..person(entity, "") });
    let both =
        import(&world.alice(), vec![batch(vec![by_id, quarter(person(entity, "E-1"))])]).await.unwrap();
    assert_eq!(outcomes(&both), [UNCHANGED, ("REFUSED", "CONFLICT")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_brings_its_own_people_and_learns_of_no_others() {
    let world = World::start().await;
    let (own, other) = (world.partner().await, world.partner().await);
    import(&world.alice(), vec![batch(vec![person(other, "E-1")])]).await.unwrap();
    let theirs = world.running().app().state().subjects.values().find(|s| s.entity == other).unwrap().id;
    let admin =
        world.principal("partner-1", (PrincipalKind::Partner, &[Role::PartnerAdmin]), Some(own)).await;
    let channel = world.connect_as(&admin).await;
    let nobody = "ent_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let by_id = |id: String| pb::ImportedPerson { subject_id: id, ..person(own, "") };
    let rows = vec![
        person(other, "E-1"),
        person(nobody, "E-1"),
        by_id(theirs.to_string()),
        by_id("sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()),
        person(own, "E-1"),
    ];
    for attest in [false, true] {
        let answer =
            import(&channel, vec![pb::ImportPeopleRequest { attest, ..batch(rows.clone()) }]).await.unwrap();
        let [existing, none, hers, unknown, mine] = answer.outcomes.as_slice() else { panic!("{answer:?}") };
        assert_eq!((existing, hers), (none, unknown), "the same answer");
        assert_eq!((existing.reason.as_str(), existing.subject_id.as_str()), ("NOT_FOUND", ""));
        assert_eq!(mine.outcome, if attest { "UNCHANGED" } else { "NOMINATED" });
    }
    // It nominates and never approves.
    let mut mandates = pb::mandate_service_client::MandateServiceClient::new(channel.clone());
    let submit = mandates.submit_mandate(pb::SubmitMandateRequest::default()).await;
    refused(submit, Code::PermissionDenied, "");
    // An officer without the role brings nobody.
    let auditor = world.principal("carol", (PrincipalKind::Officer, &[Role::Auditor]), None).await;
    let carol = world.connect_as(&auditor).await;
    refused(import(&carol, vec![batch(vec![person(own, "E-9")])]).await, Code::PermissionDenied, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_wrong_is_refused_alone_and_too_many_are_refused_together() {
    let world = World::start().await;
    let entity = world.partner().await;
    let good = person(entity, "E-1");
    let wrong = [
        person(entity, "two words"),
        person(entity, "\u{0415}-1"),
        person(entity, &"x".repeat(65)),
        person(entity, ""),
        pb::ImportedPerson { relation: "BOSS".to_owned(), ..person(entity, "E-2") },
        pb::ImportedPerson { relation_until: "soon".to_owned(), ..person(entity, "E-3") },
        pb::ImportedPerson { entity_id: "Acme".to_owned(), ..person(entity, "E-4") },
        pb::ImportedPerson {
            subject_id: "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            ..person(entity, "E-5")
        },
    ];
    let rows = wrong.iter().cloned().chain([good.clone()]).collect();
    let answer = import(&world.alice(), vec![batch(rows)]).await.unwrap();
    let (last, refusals) = answer.outcomes.split_last().unwrap();
    assert_eq!(last.outcome, "NOMINATED");
    assert_eq!(refusals.len(), wrong.len());
    assert!(refusals.iter().all(|one| one.reason == "INVALID" && !one.message.is_empty()), "{refusals:?}");
    let many = (0..1_001).map(|n| person(entity, &format!("M-{n}"))).collect();
    refused(import(&world.alice(), vec![batch(many)]).await, Code::InvalidArgument, "at most 1000");
    let batches = vec![batch(vec![good]); 17];
    refused(import(&world.alice(), batches).await, Code::InvalidArgument, "at most 16 batches");
    let state = world.running().app().state();
    assert_eq!(state.subjects.values().filter(|subject| subject.entity == entity).count(), 1);
}
