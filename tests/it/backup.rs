//! Backups: copied while the service runs, verified anywhere.

use crate::cli_served::Served;

#[test]
fn a_backup_is_verified_and_goes_on_where_it_ended() {
    let served = Served::start();
    let backup = |by: &str, to: &str| served.by(by, &["backup", "--to", to]);
    let first = backup("alice", "copy").done().json();
    assert_eq!((&first["good"], &first["records"]), (&true.into(), &first["head"]));
    assert_eq!(first["added"], first["head"]);
    served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]).done();
    let second = backup("alice", "copy").done().json();
    let added = second["head"].as_u64().unwrap() - first["head"].as_u64().unwrap();
    assert!(added >= 1 && second["added"] == added, "{second}");
    // It is good by itself, without the service.
    let verified = served.desk.run(&["journal", "verify", "--data", "copy", "--json"]).done().json();
    assert_eq!((&verified["good"], &verified["root"]), (&true.into(), &second["root"]));
    // The service has another record 1 than that one.
    let other = Served::start();
    let copy = served.desk.path("copy");
    for name in ["Other Inc.", "Another Inc."] {
        other.by("alice", &["entity", "apply", "--name", name, "--organisation", "US"]).done();
    }
    let refused = other.by("alice", &["backup", "--to", copy.to_str().unwrap()]);
    refused.fails(&["is not good"]);
}

#[test]
fn a_backup_is_not_put_where_something_else_is() {
    let served = Served::start();
    let backup = |to: &str| served.by("alice", &["backup", "--to", to]);
    backup("alice").fails(&["alice is no backup: it holds", "name a new folder"]);
    assert!(!served.desk.path("alice/journal").exists(), "nothing was written");
    backup("data").fails(&["in use by another process"]);
    // A disk of its own has one folder from the beginning.
    std::fs::create_dir_all(served.desk.path("disk/lost+found")).unwrap();
    assert_eq!(backup("disk").done().json()["good"], true);
    assert_eq!(backup("disk").done().json()["good"], true);
}

#[test]
fn a_damaged_backup_is_not_gone_on_with() {
    let served = Served::start();
    served.by("alice", &["backup", "--to", "copy"]).done();
    served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]).done();
    served.by("alice", &["backup", "--to", "copy"]).done();
    let segment = served.desk.path("copy/journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    // In a header of the first frame; another frame follows, so it is not torn.
    bytes[4096 + 28 + 91 + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    served.by("alice", &["backup", "--to", "copy"]).fails(&["damaged"]);
    served.desk.run(&["journal", "verify", "--data", "copy"]).fails(&["DAMAGED"]);
}
