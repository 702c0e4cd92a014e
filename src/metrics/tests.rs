use super::{GATEWAYS_MAX, GatewayReading, Metrics, Readings, Stopwatch};

fn gateway(n: usize, connected: u64, lag: u64, lease_left_ms: u64) -> GatewayReading {
    GatewayReading {
        name: format!("gw-{n:05}"),
        connected,
        lag,
        lease_left_ms: Some(lease_left_ms),
        certificate_ends_s: 1_785_000_000 - i64::try_from(n).unwrap(),
    }
}

#[test]
fn what_is_told_is_counted_under_its_labels() {
    let metrics = Metrics::default();
    metrics.rpc("/s/M", "OK", Stopwatch::start());
    metrics.rpc("/s/M", "OK", Stopwatch::start());
    metrics.barrier("ENFORCED", 7);
    metrics.appended(3, Stopwatch::start());
    let text = metrics.render(&Readings { pongs: 5, ..Readings::default() }).unwrap();
    for line in [
        "countersign_rpcs_total{method=\"/s/M\",code=\"OK\"} 2",
        "countersign_rpc_duration_seconds_count{method=\"/s/M\"} 2",
        "countersign_barrier_duration_seconds_bucket{le=\"0.005\",outcome=\"ENFORCED\"} 0",
        "countersign_barrier_duration_seconds_bucket{le=\"0.01\",outcome=\"ENFORCED\"} 1",
        "countersign_journal_batch_records_sum 3.0",
        "countersign_feed_pongs_total 5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_large_fleet_is_named_up_to_a_bound_and_the_rest_is_one_row_with_its_worst() {
    let mut gateways: Vec<_> = (0..GATEWAYS_MAX).map(|n| gateway(n, 1, 0, 9_000)).collect();
    gateways.push(gateway(20_000, 2, 4, 8_500));
    gateways.push(gateway(20_001, 1, 9, 1_500));
    gateways.push(gateway(20_002, 0, 0, 0));
    let text = Metrics::default().render(&Readings { gateways, ..Readings::default() }).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("countersign_gateway_sessions{"));
    assert_eq!(rows.count(), GATEWAYS_MAX + 1);
    for line in [
        "countersign_gateway_sessions{gateway=\"(others)\"} 3",
        "countersign_gateway_lag_records{gateway=\"(others)\"} 9",
        "countersign_gateway_lease_left_seconds{gateway=\"(others)\"} 1.5",
        "countersign_gateway_lag_records{gateway=\"gw-00999\"} 0",
        "countersign_gateway_certificate_expiry_timestamp_seconds{gateway=\"(others)\"} 1784979998",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(!text.contains("gw-20001"));
}
