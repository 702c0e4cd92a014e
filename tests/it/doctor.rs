//! `countersign doctor` as a process: each thing that it looks at is made wrong, and it says so, why, and what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use countersign::env::{Clock as _, SystemClock};
use serde_json::Value;

use crate::cli::{Desk, Ended};
use crate::cli_served::Served;

const CONFIG: &str = "data/countersign.toml";

/// What it found of a check, the worst first.
#[track_caller]
fn of<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let mut found: Vec<_> = findings.iter().filter(|finding| finding["check"] == check).collect();
    found.sort_by_key(|finding| ["FAIL", "WARN", "OK"].iter().position(|level| finding["level"] == *level));
    found
}

fn doctor(desk: &Desk, more: &[&str]) -> Ended {
    desk.run(&[&["doctor", "--json", "--config", CONFIG], more].concat())
}

/// A service that is made and is as it should be, but for the arc of the examples.
fn well() -> Desk {
    let desk = Desk::made();
    let ended = doctor(&desk, &[]);
    let report = ended.json();
    assert_eq!((ended.code, &report["failures"]), (3, &Value::from(0)), "{report:#}");
    for check in
        ["config", "folder", "lock", "disk", "reserve", "port", "journal", "clock", "key", "authority"]
    {
        assert_eq!(of(&report, check)[0]["level"], "OK", "{report:#}");
    }
    assert_eq!(of(&report, "arc")[0]["level"], "WARN");
    desk
}

/// What is made wrong is found: its level, and words of what it says.
#[track_caller]
fn finds(desk: &Desk, (check, level): (&str, &str), words: &str) {
    let ended = doctor(desk, &[]);
    let report = ended.json();
    let found = of(&report, check);
    assert!(found.first().is_some_and(|finding| finding["level"] == level), "{check}: {report:#}");
    assert!(found[0]["what"].as_str().unwrap().contains(words), "{words}: {:#}", found[0]);
    assert!(found[0]["why"].is_string() && found[0]["do"].is_string(), "{:#}", found[0]);
    assert_eq!(ended.code, if report["failures"] == 0 { 3 } else { 1 });
}

fn configure(desk: &Desk, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(desk.path(CONFIG)).unwrap();
    std::fs::write(desk.path(CONFIG), change(text)).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_configuration_that_the_service_would_refuse_is_found() {
    let desk = well();
    configure(&desk, |text| format!("lisen = 7\n{text}"));
    finds(&desk, ("config", "FAIL"), "lisen");
    std::fs::remove_file(desk.path(CONFIG)).unwrap();
    finds(&desk, ("config", "FAIL"), "cannot read");
    let counted = desk.run(&["doctor", "--config", CONFIG]);
    assert!(counted.out.ends_with("1 check: 0 warnings, 1 failure\n"), "{}", counted.out);
    desk.run(&["doctor"]).fails(&["--config FILE", "--identity DIR"]);
}

#[test]
fn a_folder_that_is_not_the_services_alone_is_found() {
    let desk = well();
    for (mode, level) in [(0o755, "WARN"), (0o777, "FAIL"), (0o720, "FAIL")] {
        set_mode(&desk.path("data"), mode);
        finds(&desk, ("folder", level), "has mode");
    }
    set_mode(&desk.path("data"), 0o700);
    configure(&desk, |text| format!("data = \"nowhere\"\n{}", text.replace("data = ", "#data = ")));
    finds(&desk, ("folder", "FAIL"), "nowhere");
}

#[test]
fn a_lock_that_cannot_be_taken_a_missing_reserve_and_a_full_or_nearly_full_disk_are_found() {
    let desk = well();
    std::fs::remove_file(desk.path("data/journal/reserve")).unwrap();
    finds(&desk, ("reserve", "WARN"), "is missing");
    let low_water = |mib: u64| {
        configure(&desk, |text| {
            let without: Vec<_> = text.lines().filter(|line| !line.starts_with("low_water_mib")).collect();
            format!("low_water_mib = {mib}\n{}", without.join("\n"))
        });
    };
    // Nearly full: the mark is at half of what is free now.
    let report = doctor(&desk, &[]).json();
    let said = of(&report, "disk")[0]["what"].as_str().unwrap().to_owned();
    let free: u64 = said.split(' ').next().unwrap().parse().unwrap();
    low_water(free / 2);
    finds(&desk, ("disk", "WARN"), "MiB are free");
    low_water(1_048_576);
    finds(&desk, ("disk", "FAIL"), "under 1048576 MiB");
    let lock = desk.path("data/journal/lock");
    std::fs::remove_file(&lock).ok();
    std::fs::create_dir(&lock).unwrap();
    finds(&desk, ("lock", "FAIL"), "lock");
}

#[test]
fn a_port_that_somebody_has_and_a_low_limit_of_files_are_found() {
    let desk = well();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    configure(&desk, |text| text.replace("127.0.0.1:0\"", &format!("{address}\"")));
    finds(&desk, ("port", "FAIL"), &address.to_string());
    let doctor =
        format!("ulimit -n 256; exec {} doctor --json --config {CONFIG}", env!("CARGO_BIN_EXE_countersign"));
    let limited = Command::new("sh").args(["-c", &doctor]).current_dir(desk.path("")).output().unwrap();
    let report = Ended::from(limited).json();
    assert_eq!(of(&report, "files")[0]["level"], "WARN", "{report:#}");
}

#[test]
fn damage_in_the_record_and_a_torn_end_are_found() {
    let desk = well();
    let journal = desk.path("data/journal");
    let segment = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    // What a crash leaves: some bytes of a frame.
    let mut torn = whole.clone();
    torn[end + 20] = 0x17;
    std::fs::write(&segment, &torn).unwrap();
    finds(&desk, ("journal", "WARN"), "torn frame");
    let mut damaged = whole.clone();
    damaged[end / 2] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    finds(&desk, ("journal", "FAIL"), "");
    let report = doctor(&desk, &["--deep"]).json();
    assert_eq!(of(&report, "journal")[0]["level"], "FAIL", "{report:#}");
    std::fs::write(&segment, &whole).unwrap();
    let report = doctor(&desk, &["--deep"]).json();
    assert!(of(&report, "journal")[0]["what"].as_str().unwrap().starts_with("all "), "{report:#}");
}

#[test]
fn keys_that_are_open_missing_or_of_another_service_are_found() {
    let (desk, other) = (well(), Desk::made());
    set_mode(&desk.path("data/keys/access.pem"), 0o644);
    finds(&desk, ("key", "FAIL"), "access");
    for (name, words) in [("access", "no authority"), ("system", "no authority"), ("log", "not the log key")]
    {
        let path = desk.path(&format!("data/keys/{name}.pem"));
        let own = std::fs::read(&path).unwrap();
        set_mode(&path, 0o600);
        std::fs::copy(other.path(&format!("data/keys/{name}.pem")), &path).unwrap();
        finds(&desk, ("key", "FAIL"), words);
        std::fs::remove_file(&path).unwrap();
        finds(&desk, ("key", "FAIL"), name);
        std::fs::write(&path, own).unwrap();
        set_mode(&path, 0o600);
    }
    std::fs::remove_file(desk.path("data/keys/server.pem")).unwrap();
    finds(&desk, ("key", "FAIL"), "server");
}

/// What fsGroup of a pod makes of a volume: everything is its group's to read and write.
fn open_to_group(path: &Path) {
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    if path.is_dir() {
        set_mode(path, mode | 0o2770);
        for entry in std::fs::read_dir(path).unwrap() {
            open_to_group(&entry.unwrap().path());
        }
    } else {
        set_mode(path, mode | 0o660);
    }
}

#[test]
fn what_a_pod_makes_of_the_keys_is_found_and_mended_as_the_documentation_says() {
    let desk = well();
    open_to_group(&desk.path("data"));
    finds(&desk, ("folder", "FAIL"), "others may write");
    finds(&desk, ("key", "FAIL"), "mode");
    let report = doctor(&desk, &[]).json();
    let keys = of(&report, "key");
    let says_mode =
        |finding: &&&Value| finding["what"].as_str().is_some_and(|what| what.contains("has mode"));
    let failed: Vec<_> = keys.iter().filter(says_mode).collect();
    assert_eq!(failed.len(), 4, "access, system, log, server: {keys:#?}");
    for finding in failed {
        let remedy = finding["do"].as_str().unwrap();
        assert!(remedy.starts_with("chmod 0") && remedy.contains("In Kubernetes"), "{remedy}");
    }
    desk.run(&["serve", "--config", CONFIG]).fails(&["mode 2770", "0755 or narrower"]);
    let documented = std::fs::read_to_string(crate::cli::root("docs/operations.md")).unwrap();
    let command = "chmod -R go= /var/lib/countersign/service";
    assert!(documented.contains(command));
    let mended = Command::new("chmod").args(["-R", "go="]).arg(desk.path("data")).status().unwrap();
    assert!(mended.success());
    let report = doctor(&desk, &[]).json();
    assert_eq!(report["failures"], 0, "{report:#}");
}

#[test]
fn certificates_of_the_server_and_of_listeners_that_cannot_be_used_are_found() {
    let desk = well();
    std::fs::write(desk.path("data/server-certificate.pem"), "?").unwrap();
    finds(&desk, ("certificate", "WARN"), "is no certificate");
    configure(&desk, |text| format!("{text}\n[listeners.gw-1]\nchain = \"gw-1.pem\"\nkey = \"gw-1.key\"\n"));
    finds(&desk, ("listener", "FAIL"), "gw-1");
    ends_in_days(&desk, 5, ("data/gw-1.key", "data/gw-1.pem"));
    set_mode(&desk.path("data/gw-1.key"), 0o600);
    finds(&desk, ("listener", "WARN"), "ends at");
}

/// A certificate of nobody's that ends in so many days, with its key.
fn ends_in_days(desk: &Desk, days: u32, (key, certificate): (&str, &str)) {
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days"];
    let names = ["-subj", "/CN=gw.example.org", "-addext", "subjectAltName=DNS:gw.example.org"];
    let mut openssl = Command::new("openssl");
    openssl.args(new).arg(days.to_string()).args(names).args(["-keyout", key, "-out", certificate]);
    assert!(openssl.current_dir(desk.path("")).output().unwrap().status.success());
}

/// One that ended long ago, and its key.
fn ended() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["gw.example.org".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn certificates_that_ended_or_end_soon_are_found() {
    let desk = well();
    let (certificate, key) = ended();
    let own = desk.path("data/server-certificate.pem");
    std::fs::write(&own, &certificate).unwrap();
    finds(&desk, ("certificate", "FAIL"), "ended at 2020-02-01");
    ends_in_days(&desk, 2, ("other.key", "data/server-certificate.pem"));
    finds(&desk, ("certificate", "WARN"), "the server's own ends at");
    std::fs::remove_file(own).unwrap();
    configure(&desk, |text| format!("{text}\n[listeners.gw-1]\nchain = \"gw-1.pem\"\nkey = \"gw-1.key\"\n"));
    std::fs::write(desk.path("data/gw-1.pem"), &certificate).unwrap();
    std::fs::write(desk.path("data/gw-1.key"), key).unwrap();
    set_mode(&desk.path("data/gw-1.key"), 0o600);
    finds(&desk, ("listener", "FAIL"), "to 2020-02-01T00:00:00Z, and not now");
    // An officer's own, wherever the service is.
    let as_alice = ["doctor", "--json", "--server", "https://127.0.0.1:1", "--identity", "alice"];
    let identity = || {
        let report = desk.run(&as_alice).json();
        let found = of(&report, "identity")[0];
        (found["level"].as_str().unwrap().to_owned(), found["what"].as_str().unwrap().to_owned())
    };
    assert_eq!(identity().0, "OK");
    // Nearly all of its life is over, and nobody renewed it.
    let mut params = rcgen::CertificateParams::new(vec!["gw.example.org".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let end_s = u64::try_from(SystemClock.now().seconds()).unwrap() + 5 * 86_400;
    params.not_after = (std::time::UNIX_EPOCH + std::time::Duration::from_secs(end_s)).into();
    let old = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    std::fs::write(desk.path("alice/certificate.pem"), old).unwrap();
    assert_eq!(identity().0, "WARN");
    std::fs::write(desk.path("alice/certificate.pem"), &certificate).unwrap();
    let (level, what) = identity();
    assert!(level == "FAIL" && what.contains("2020-02-01"), "{level} {what}");
}

#[test]
fn an_officer_sees_what_is_not_right_with_a_running_service() {
    let mut served = Served::start();
    let report = |served: &Served| served.by("alice", &["doctor"]).json();
    let first = report(&served);
    for check in ["identity", "head", "health", "restore", "gateways", "authority", "proposals", "stops"] {
        assert_eq!(of(&first, check)[0]["level"], "OK", "{first:#}");
    }
    assert_eq!(
        (of(&first, "drill")[0]["level"].as_str(), &first["failures"]),
        (Some("WARN"), &Value::from(0))
    );
    served.by("alice", &["stop", "drill", "--all", "--wait"]).done();
    // Beside it, on its machine: who has the record open.
    let beside = doctor(&served.desk, &[]).json();
    assert!(
        of(&beside, "lock")[0]["what"].as_str().unwrap().contains("has the record open: the service runs")
    );
    assert!(of(&beside, "lock")[0]["what"].as_str().unwrap().starts_with("process "), "{beside:#}");
    assert_eq!(of(&beside, "journal")[0]["level"], "OK");
    served.desk.run(&["health", "--config", CONFIG]).fails(&["cannot reach"]);

    served.by("alice", &["stop", "engage", "--model", "mythos-5", "--reason", "DRILL"]).done();
    served.by("alice", &["stop", "release", "--model", "mythos-5", "--commit"]).done();
    let entity =
        served.by("alice", &["entity", "apply", "--name", "Acme", "--organisation", "US"]).done().json();
    served.both(&["entity", "activate", entity["id"].as_str().unwrap()]);
    crate::python::register(&served, "gw-away", &[]);
    let second = report(&served);
    for check in ["stops", "proposals", "screening", "gateways"] {
        assert_eq!(of(&second, check)[0]["level"], "WARN", "{second:#}");
    }
    // The report of the drill is on record by now: several records were written since.
    assert_eq!(of(&second, "drill")[0]["level"], "OK", "{second:#}");

    // An old copy is restored: closed until officers have looked.
    let desk = &served.desk;
    served.by("alice", &["backup", "--to", "backup"]).done();
    let with = doctor(desk, &["--backup", "backup"]).json();
    assert_eq!(of(&with, "backup")[0]["level"], "OK", "{with:#}");
    served.restart_after(|desk| {
        std::fs::rename(desk.path("data/journal"), desk.path("lost")).unwrap();
        for derived in ["snapshots", "views"] {
            std::fs::remove_dir_all(desk.path(&format!("data/{derived}"))).ok();
        }
        let begin =
            ["restore", "begin", "--from", "backup", "--data", "data", "--log-key", "alice/log-key.pem"];
        desk.run(&begin).done();
    });
    let third = report(&served);
    for check in ["restore", "health"] {
        assert_eq!(of(&third, check)[0]["level"], "FAIL", "{third:#}");
    }
    std::fs::remove_file(served.desk.path("alice/log-key.pem")).unwrap();
    assert_eq!(of(&report(&served), "head")[0]["level"], "WARN");
}

#[test]
fn a_server_that_cannot_be_reached_and_an_identity_that_is_none_are_found() {
    let desk = well();
    let at = ["doctor", "--json", "--server", "https://127.0.0.1:1", "--identity"];
    let report = desk.run(&[&at[..], &["alice"]].concat()).json();
    assert_eq!(of(&report, "server")[0]["level"], "FAIL", "{report:#}");
    let report = desk.run(&[&at[..], &["nobody"]].concat()).json();
    assert_eq!(of(&report, "identity")[0]["level"], "FAIL", "{report:#}");
}

#[test]
fn a_probe_without_an_identity_sees_whether_the_service_serves() {
    let mut served = Served::start();
    let address = served.url.trim_start_matches("https://").to_owned();
    let health = |desk: &Desk| desk.run(&["health", "--json", "--config", CONFIG]);
    let page = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    served.restart_after(|desk| {
        configure(desk, |text| {
            let text = text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""));
            format!("{text}\n[metrics]\nlisten = \"{page}\"\n")
        });
        health(desk).fails(&["cannot reach"]);
    });
    assert_eq!(health(&served.desk).done().json()["serving"], true);
    let beside = doctor(&served.desk, &[]).json();
    assert!(of(&beside, "port")[0]["what"].as_str().unwrap().starts_with("somebody listens"), "{beside:#}");
    assert_eq!(of(&beside, "audit")[0]["level"], "OK", "{beside:#}");
    // Another page than the service's.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = other.local_addr().unwrap();
    configure(&served.desk, |text| text.replace(&page.to_string(), &wrong.to_string()));
    let answers = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nnothing_total 1\n").unwrap();
        other
    });
    let beside = doctor(&served.desk, &[]).json();
    drop(answers.join().unwrap());
    assert_eq!(of(&beside, "audit")[0]["level"], "WARN", "{beside:#}");
}
