//! Screening lists over the wire: they are uploaded, imported by signature, and compared with every entity by itself.

use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::id::{Digest, EntityId};
use countersign::domain::principal::Role;
use countersign::domain::screening::{MatchVerdict, SCORE_MIN, ScreeningList};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::screening_service_client::ScreeningServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{apply, denied, enrolled, key, refused};
use crate::gate::{self, STRONG, permits, question, until};
use crate::metrics::{page, value};
use crate::world::World;

/// The service looks once a second; a busy machine may need many times that.
const LOOKS: u32 = 1_500;
const LOOK: Duration = Duration::from_millis(20);

const HEADER: &str = "_id,source,entity_number,type,programs,name,title,addresses,federal_register_notice,start_date,\
    end_date,standard_order,license_requirement,license_policy,call_sign,vessel_type,gross_tonnage,\
    gross_registered_tonnage,vessel_flag,vessel_owner,remarks,source_list_url,alt_names,citizenships,dates_of_birth,\
    nationalities,places_of_birth,source_information_url,ids\n";

/// A published CSV with these entries: id, name, alternative names.
pub(crate) fn csv(rows: &[(&str, &str, &str)]) -> String {
    let row = |(id, name, alt): &(&str, &str, &str)| {
        format!(
            "{id},Entity List (EL) - Bureau of Industry and Security,,Entity,,{name},,\"Town, CN\",84 FR 1,2019-05-21\
             ,,,,,,,,,,,,https://example.gov,{alt},,,,,https://example.gov,\n"
        )
    };
    format!("{HEADER}{}", rows.iter().map(row).collect::<String>())
}

/// One name of ours is close to, and enough others.
fn list_with(close: &[(&str, &str, &str)]) -> String {
    let far = (0..20).map(|n| (format!("f{n}"), format!("Faraway{n} Shipping"))).collect::<Vec<_>>();
    let mut rows = close.to_vec();
    rows.extend(far.iter().map(|(id, name)| (id.as_str(), name.as_str(), "")));
    csv(&rows)
}

async fn upload(channel: Channel, text: &str) -> Result<pb::UploadListResponse, Status> {
    let parts =
        text.as_bytes().chunks(1_000).map(|part| pb::UploadListRequest { part: part.to_vec().into() });
    let parts = tokio_stream::iter(parts.collect::<Vec<_>>());
    Ok(ScreeningServiceClient::new(channel).upload_list(parts).await?.into_inner())
}

fn list_of(world: &World, version: &str, text: &str, entries: u32) -> ScreeningList {
    ScreeningList {
        version: version.to_owned(),
        date: world.clock.now(),
        file: Digest::of(text.as_bytes()),
        entries,
        score_min: SCORE_MIN,
    }
}

/// Uploads a list, makes it the newest, and waits until everybody is compared with it.
async fn import(world: &World, version: &str, text: &str) {
    let uploaded = upload(world.alice(), text).await.unwrap();
    assert_eq!((uploaded.format.as_str(), uploaded.file), ("CSV", Digest::of(text.as_bytes()).to_string()));
    let list = list_of(world, version, text, uploaded.entries);
    world.enact(Command::ImportScreeningList { list, shrinks: false }).await.unwrap();
    compared(world).await;
}

async fn standing(world: &World) -> pb::GetScreeningResponse {
    let mut client = ScreeningServiceClient::new(world.alice());
    client.get_screening(pb::GetScreeningRequest {}).await.unwrap().into_inner()
}

async fn compared(world: &World) {
    for _ in 0..LOOKS {
        let standing = standing(world).await;
        if standing.waiting == 0 && !standing.file_missing {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("entities are never compared: {:?}", standing(world).await);
}

async fn matches(world: &World, entity: EntityId) -> Vec<pb::ScreeningMatch> {
    let request = pb::ListMatchesRequest { entity_id: entity.to_string(), ..Default::default() };
    ScreeningServiceClient::new(world.alice()).list_matches(request).await.unwrap().into_inner().matches
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_matches_are_no_longer_than_was_asked_for_and_miss_none() {
    let world = World::start().await;
    let (entity, ..) = enrolled(&world).await;
    let listed = [("a1", "Partnex Ltd.", ""), ("a2", "Partner Ltd.", ""), ("a3", "Partnerx Ltd.", "")];
    import(&world, "csl-1", &list_with(&listed)).await;
    let all = matches(&world, entity).await;
    assert_eq!(all.len(), 3, "{all:?}");
    let mut client = ScreeningServiceClient::new(world.alice());
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListMatchesRequest { page_size: 1, page_token, ..Default::default() };
        let page = client.list_matches(request).await.unwrap().into_inner();
        assert_eq!(page.matches.len(), 1);
        paged.extend(page.matches);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    let request = pb::ListMatchesRequest { page_token: "1".to_owned(), ..Default::default() };
    refused(client.list_matches(request).await, Code::InvalidArgument, "page_token");
}

fn resolve(entity: EntityId, found: &pb::ScreeningMatch, verdict: MatchVerdict) -> Command {
    Command::ResolveScreeningMatch {
        entity,
        entry: found.entry.parse().unwrap(),
        score: u8::try_from(found.score).unwrap(),
        verdict,
        reason: "another registry number".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_36_a_hit_of_the_list_denies_until_it_is_resolved_and_the_same_entry_does_not_reopen() {
    let world = World::start().await;
    let (entity, _, caller) = enrolled(&world).await;
    assert!(world.mythos(&caller.certificate).await.permit);
    import(&world, "csl-1", &list_with(&[("a1", "Partnex Ltd.", "")])).await;
    denied(&world.mythos(&caller.certificate).await, "SCREENING_PENDING");
    let found = matches(&world, entity).await;
    let [hit] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (hit.source.as_str(), hit.listed_name.as_str(), hit.result.as_str()),
        ("EL", "Partnex Ltd.", "UNRESOLVED")
    );
    assert!(hit.explanation.contains("partner is close to partnex"), "{}", hit.explanation);
    assert!(hit.explanation.ends_with("country another, -3"), "{}", hit.explanation);
    assert!((82..95).contains(&hit.score), "{}", hit.score);
    // Who applies now is compared at once, and does not become a partner.
    let applicant = world.applicant().await;
    compared(&world).await;
    let refusal = world.enact(Command::ActivateEntity(applicant)).await;
    refused(refusal, Code::FailedPrecondition, "SCREENING_PENDING");
    let theirs = matches(&world, applicant).await;
    world.enact(resolve(applicant, &theirs[0], MatchVerdict::FalsePositive)).await.unwrap();
    world.enact(Command::ActivateEntity(applicant)).await.unwrap();
    // Cleared with a reason.
    let unreasoned = match resolve(entity, hit, MatchVerdict::FalsePositive) {
        Command::ResolveScreeningMatch { entity, entry, score, verdict, .. } => {
            Command::ResolveScreeningMatch { entity, entry, score, verdict, reason: String::new() }
        }
        other => other,
    };
    refused(world.enact(unreasoned).await, Code::InvalidArgument, "reason");
    world.enact(resolve(entity, hit, MatchVerdict::FalsePositive)).await.unwrap();
    assert!(world.mythos(&caller.certificate).await.permit);
    // The same entry under another id in the next version is not asked about again; one that says something else is.
    import(&world, "csl-2", &list_with(&[("z9", "Partnex Ltd.", "")])).await;
    assert!(world.mythos(&caller.certificate).await.permit);
    let kept = matches(&world, entity).await;
    assert_eq!(
        (kept.len(), kept[0].verdict.as_str(), kept[0].list_version.as_str()),
        (1, "FALSE_POSITIVE", "csl-1")
    );
    import(&world, "csl-3", &list_with(&[("z9", "Partnex Ltd.", "Partner Export")])).await;
    denied(&world.mythos(&caller.certificate).await, "SCREENING_PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_37_a_list_that_is_too_old_denies_until_the_next_one_is_imported() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let text = list_with(&[]);
    import(&world, "csl-1", &text).await;
    assert!(world.mythos(&caller.certificate).await.permit);
    world.clock.advance_ms(3 * 86_400_000);
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "SCREENING_STALE").await;
    let standing = standing(&world).await;
    assert_eq!((standing.list_version.as_str(), standing.open_matches), ("csl-1", 0));
    assert!(standing.fresh_until <= world.clock.now().to_string(), "{standing:?}");
    import(&world, "csl-2", &text).await;
    world.redeem(&token, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_match_is_denied_at_the_gates_at_once() {
    let (world, leaf) = gate::world_with_employee().await;
    let entity = world.facts(&leaf).entity.entity;
    let gate = gate::gate(&world, "gw-1", STRONG, &world.clock).await;
    gate.decide_or_ask(&leaf, &question("mythos-5")).await;
    until(&gate, &leaf, permits).await;
    import(&world, "csl-1", &list_with(&[("a1", "Partnex Ltd.", "")])).await;
    until(&gate, &leaf, |gate, leaf| {
        gate.decide(leaf, &question("mythos-5")).decision.denials.first() == Some(&Denial::ScreeningPending)
    })
    .await;
    let found = matches(&world, entity).await;
    world.enact(resolve(entity, &found[0], MatchVerdict::Confirmed)).await.unwrap();
    until(&gate, &leaf, |gate, leaf| {
        gate.decide(leaf, &question("mythos-5")).decision.denials.first() == Some(&Denial::PartyDenied)
    })
    .await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_list_changes_nothing_and_says_what_was_expected() {
    let world = World::start().await;
    let whole = list_with(&[]);
    for (text, says) in [
        ("<html><body>moved</body></html>", "expected is consolidated.csv"),
        (&whole[..whole.len() - 5], "truncated"),
        (&HEADER.replace("alt_names", "aliases"), "unknown column \"aliases\""),
        ("", "empty"),
    ] {
        refused(upload(world.alice(), text).await, Code::InvalidArgument, says);
    }
    let list = list_of(&world, "csl-1", &whole, 20);
    let import = |list: ScreeningList| Command::ImportScreeningList { list, shrinks: false };
    refused(world.enact(import(list.clone())).await, Code::FailedPrecondition, "not at this server");
    upload(world.alice(), &whole).await.unwrap();
    let other = ScreeningList { entries: 21, ..list.clone() };
    refused(world.enact(import(other)).await, Code::InvalidArgument, "the file has 20");
    // Only a vetter uploads.
    let auditor = world.principal("carol", (PrincipalKind::Officer, &[Role::Auditor]), None).await;
    let carol = world.connect_as(&auditor).await;
    refused(upload(carol, &whole).await, Code::PermissionDenied, "");
    assert_eq!(standing(&world).await.list_version, "");
    world.enact(import(list)).await.unwrap();
    compared(&world).await;
    // A list with far fewer entries needs two who say so.
    let short = csv(&[("f0", "Faraway0 Shipping", "")]);
    upload(world.alice(), &short).await.unwrap();
    let list = list_of(&world, "csl-2", &short, 1);
    refused(world.enact(import(list.clone())).await, Code::Aborted, "more than 10 %");
    world.enact(Command::ImportScreeningList { list, shrinks: true }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_list_is_read_again_and_without_its_file_nobody_is_cleared() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.metrics = "127.0.0.1:0".parse().ok();
    world.open().await;
    let text = list_with(&[("a1", "Partnex Ltd.", "")]);
    import(&world, "csl-1", &text).await;
    world.close().await;
    world.open().await;
    let before = world.applicant().await;
    compared(&world).await;
    assert_eq!(matches(&world, before).await.len(), 1);
    world.close().await;
    let file = world.dir.path().join("screening").join(format!("{}.list", Digest::of(text.as_bytes())));
    let changed = text.replace("Partnex", "Nothing");
    std::fs::write(&file, changed).unwrap();
    world.open().await;
    let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let after = client.apply_entity(apply("Partner Trading Inc.")).await.unwrap().into_inner().entity_id;
    let after: EntityId = after.parse().unwrap();
    refused(world.enact(Command::ActivateEntity(after)).await, Code::FailedPrecondition, "not compared");
    let page = page(&world).await;
    assert_eq!(value(&page, "countersign_screening_list_missing"), 1.0);
    assert_eq!(value(&page, "countersign_screening_waiting"), 1.0);
    assert_eq!(value(&page, "countersign_screening_open_matches"), 1.0);
    // The same file again is all it takes.
    upload(world.alice(), &text).await.unwrap();
    compared(&world).await;
    world.enact(Command::ActivateEntity(after)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_takes_none_of_the_room_that_is_kept_for_the_record_and_leaves_nothing_when_it_ends_early()
{
    let world = World::start().await;
    let low_water = world.settings.low_water;
    let disk = countersign::journal::faulty::DiskFaults::at(&world.dir.path().join("journal"));
    let text = list_with(&[]);
    let files = || {
        let entries = std::fs::read_dir(world.dir.path().join("screening"));
        entries.map_or(0, |entries| entries.filter(|entry| entry.is_ok()).count())
    };
    // Under the mark, and when the next part would get under it.
    for free in [low_water - 1, low_water + 999] {
        disk.leave_free(Some(free));
        refused(upload(world.alice(), &text).await, Code::Unavailable, "the disk is almost full");
        assert_eq!(files(), 0);
    }
    disk.leave_free(Some(low_water + 1_000));
    upload(world.alice(), &text).await.unwrap();
    disk.leave_free(None);
    assert_eq!(files(), 1);
    // Whoever leaves in the middle leaves nothing, and the place is free for the next.
    let (parts, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = ScreeningServiceClient::new(world.alice());
    let call = tokio::spawn(async move {
        client.upload_list(tokio_stream::wrappers::ReceiverStream::new(receiver)).await.map(drop)
    });
    parts.send(pb::UploadListRequest { part: text.as_bytes()[..100].to_vec().into() }).await.unwrap();
    eventually(|| files() == 2).await;
    call.abort();
    eventually(|| files() == 1).await;
    upload(world.alice(), &text).await.unwrap();
}

async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if holds() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("it never is");
}
