use std::sync::Arc;

use super::{assert_lines, spelled};
use crate::domain::announcement::{Announcement, Cut};
use crate::domain::authority::{AuthorityCard, AuthorityState};
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::to_bytes;
use crate::domain::enforce::{EnforcementEvent, chain};
use crate::domain::id::{AnnouncementId, AuthorityId, Digest, EntityId, LineageId, Ordinal, Seq, SubjectId};
use crate::domain::revocation::{OrdinalRange, StopScope, SuspensionTarget};
use crate::domain::tests::fixtures::{LIFT, model, sample};
use crate::domain::time::Timestamp;

const ENTITY: EntityId = EntityId::from_bytes([1; 16]);
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);
const ISSUER: AuthorityId = AuthorityId::from_bytes([3; 16]);

#[test]
fn every_event_of_the_feed_keeps_its_encoding() {
    let lineage = LineageId::from_bytes([4; 16]);
    let (small, large) = (Ordinal(7), Ordinal(1 << 40));
    let stops = [
        StopScope::All,
        StopScope::Model(model("mythos-5")),
        StopScope::Entity(ENTITY),
        StopScope::Subject(SUBJECT),
        StopScope::Issuer(ISSUER),
    ];
    let events = [
        EnforcementEvent::CertificateRevoked(small),
        EnforcementEvent::LineageLocked(lineage),
        EnforcementEvent::SubjectsCut { subjects: vec![SUBJECT, SUBJECT], cutoff: small },
        EnforcementEvent::EntityCut { entity: ENTITY, cutoff: large },
        EnforcementEvent::IssuerRevoked(ISSUER),
        EnforcementEvent::StopReleased(StopScope::All),
        EnforcementEvent::Suspended(SuspensionTarget::Entity(ENTITY)),
        EnforcementEvent::Suspended(SuspensionTarget::Subject(SUBJECT)),
        EnforcementEvent::Unsuspended(SuspensionTarget::Entity(ENTITY)),
        EnforcementEvent::Held(small),
        EnforcementEvent::HoldReleased(small),
        EnforcementEvent::CeilingRaised(large),
        EnforcementEvent::PolicyAdopted(Arc::new(sample())),
        EnforcementEvent::DeterminationCut {
            determination: LIFT.parse().unwrap(),
            annex_revision: None,
            cutoff: small,
        },
        EnforcementEvent::DeterminationCut {
            determination: LIFT.parse().unwrap(),
            annex_revision: Some(3),
            cutoff: large,
        },
        EnforcementEvent::KeyBlocked(Digest([8; 32])),
        EnforcementEvent::KeyUnblocked { key: Digest([8; 32]), cutoff: small },
        EnforcementEvent::RangeRevoked(OrdinalRange::new(Ordinal(5), Ordinal(9)).unwrap()),
    ];
    let stops = stops.into_iter().map(EnforcementEvent::Stopped);
    let lines: Vec<_> = events.into_iter().chain(stops).map(|event| spelled(&event)).collect();
    assert_lines(
        &lines,
        "
        82008107
        8201815004040404040404040404040404040404
        820282825002020202020202020202020202020202500202020202020202020202020202020207
        82038250010101010101010101010101010101011b0000010000000000
        8204815003030303030303030303030303030303
        820681820080
        8207818200815001010101010101010101010101010101
        8207818201815002020202020202020202020202020202
        8208818200815001010101010101010101010101010101
        82098107
        820a8107
        820b811b0000010000000000
        sha256 a549ace7cc41ae2f2c5ec5492b0eaf54704071cdd9fca54e64b23e6eb2a674c2
        820d836f323032362d30362d32362d6c696674f607
        820d836f323032362d30362d32362d6c696674031b0000010000000000
        820e8158200808080808080808080808080808080808080808080808080808080808080808
        820f825820080808080808080808080808080808080808080808080808080808080808080807
        821081820509
        820581820080
        820581820181686d7974686f732d35
        8205818202815001010101010101010101010101010101
        8205818203815002020202020202020202020202020202
        8205818204815003030303030303030303030303030303
        ",
    );
}

#[test]
fn what_the_feed_says_of_authorities_keeps_its_encoding() {
    let card = AuthorityCard {
        id: ISSUER,
        kind: AuthorityKind::System,
        state: AuthorityState::Tainted,
        certificate: vec![0x30],
    };
    let listed = spelled(&EnforcementEvent::AuthorityListed(Arc::new(card)));
    let lines = [listed, spelled(&EnforcementEvent::AuthorityDropped(ISSUER))];
    assert_lines(
        &lines,
        "
        82118184500303030303030303030303030303030301054130
        8212815003030303030303030303030303030303
        ",
    );
}

#[test]
fn what_the_feed_says_of_announcements_keeps_its_encoding() {
    let id = AnnouncementId::from_bytes([6; 16]);
    let cuts = [
        Cut::Certificate(Ordinal(7)),
        Cut::Lineage(LineageId::from_bytes([4; 16])),
        Cut::Subjects(vec![SUBJECT]),
        Cut::Entity(ENTITY),
        Cut::Issuer(ISSUER),
        Cut::Determination(LIFT.parse().unwrap(), None),
        Cut::Determination(LIFT.parse().unwrap(), Some(3)),
    ];
    let announced = |cut| {
        let (announced_at, cut_at) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
        let announcement = Announcement { id, cut, cutoff: Ordinal(9), announced_at, cut_at };
        EnforcementEvent::RevocationAnnounced(Arc::new(announcement))
    };
    let postponed = |cut_at| EnforcementEvent::RevocationPostponed { announcement: id, cut_at };
    let postponed = [postponed(Some(Timestamp::from_millis(3_000))), postponed(None)];
    let lines: Vec<_> =
        cuts.map(announced).into_iter().chain(postponed).map(|event| spelled(&event)).collect();
    assert_lines(
        &lines,
        "
        82158185500606060606060606060606060606060682008107091903e81907d0
        8215818550060606060606060606060606060606068201815004040404040404040404040404040404091903e81907d0
        821581855006060606060606060606060606060606820281815002020202020202020202020202020202091903e81907d0
        8215818550060606060606060606060606060606068203815001010101010101010101010101010101091903e81907d0
        8215818550060606060606060606060606060606068204815003030303030303030303030303030303091903e81907d0
        8215818550060606060606060606060606060606068205816f323032362d30362d32362d6c696674091903e81907d0
        8215818550060606060606060606060606060606068205826f323032362d30362d32362d6c69667403091903e81907d0
        8216825006060606060606060606060606060606190bb8
        8216815006060606060606060606060606060606
        ",
    );
}

#[test]
fn a_drill_keeps_its_encoding() {
    let drills = [StopScope::All, StopScope::Model(model("mythos-5"))].map(EnforcementEvent::Drilled);
    let lines: Vec<_> = drills.iter().map(spelled).collect();
    assert_lines(&lines, "\n82181881820080\n82181881820181686d7974686f732d35\n");
}

#[test]
fn an_entity_is_cut_off_in_less_than_60_bytes() {
    let event = EnforcementEvent::EntityCut { entity: ENTITY, cutoff: Ordinal(u64::MAX) };
    assert!(to_bytes(&event).len() < 60, "{} bytes", to_bytes(&event).len());
}

#[test]
fn the_digest_of_the_feed_is_chained_over_record_and_event() {
    let event = EnforcementEvent::Held(Ordinal(7));
    let by_hand = [[9; 32].as_slice(), &5_u64.to_be_bytes(), &to_bytes(&event)].concat();
    assert_eq!(chain(Digest([9; 32]), Seq(5), &event), Digest::of(&by_hand));
}
