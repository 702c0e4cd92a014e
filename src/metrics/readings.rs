//! What is read when somebody asks, instead of being counted as it happens.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

/// The most gateways that are named. What is left of a larger fleet is one row, with its worst values.
pub const GATEWAYS_MAX: usize = 1_000;
/// The row of those that are not named; no gateway can be called so.
const OTHERS: &str = "(others)";

/// Something that keeps the service from permitting or recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its word.
    pub kind: &'static str,
    /// Is it so now?
    pub is_so: bool,
}

/// One registered gateway, over all of its sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayReading {
    /// Its name.
    pub name: String,
    /// Sessions that are connected.
    pub connected: u64,
    /// Records that the furthest connected session is behind.
    pub lag: u64,
    /// What is left of the shortest lease of a connected session, in milliseconds; none: no session needs one.
    pub lease_left_ms: Option<u64>,
    /// When its certificate ends, in seconds since 1970; 0: it has none.
    pub certificate_ends_s: i64,
}

/// The certificate that is pushed to one gateway for its own listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerReading {
    /// The gateway's name.
    pub gateway: String,
    /// When what is pushed ends, in seconds since 1970; 0: there is nothing to push.
    pub certificate_ends_s: i64,
    /// The files cannot be used as they are now.
    pub is_stale: bool,
    /// Pushes that the gateway refused.
    pub nacks: u64,
}

/// How screening stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScreeningReading {
    /// When the newest list was published, in seconds since 1970; 0: there is none.
    pub list_date_s: i64,
    /// Its file is not in memory: nobody can be compared with it.
    pub is_list_missing: bool,
    /// Entities that are not compared with it yet.
    pub waiting: u64,
    /// Matches that nobody has resolved.
    pub open_matches: u64,
}

impl ScreeningReading {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "screening_list_timestamp_seconds",
            "When the newest screening list was published; 0: there is none",
            ConstGauge::new(self.list_date_s),
        );
        for (name, help, value) in [
            (
                "screening_list_missing",
                "1 while the newest list's file cannot be used",
                u64::from(self.is_list_missing),
            ),
            ("screening_waiting", "Entities not compared with the newest list yet", self.waiting),
            ("screening_open_matches", "Matches that nobody has resolved", self.open_matches),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
}

/// A root that is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootReading {
    /// Its name.
    pub name: String,
    /// When its certificate ends, in seconds since 1970.
    pub certificate_ends_s: i64,
    /// When its newest revocation list ends, likewise.
    pub list_ends_s: i64,
}

/// Everything that is read at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    /// Sessions opened since the start.
    pub sessions_opened: u64,
    /// Claims refused since the start.
    pub bad_claims: u64,
    /// Decisions that are not on disk yet.
    pub decisions_unwritten: u64,
    /// Bytes of complete segments of decisions.
    pub decisions_kept: u64,
    /// Nacks since the start.
    pub nacks: u64,
    /// Snapshots begun since the start.
    pub snapshots: u64,
    /// Pongs since the start.
    pub pongs: u64,
    /// Pings without a Pong since the start.
    pub refused_pings: u64,
    /// Sessions connected now.
    pub connected: u64,
    /// Connected sessions that are weak.
    pub weak: u64,
    /// Sessions, present and left, that may hold a lease.
    pub with_lease: u64,
    /// Every registered gateway, by name.
    pub gateways: Vec<GatewayReading>,
    /// The last record.
    pub head_seq: u64,
    /// Bytes free on the disk of the journal.
    pub disk_free: u64,
    /// Under this many only restrictions are recorded.
    pub low_water: u64,
    /// Bytes left in the reserve for restrictions.
    pub reserve: u64,
    /// When the server's own certificate ends, in seconds since 1970.
    pub certificate_ends_s: i64,
    /// How many certificates the list of the last pushed trust set names, and whether it lets nobody in.
    pub pushed_set: Option<(usize, bool)>,
    /// Every root: there are eight at most.
    pub roots: Vec<RootReading>,
    /// Commands that wait for another officer.
    pub proposals: u64,
    /// Emergencies that nobody has reviewed.
    pub reviews: u64,
    /// Recoveries that wait for their day.
    pub recoveries: u64,
    /// Principals that are suspended.
    pub suspended: u64,
    /// How screening stands.
    pub screening: ScreeningReading,
    /// What is due within a month or overdue: of which kind, how near, and how many.
    pub due: Vec<(&'static str, &'static str, u64)>,
    /// Every kind of fault.
    pub faults: Vec<Fault>,
    /// How the authorities of each kind are rotated.
    pub rotations: Vec<RotationReading>,
    /// Every gateway that is pushed its listener's certificate: at most a thousand can be configured.
    pub listeners: Vec<ListenerReading>,
}

/// How the authorities of a kind are rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationReading {
    /// Which kind.
    pub kind: &'static str,
    /// When the one ends that issues, in seconds since 1970; 0: none does.
    pub ends_s: i64,
    /// A successor is due, and there is none.
    pub is_overdue: bool,
    /// A step that the server took by itself failed.
    pub has_failed: bool,
    /// The standing approval lost one of its officers.
    pub has_lapsed: bool,
}

type Labelled = Family<[(&'static str, String); 1], Gauge<u64, AtomicU64>>;
type Timestamps = Family<[(&'static str, String); 1], Gauge>;
type Counted = Family<[(&'static str, String); 1], Counter>;
type Seconds = Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>;

impl Readings {
    /// As metrics under these names.
    pub(super) fn registry(&self, prefix: &str) -> Registry {
        let mut registry = Registry::with_prefix(prefix);
        for (name, help, count) in [
            ("feed_sessions_opened", "Sessions that gateways opened", self.sessions_opened),
            ("feed_bad_claims", "Claims that contradict the record", self.bad_claims),
            ("feed_nacks", "Messages that gateways refused", self.nacks),
            ("feed_snapshots", "Snapshots begun", self.snapshots),
            ("feed_pongs", "Leases granted", self.pongs),
            ("feed_refused_pings", "Pings that got no lease", self.refused_pings),
        ] {
            registry.register(name, help, ConstCounter::new(count));
        }
        for (name, help, value) in [
            ("feed_sessions_connected", "Sessions that are connected", self.connected),
            ("feed_sessions_weak", "Connected sessions that cannot promise all of enforcement", self.weak),
            ("feed_sessions_leased", "Sessions, present and left, that may hold a lease", self.with_lease),
            ("journal_head_seq", "The last record", self.head_seq),
            ("journal_disk_free_bytes", "Free on the disk of the journal", self.disk_free),
            ("journal_low_water_bytes", "With less free only restrictions are recorded", self.low_water),
            ("decisions_unwritten", "Decisions that a kill now would lose", self.decisions_unwritten),
            ("decisions_kept_bytes", "Complete segments of decisions", self.decisions_kept),
            ("approvals_waiting", "Commands that wait for another officer", self.proposals),
            ("recoveries_pending", "Officers whom recovery keys register a day later", self.recoveries),
            (
                "reviews_open",
                "Emergencies of officers without the role that nobody has reviewed",
                self.reviews,
            ),
            (
                "principals_suspended",
                "Principals that may call nothing until two officers release them",
                self.suspended,
            ),
            ("journal_reserve_bytes", "Left in the reserve for restrictions", self.reserve),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
        registry.register(
            "server_certificate_expiry_timestamp_seconds",
            "When the server's own certificate ends; it is renewed at start only",
            ConstGauge::new(self.certificate_ends_s),
        );
        self.screening.register(&mut registry);
        let (entries, is_closed) = self.pushed_set.unwrap_or_default();
        for (name, help, value) in [
            ("pushed_set_entries", "Certificates on the list of the last pushed trust set", entries as u64),
            ("pushed_set_closed", "1 while pushed trust sets let nobody in", u64::from(is_closed)),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
        let faults = Labelled::default();
        for fault in &self.faults {
            faults.get_or_create(&[("fault", fault.kind.to_owned())]).set(u64::from(fault.is_so));
        }
        registry.register("fault", "1 while it keeps the service from permitting or recording", faults);
        self.register_rotations(&mut registry);
        self.register_due(&mut registry);
        let build = Labelled::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build_info", "Always 1; the version is a label", build);
        self.register_gateways(&mut registry);
        self.register_listeners(&mut registry);
        self.register_roots(&mut registry);
        registry
    }

    fn register_roots(&self, registry: &mut Registry) {
        let (ends, lists) = (Timestamps::default(), Timestamps::default());
        for root in &self.roots {
            let label = [("root", root.name.clone())];
            ends.get_or_create(&label).set(root.certificate_ends_s);
            lists.get_or_create(&label).set(root.list_ends_s);
        }
        registry.register(
            "root_certificate_expiry_timestamp_seconds",
            "When the certificate of a root ends",
            ends,
        );
        registry.register(
            "root_list_expiry_timestamp_seconds",
            "When the newest revocation list of a root ends; from then on proxies that check it refuse everybody",
            lists,
        );
    }

    fn register_due(&self, registry: &mut Registry) {
        let due = Family::<[(&'static str, String); 2], Gauge<u64, AtomicU64>>::default();
        for (kind, stage, count) in &self.due {
            due.get_or_create(&[("kind", (*kind).to_owned()), ("stage", (*stage).to_owned())]).set(*count);
        }
        let help = "What must be verified, attested or reported anew within a month, or is overdue";
        registry.register("due", help, due);
    }

    fn register_rotations(&self, registry: &mut Registry) {
        let (ends, overdue) = (Timestamps::default(), Labelled::default());
        let (failed, lapsed) = (Labelled::default(), Labelled::default());
        for rotation in &self.rotations {
            let label = [("kind", rotation.kind.to_owned())];
            ends.get_or_create(&label).set(rotation.ends_s);
            overdue.get_or_create(&label).set(u64::from(rotation.is_overdue));
            failed.get_or_create(&label).set(u64::from(rotation.has_failed));
            lapsed.get_or_create(&label).set(u64::from(rotation.has_lapsed));
        }
        registry.register(
            "authority_rotation_lapsed",
            "1 while a standing approval is without effect because an officer who signed it may not act any more",
            lapsed,
        );
        registry.register(
            "authority_expiry_timestamp_seconds",
            "When the authority ends that issues; 0 when none does",
            ends,
        );
        registry.register(
            "authority_rotation_overdue",
            "1 while a successor is to be prepared or activated and is not",
            overdue,
        );
        registry.register(
            "authority_rotation_failed",
            "1 since a step that the server took by itself failed, until officers permit it anew",
            failed,
        );
    }

    fn register_listeners(&self, registry: &mut Registry) {
        let (ends, stale, nacks) = (Timestamps::default(), Labelled::default(), Counted::default());
        for listener in &self.listeners {
            let label = [("gateway", listener.gateway.clone())];
            ends.get_or_create(&label).set(listener.certificate_ends_s);
            stale.get_or_create(&label).set(u64::from(listener.is_stale));
            nacks.get_or_create(&label).inc_by(listener.nacks);
        }
        registry.register(
            "listener_certificate_expiry_timestamp_seconds",
            "When the certificate ends that is pushed to a gateway for its listener; 0 when there is none",
            ends,
        );
        registry.register(
            "listener_certificate_stale",
            "1 while its files cannot be used as they are, so that an older one is pushed or none",
            stale,
        );
        registry.register("listener_certificate_nacks", "Certificates that the gateway refused", nacks);
    }

    fn register_gateways(&self, registry: &mut Registry) {
        let (connected, lag, lease) = (Labelled::default(), Labelled::default(), Seconds::default());
        let ends = Timestamps::default();
        for gateway in self.bounded() {
            let label = [("gateway", gateway.name)];
            connected.get_or_create(&label).set(gateway.connected);
            lag.get_or_create(&label).set(gateway.lag);
            let none = (gateway.connected == 0).then_some(0);
            if let Some(left_ms) = gateway.lease_left_ms.or(none) {
                let left = std::time::Duration::from_millis(left_ms);
                lease.get_or_create(&label).set(left.as_secs_f64());
            }
            ends.get_or_create(&label).set(gateway.certificate_ends_s);
        }
        registry.register("gateway_sessions", "Connected sessions of a registered gateway", connected);
        registry.register("gateway_lag_records", "Records that its furthest session is behind", lag);
        registry.register("gateway_lease_left_seconds", "What is left of its shortest lease", lease);
        registry.register(
            "gateway_certificate_expiry_timestamp_seconds",
            "When its certificate ends; 0 when it has none",
            ends,
        );
    }

    /// The gateways that are named, and one row for the rest.
    fn bounded(&self) -> Vec<GatewayReading> {
        let (named, rest) = self.gateways.split_at(self.gateways.len().min(GATEWAYS_MAX));
        let mut rows = named.to_vec();
        if !rest.is_empty() {
            let connected = || rest.iter().filter(|gateway| gateway.connected > 0);
            rows.push(GatewayReading {
                name: OTHERS.to_owned(),
                connected: rest.iter().map(|gateway| gateway.connected).sum(),
                lag: connected().map(|gateway| gateway.lag).max().unwrap_or_default(),
                lease_left_ms: connected().filter_map(|gateway| gateway.lease_left_ms).min(),
                certificate_ends_s: rest.iter().map(|gateway| gateway.certificate_ends_s).min().unwrap_or(0),
            });
        }
        rows
    }
}
