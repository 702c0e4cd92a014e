//! The lease: counted from when the Ping was sent, extended only by a Pong that shows nothing missing.

use crate::domain::enforce::{CLOCK_OFFSET_MAX_MS, LEASE_MAX_MS, Lease, PING_MS, PongFault, Position};
use crate::domain::id::{Epoch, Seq};

fn position(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

const HERE: Position = Position { epoch: Epoch(1), seq: Seq(7) };

#[test]
fn a_lease_counts_from_when_the_ping_was_sent() {
    let mut lease = Lease::default();
    assert!(!lease.holds(0), "none before the first Pong");
    let ping = lease.ping(1_000);
    // The Pong takes nine of the ten seconds: one is left.
    lease.pong(ping, HERE, HERE, 10_000, 0).unwrap();
    assert_eq!(lease.until_ms(), Some(11_000));
    assert!(lease.holds(10_999) && !lease.holds(11_000));
}

#[test]
fn a_pong_that_nobody_asked_for_extends_nothing() {
    let mut lease = Lease::default();
    assert_eq!(lease.pong(1, HERE, HERE, 10_000, 0), Err(PongFault::Unasked));
    let ping = lease.ping(0);
    lease.pong(ping, HERE, HERE, 10_000, 0).unwrap();
    assert_eq!(lease.pong(ping, HERE, HERE, 10_000, 0), Err(PongFault::Unasked), "answered once");
    assert_eq!(lease.pong(ping + 1, HERE, HERE, 10_000, 0), Err(PongFault::Unasked));
}

#[test]
fn pongs_may_be_lost_and_a_later_one_forgets_earlier_pings() {
    let mut lease = Lease::default();
    let pings: Vec<_> = (0..4_u32).map(|n| lease.ping(u64::from(n * PING_MS))).collect();
    lease.pong(pings[2], HERE, HERE, 10_000, 0).unwrap();
    assert_eq!(lease.until_ms(), Some(15_000));
    assert_eq!(lease.pong(pings[0], HERE, HERE, 10_000, 0), Err(PongFault::Unasked));
    lease.pong(pings[3], HERE, HERE, 10_000, 0).unwrap();
    assert_eq!(lease.until_ms(), Some(17_500));
}

#[test]
fn only_the_last_pings_are_outstanding() {
    let mut lease = Lease::default();
    let pings: Vec<_> = (0..9).map(|n| lease.ping(n)).collect();
    assert_eq!(lease.pong(pings[0], HERE, HERE, 10_000, 0), Err(PongFault::Unasked));
    lease.pong(pings[1], HERE, HERE, 10_000, 0).unwrap();
}

#[test]
fn a_gateway_that_is_behind_keeps_the_lease_it_had_and_gets_no_more() {
    let mut lease = Lease::default();
    let ping = lease.ping(0);
    lease.pong(ping, HERE, HERE, 10_000, 0).unwrap();
    for (head, applied) in
        [(position(1, 8), HERE), (position(2, 7), HERE), (position(2, 1), HERE), (HERE, position(2, 9))]
    {
        let ping = lease.ping(5_000);
        assert_eq!(lease.pong(ping, head, applied, 10_000, 0), Err(PongFault::Behind));
        assert_eq!(lease.until_ms(), Some(10_000));
    }
    // Ahead of a Pong that was under way is not behind.
    let ping = lease.ping(6_000);
    lease.pong(ping, HERE, position(1, 8), 10_000, 0).unwrap();
    assert_eq!(lease.until_ms(), Some(16_000));
}

#[test]
fn no_setting_gives_more_than_the_ceiling_and_no_pong_shortens() {
    let mut lease = Lease::default();
    let ping = lease.ping(0);
    lease.pong(ping, HERE, HERE, u32::MAX, 0).unwrap();
    assert_eq!(lease.until_ms(), Some(u64::from(LEASE_MAX_MS)));
    let ping = lease.ping(1_000);
    lease.pong(ping, HERE, HERE, 1_000, 0).unwrap();
    assert_eq!(
        lease.until_ms(),
        Some(u64::from(LEASE_MAX_MS)),
        "bounds count the old length until it is over"
    );
}

#[test]
fn a_lease_that_was_given_up_comes_back_only_by_a_new_ping() {
    let mut lease = Lease::default();
    let ping = lease.ping(0);
    lease.pong(ping, HERE, HERE, 10_000, 0).unwrap();
    let under_way = lease.ping(1);
    lease.drop_lease();
    assert!(!lease.holds(0));
    assert_eq!(lease.pong(under_way, HERE, HERE, 10_000, 0), Err(PongFault::Unasked));
    let ping = lease.ping(2);
    assert!(ping > under_way, "numbers are not used again");
    lease.pong(ping, HERE, HERE, 10_000, 0).unwrap();
    assert!(lease.holds(2));
}

#[test]
fn a_clock_more_than_a_second_off_is_not_trusted_however_far() {
    let mut lease = Lease::default();
    for (offset, trusted) in [
        (0, true),
        (CLOCK_OFFSET_MAX_MS, true),
        (-CLOCK_OFFSET_MAX_MS, true),
        (CLOCK_OFFSET_MAX_MS + 1, false),
        (-CLOCK_OFFSET_MAX_MS - 1, false),
        (i64::MAX, false),
        (i64::MIN, false),
    ] {
        let ping = lease.ping(0);
        // Also a Pong that extends nothing shows how far the clock is off.
        let _ = lease.pong(ping, position(1, 8), HERE, 10_000, offset);
        assert_eq!(lease.clock_is_trusted(), trusted, "{offset}");
    }
}
