//! Trust sets that are pushed, as openssl sees them: one complete list, for as long as a lease.

use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::app::{App, Ingredients, Keys, Term, TrustSet};
use countersign::ca::{FileSigner, KeyFolder};
use countersign::domain::certificate::{AuthorityKind, Serial};
use countersign::domain::command::Command;
use countersign::domain::event::Entry;
use countersign::domain::id::{EntityId, Ordinal, Seq, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, SystemEntropy};
#[cfg(feature = "faults")]
use countersign::journal::faulty::DiskFaults;
use countersign::pb;
use countersign::server;
use countersign::views::{CertificateIndex, CertificateRow, ViewError};
use countersign::x509::bundle::certificate_pem;

use crate::world::{Caller, World};

const REASON: RevocationReason = RevocationReason::Misuse;
/// The lease of a test's genesis.
const LEASE_MS: i64 = 10_000;

impl World {
    async fn set(&self, term: Term) -> TrustSet {
        self.running().app().trust_set(term, None).await.unwrap()
    }

    async fn employee(&self, entity: EntityId) -> (SubjectId, Caller) {
        let subject = self.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        (subject, self.enroll(subject).await)
    }

    async fn restrict_now(&self, command: Command) {
        self.restrict(command, pb::Wait::Committed).await.unwrap();
    }

    /// What openssl says to a certificate under a set at an instant.
    fn openssl_says(&self, set: &TrustSet, certificate: &[u8], at: Timestamp) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let at = at.seconds().to_string();
        let mut openssl = Process::new("openssl");
        openssl.args(["verify", "-crl_check", "-x509_strict", "-attime", &at]);
        openssl.arg("-CAfile").arg(file("bundle.pem", &set.bundle));
        openssl.arg("-CRLfile").arg(file("list.pem", &set.crl));
        let output = openssl.arg(file("leaf.pem", certificate_pem(certificate).as_bytes())).output();
        let output = output.expect("openssl must be installed");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn verifies(&self, set: &TrustSet, caller: &Caller) -> Result<(), String> {
        self.openssl_says(set, &caller.certificate, self.clock.now())
    }
}

fn is_refused(said: &Result<(), String>, why: &str) -> bool {
    said.as_ref().is_err_and(|said| said.contains(why))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leased_set_refuses_what_is_revoked_and_everybody_when_the_lease_has_run_out() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, first) = world.employee(entity).await;
    let (_, second) = world.employee(entity).await;
    let before = world.set(Term::Leased).await;
    assert_eq!((before.entries, before.is_closed), (0, false));
    assert_eq!(world.verifies(&before, &first), Ok(()));
    assert_eq!(world.set(Term::Leased).await, before, "one signature for all who ask");

    world.restrict_now(Command::Revoke { scope: RevocationScope::Subject(subject), reason: REASON }).await;
    let signed = world.clock.now();
    let after = world.set(Term::Leased).await;
    assert!(after.number > before.number && after.as_of > before.as_of && after.entries == 1);
    assert_eq!(after.as_of, world.running().app().state().position.seq);
    assert!(is_refused(&world.verifies(&after, &first), "certificate revoked"));
    assert_eq!(world.verifies(&after, &second), Ok(()));

    // The lease less what two clocks may be apart, in whole seconds: no consumer permits longer than a lease.
    let left_ms = after.next_update.millis() - signed.millis();
    assert!((LEASE_MS - 2_000..=LEASE_MS - 1_000).contains(&left_ms), "{left_ms}");
    let last = after.next_update.plus_ms(-1_000);
    assert_eq!(world.openssl_says(&after, &second.certificate, last), Ok(()));
    let ended = world.openssl_says(&after, &second.certificate, after.next_update);
    assert!(is_refused(&ended, "CRL has expired"), "{ended:?}");
    // A consumer with a slow clock need not wait for the list to begin.
    assert_eq!(world.openssl_says(&after, &second.certificate, signed.plus_ms(-30_000)), Ok(()));

    // At half of its life it is signed anew, and says the same.
    world.clock.advance_ms(3_900);
    assert_eq!(world.set(Term::Leased).await.number, after.number);
    world.clock.advance_ms(700);
    let again = world.set(Term::Leased).await;
    assert!(again.number > after.number && again.next_update > after.next_update && again.entries == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unleased_set_says_the_same_for_longer_and_has_its_own_number() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.employee(entity).await;
    let ordinal = world.read(&caller.certificate).ordinal;
    world.restrict_now(Command::Hold { ordinal, reason: REASON }).await;
    let (leased, unleased) = (world.set(Term::Leased).await, world.set(Term::Unleased).await);
    assert!(leased.number != unleased.number && leased.as_of == unleased.as_of);
    assert_eq!((leased.entries, unleased.entries, &leased.bundle), (1, 1, &unleased.bundle));
    let lifetime_ms = 1_000 * i64::from(world.settings.crl_lifetime_s);
    assert!(unleased.next_update.millis() - world.clock.now().millis() > lifetime_ms - 1_000);
    assert!(is_refused(&world.verifies(&unleased, &caller), "certificate revoked"));
    world.enact(Command::ReleaseHold(ordinal)).await.unwrap();
    assert_eq!(world.verifies(&world.set(Term::Unleased).await, &caller), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_in_a_set_makes_it_newer_without_a_signature() {
    let world = World::start().await;
    let entity = world.partner().await;
    world.employee(entity).await;
    let before = world.set(Term::Leased).await;
    // A record without an event, and one whose event no list can say.
    world.employee(entity).await;
    let issued = world.set(Term::Leased).await;
    let model = StopScope::Model("fable-5".parse().unwrap());
    world.restrict_now(Command::Stop { scope: model, reason: REASON }).await;
    let stopped = world.set(Term::Leased).await;
    assert!(before.as_of < issued.as_of && issued.as_of < stopped.as_of);
    assert_eq!([issued.number, stopped.number], [before.number; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_of_everything_the_set_lets_nobody_in() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.employee(entity).await;
    let stop = StopScope::All;
    world.restrict_now(Command::Stop { scope: stop.clone(), reason: REASON }).await;
    for term in [Term::Leased, Term::Unleased] {
        let closed = world.set(term).await;
        assert!(closed.is_closed && closed.entries == 0 && !closed.bundle.is_empty());
        // Also by a clock that is a day slow.
        for at in [world.clock.now(), world.read(&caller.certificate).not_before] {
            let said = world.openssl_says(&closed, &caller.certificate, at);
            assert!(is_refused(&said, "CRL has expired"), "{said:?}");
        }
    }
    assert_eq!(world.running().app().pushed_set(), Some((0, true)));
    world.enact(Command::ReleaseStop(stop)).await.unwrap();
    let open = world.set(Term::Leased).await;
    assert!(!open.is_closed);
    assert_eq!(world.verifies(&open, &caller), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_on_its_own_set_only() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (_, canary) = world.employee(entity).await;
    let (_, other) = world.employee(entity).await;
    let serial = world.read(&canary.certificate).serial;
    let app = world.running().app();
    let with = app.trust_set(Term::Leased, Some(serial)).await.unwrap();
    let without = world.set(Term::Leased).await;
    assert_eq!((with.entries, without.entries), (1, 0));
    assert!(with.number != without.number);
    assert!(is_refused(&world.verifies(&with, &canary), "certificate revoked"));
    assert_eq!((world.verifies(&with, &other), world.verifies(&without, &canary)), (Ok(()), Ok(())));
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn while_no_lease_is_granted_no_leased_set_is_signed() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.employee(entity).await;
    let before = world.set(Term::Leased).await;
    DiskFaults::at(&world.dir.path().join("journal")).fail_sync();
    let ordinal = world.read(&caller.certificate).ordinal;
    world.restrict_now(Command::Hold { ordinal, reason: REASON }).await;
    for term in [Term::Leased, Term::Unleased] {
        assert!(world.running().app().trust_set(term, None).await.is_err(), "it would say that all is well");
    }
    world.close().await;
    world.open().await;
    assert!(world.set(Term::Leased).await.number > before.number);
}

/// An index with as many certificates as are wanted, none of which the record announced: all are refused.
struct Crowd {
    row: CertificateRow,
    count: AtomicUsize,
}

impl CertificateIndex for Crowd {
    fn applied_seq(&self) -> Seq {
        Seq(u64::MAX)
    }

    fn apply(&self, _: &[(Seq, Entry)]) -> Result<(), ViewError> {
        Ok(())
    }

    fn by_ordinal(&self, _: AuthorityKind, _: Ordinal) -> Result<Option<CertificateRow>, ViewError> {
        Ok(None)
    }

    fn by_serial(&self, _: &Serial) -> Result<Option<CertificateRow>, ViewError> {
        Ok(None)
    }

    fn by_subject(
        &self,
        _: SubjectId,
        _: Option<Ordinal>,
        _: usize,
    ) -> Result<Vec<CertificateRow>, ViewError> {
        Ok(Vec::new())
    }

    fn by_entity(&self, _: EntityId, _: Option<Ordinal>, _: usize) -> Result<Vec<CertificateRow>, ViewError> {
        Ok(Vec::new())
    }

    fn by_shard(&self, _: AuthorityKind, _: u64) -> Result<Vec<CertificateRow>, ViewError> {
        let row = |n: usize| {
            let n = u64::try_from(n).unwrap();
            let serial = Serial::from_random([n.to_be_bytes(), n.to_be_bytes()].concat().try_into().unwrap());
            CertificateRow { ordinal: Ordinal(1_000_000 + n), serial, ..self.row.clone() }
        };
        Ok((0..self.count.load(Ordering::SeqCst)).map(row).collect())
    }

    fn check(&self, _: &std::sync::atomic::AtomicBool) -> Result<(), ViewError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), ViewError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_one_list_lets_nobody_in() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let (_, caller) = world.employee(entity).await;
    // That waits for the index.
    world.set(Term::Leased).await;
    let rows = world.running().app().certificates().by_shard(AuthorityKind::Access, 0).unwrap();
    let settings = world.settings.clone();
    world.close().await;
    let crowd = Arc::new(Crowd { row: rows[0].clone(), count: AtomicUsize::new(10_000) });
    let mut store = server::open(&settings.data, settings.low_water, &SystemEntropy).unwrap();
    store.certificates = Arc::clone(&crowd) as Arc<dyn CertificateIndex>;
    let key = |name: &str| Arc::new(FileSigner::load(&world.dir.path().join("keys").join(name)).unwrap());
    let app = App::start(Ingredients {
        store,
        keys: Keys {
            access: key("access.pem"),
            system: key("system.pem"),
            log: key("log.pem"),
            authorities: Arc::new(KeyFolder::new(settings.keys.authorities())),
        },
        crl_base: settings.crl_base.clone(),
        crl_lifetime_s: settings.crl_lifetime_s,
        officer_ttl_s: settings.officer_ttl_s,
        keep: settings.keep,
        clock: Arc::clone(&world.clock) as _,
        entropy: Arc::new(SystemEntropy),
    })
    .unwrap();
    app.begin().await.unwrap();
    let closed = app.trust_set(Term::Leased, None).await.unwrap();
    assert_eq!((closed.is_closed, closed.entries, app.pushed_set()), (true, 0, Some((0, true))));
    assert!(is_refused(&world.verifies(&closed, &caller), "CRL has expired"));
    // There is a place for a canary.
    let canary = Some(rows[0].serial);
    assert!(app.trust_set(Term::Leased, canary).await.unwrap().is_closed);
    // When some have expired, the rest fits.
    crowd.count.store(9_999, Ordering::SeqCst);
    world.clock.advance_ms(5_000);
    let open = app.trust_set(Term::Leased, None).await.unwrap();
    assert_eq!((open.is_closed, open.entries), (false, 9_999));
    assert_eq!(world.verifies(&open, &caller), Ok(()));
    let with = app.trust_set(Term::Leased, canary).await.unwrap();
    assert_eq!(with.entries, 10_000);
    assert!(is_refused(&world.verifies(&with, &caller), "certificate revoked"));
    app.stop().await;
}
