//! A root's ceremonies, as commands on a machine without a network, and what openssl says of what they signed.

use std::os::unix::fs::PermissionsExt as _;

use crate::calls::openssl;
use crate::cli::{Desk, Ended};
use crate::cli_served::Served;

/// The request of an authority, made with openssl.
pub(crate) fn request(desk: &Desk, name: &str, kind: &str, id: &str, extra: &[&str]) {
    let at = |name: String| desk.path(&name).to_str().unwrap().to_owned();
    let (key, csr) = (at(format!("{name}.key")), at(format!("{name}.csr")));
    let subject = format!("/OU={kind}/CN={id}");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256", "-nodes", "-utf8"];
    let files = ["-keyout", &key, "-out", &csr, "-subj", &subject];
    let (done, _, said) = openssl(&[&["req", "-new"][..], &curve, &files, extra].concat(), b"");
    assert!(done, "{said}");
}

impl Desk {
    pub(crate) fn root(&self, folder: &str) {
        self.run(&["root", "new", "--out", folder, "--plain-key", "--yes"]).done();
    }

    pub(crate) fn certify(&self, folder: &str, csr: &str, kind: &str, out: &str) -> Ended {
        let what = ["root", "sign", "--root", folder, "--csr", csr, "--kind", kind];
        self.run(&[&what[..], &["--life-days", "700", "--out", out, "--yes"]].concat())
    }

    pub(crate) fn root_crl(&self, folder: &str, out: &str, revoke: &[&str]) -> Ended {
        let mut what = vec!["root", "crl", "--root", folder, "--days", "400", "--out", out, "--yes"];
        revoke.iter().for_each(|file| what.extend(["--revoke", file]));
        self.run(&what)
    }

    pub(crate) fn cross_sign(&self, folder: &str, certificate: &str, out: &str, more: &[&str]) -> Ended {
        let what =
            ["root", "cross-sign", "--root", folder, "--certificate", certificate, "--out", out, "--yes"];
        self.run(&[&what[..], more].concat())
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// What `openssl verify` says of a certificate.
    pub(crate) fn verify(&self, arguments: &[&str], certificate: &str) -> Result<(), String> {
        let at = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let mut all = vec!["verify".to_owned()];
        all.extend(arguments.iter().map(|a| if a.starts_with('-') { (*a).to_owned() } else { at(a) }));
        all.push(at(certificate));
        let (done, _, said) = openssl(&all.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        if done { Ok(()) } else { Err(said) }
    }
}

impl Ended {
    #[track_caller]
    fn fails_usage(self) {
        assert_eq!(self.code, 64, "{}{}", self.out, self.err);
    }
}

const ACCESS: &str = "aut_01JZZZZZZZ0000000000000001";
const SYSTEM: &str = "aut_01JZZZZZZZ0000000000000002";

#[test]
fn a_root_certifies_authorities_and_openssl_follows_the_chain() {
    let desk = Desk::new();
    desk.root("root");
    let key = std::fs::metadata(desk.path("root/root.key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let (_, text, _) =
        openssl(&["x509", "-noout", "-text", "-in", desk.path("root/root.pem").to_str().unwrap()], b"");
    let text = String::from_utf8(text).unwrap();
    for said in ["secp384r1", "pathlen:2", "Certificate Sign, CRL Sign", "ecdsa-with-SHA384"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    request(&desk, "access", "ACCESS", ACCESS, &[]);
    desk.certify("root", "access.csr", "ACCESS", "access.pem").done();
    assert_eq!(desk.root_crl("root", "root.crl", &[]).done().code, 0);
    let strict = ["-x509_strict", "-crl_check_all", "-CAfile", "root/root.pem", "-CRLfile", "root.crl"];
    assert_eq!(desk.verify(&strict, "access.pem"), Ok(()));
    for file in ["root/root.pem", "root.crl", "access.pem"] {
        let linted = desk.run(&["cert", "lint", file, "--issuer", "root/root.pem"]).done();
        assert!(linted.out.contains("0 found") && !linted.out.contains("need --issuer"), "{}", linted.out);
    }
    // The record of the ceremonies: one line each, with what left the folder.
    let log = desk.read("root/ceremony.log");
    let steps: Vec<_> = log.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(steps, ["new-root", "certify-authority", "crl"]);
    assert!(log.lines().all(|line| line.contains(" serial=") && line.contains(" sha256=")), "{log}");
    // Revoked, it stays so: the next list says it too, under a higher number.
    let second = desk.run(&[
        "--json",
        "root",
        "crl",
        "--root",
        "root",
        "--days",
        "400",
        "--out",
        "root.crl",
        "--yes",
        "--revoke",
        "access.pem",
    ]);
    assert_eq!((second.json()["number"].as_u64(), second.json()["revoked"].as_u64()), (Some(2), Some(1)));
    assert!(desk.verify(&strict, "access.pem").unwrap_err().contains("certificate revoked"));
    let third =
        desk.run(&["--json", "root", "crl", "--root", "root", "--days", "400", "--out", "root.crl", "--yes"]);
    assert_eq!((third.json()["number"].as_u64(), third.json()["revoked"].as_u64()), (Some(3), Some(1)));
    assert!(desk.verify(&strict, "access.pem").unwrap_err().contains("certificate revoked"));
}

#[test]
fn a_root_takes_nothing_from_a_request_but_key_kind_and_id() {
    let desk = Desk::new();
    desk.root("root");
    let asks = |extra: &[&str], kind: &str, id: &str| {
        request(&desk, "asks", kind, id, extra);
        desk.certify("root", "asks.csr", "ACCESS", "asks.pem")
    };
    asks(&["-addext", "basicConstraints=critical,CA:TRUE,pathlen:5"], "ACCESS", ACCESS)
        .fails(&["asks for basicConstraints"]);
    asks(&["-addext", "subjectAltName=DNS:a.example"], "ACCESS", ACCESS).fails(&["asks for subjectAltName"]);
    asks(&["-addext", "keyUsage=critical,keyCertSign"], "ACCESS", ACCESS).fails(&["asks for keyUsage"]);
    asks(&[], "ROOT", ACCESS).fails(&["subject of the request is not"]);
    asks(&[], "ACCESS", "Example CA").fails(&["subject of the request is not"]);
    asks(&[], "SYSTEM", SYSTEM).fails(&["of kind SYSTEM, not ACCESS"]);
    assert!(!desk.path("asks.pem").exists() && !desk.path("root/issued").exists());
    // Beyond the root's own life.
    request(&desk, "access", "ACCESS", ACCESS, &[]);
    let what = ["root", "new", "--out", "short", "--life-years", "1", "--plain-key", "--yes"];
    desk.run(&what).done();
    desk.certify("short", "access.csr", "ACCESS", "asks.pem").fails(&["name fewer days"]);
    // Nobody answers the question.
    let what =
        ["root", "sign", "--root", "root", "--csr", "access.csr", "--kind", "ACCESS", "--life-days", "9"];
    desk.run(&[&what[..], &["--out", "asks.pem"]].concat()).fails(&["To be certified by root", "--yes"]);
    assert_eq!(desk.read("root/ceremony.log").lines().count(), 1);
}

#[test]
fn a_root_refuses_an_open_key_a_lost_list_and_what_is_not_its_own() {
    let desk = Desk::new();
    desk.root("root");
    desk.root("other");
    desk.run(&["root", "new", "--out", "root", "--plain-key", "--yes"]).fails(&["holds a root already"]);
    request(&desk, "access", "ACCESS", ACCESS, &[]);
    desk.certify("root", "access.csr", "ACCESS", "access.pem").done();
    desk.root_crl("other", "other.crl", &["access.pem"]).fails(&["of another root", "nothing was signed"]);
    desk.root_crl("root", "root.crl", &["access.pem"]).done();
    std::fs::rename(desk.path("root/root.crl"), desk.path("lost.crl")).unwrap();
    desk.root_crl("root", "root.crl", &[]).fails(&["is missing", "put the newest one back"]);
    std::fs::copy(desk.path("other/root.pem"), desk.path("root/root.pem")).unwrap();
    desk.certify("root", "access.csr", "ACCESS", "access.pem").fails(&["does not hold the key of the root"]);
    let key = desk.path("other/root.key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    desk.certify("other", "access.csr", "ACCESS", "x.pem").fails(&["mode 0640", "0600"]);
}

#[test]
fn a_root_s_key_is_encrypted_and_opened_at_each_ceremony() {
    let desk = Desk::new();
    let secret = |name: &str, text: &str, mode: u32| {
        std::fs::write(desk.path(name), text).unwrap();
        std::fs::set_permissions(desk.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        format!("file:{}", desk.path(name).display())
    };
    let (right, wrong) =
        (secret("right", "correct horse\n", 0o600), secret("wrong", "battery staple\n", 0o600));
    let open = secret("open", "correct horse\n", 0o644);
    let new = ["root", "new", "--out", "root", "--yes"];
    desk.run(&new).fails(&["to be encrypted", "--passphrase ask", "--plain-key"]);
    desk.run(&[&new[..], &["--plain-key", "--passphrase", &right]].concat()).fails(&["exclude each other"]);
    desk.run(&[&new[..], &["--passphrase", &open]].concat()).fails(&["0600"]);
    assert!(!desk.path("root/root.pem").exists());
    desk.run(&[&new[..], &["--passphrase", &right]].concat()).done();
    let key = desk.read("root/root.key.pem");
    assert!(key.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{key}");
    request(&desk, "access", "ACCESS", ACCESS, &[]);
    let sign =
        ["root", "sign", "--root", "root", "--csr", "access.csr", "--kind", "ACCESS", "--life-days", "9"];
    let sign = |with: &[&str]| desk.run(&[&sign[..], &["--out", "access.pem", "--yes"], with].concat());
    let crl = ["root", "crl", "--root", "root", "--days", "400", "--out", "root.crl", "--yes"];
    let crl = |with: &[&str]| desk.run(&[&crl[..], with].concat());
    for refused in [sign(&["--passphrase", &wrong]), crl(&["--passphrase", &wrong])] {
        refused.fails(&["root.key.pem", "passphrase"]);
    }
    sign(&["--passphrase", &open]).fails(&["0600"]);
    // Nobody is there to be asked.
    sign(&[]).fails(&["needs a passphrase", "--passphrase"]);
    assert!(!desk.path("access.pem").exists() && !desk.path("root.crl").exists());
    assert_eq!(desk.read("root/ceremony.log").lines().count(), 1, "nothing was signed");
    sign(&["--passphrase", &right]).done();
    crl(&["--passphrase", &right]).done();
    let strict = ["-x509_strict", "-crl_check_all", "-CAfile", "root/root.pem", "-CRLfile", "root.crl"];
    assert_eq!(desk.verify(&strict, "access.pem"), Ok(()));
    // A key that an interrupted run left in the clear is not used without a word.
    desk.run(&["root", "new", "--out", "other", "--plain-key", "--yes"]).done();
    std::fs::remove_file(desk.path("other/root.pem")).unwrap();
    let again = ["root", "new", "--out", "other", "--yes", "--passphrase", &right];
    desk.run(&again).fails(&["is not encrypted", "countersign key encrypt"]);
    std::fs::set_permissions(desk.path("root/root.key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    sign(&["--passphrase", &right]).fails(&["mode 0644"]);
}

#[test]
fn who_pins_the_old_root_follows_a_cross_certificate() {
    let desk = Desk::new();
    desk.root("old");
    desk.root("new");
    request(&desk, "access", "ACCESS", ACCESS, &[]);
    desk.certify("new", "access.csr", "ACCESS", "access.pem").done();
    desk.root_crl("old", "old.crl", &[]).done();
    desk.root_crl("new", "new.crl", &[]).done();
    let lists = desk.read("old.crl") + &desk.read("new.crl");
    std::fs::write(desk.path("all.crl"), lists).unwrap();
    let pinned = ["-x509_strict", "-crl_check_all", "-CAfile", "old/root.pem", "-CRLfile", "all.crl"];
    assert!(desk.verify(&pinned, "access.pem").is_err());
    // Of the new root: whatever is beneath it is followed.
    desk.cross_sign("old", "new/root.pem", "cross.pem", &[]).done();
    let through = [&pinned[..], &["-untrusted", "cross.pem"]].concat();
    assert_eq!(desk.verify(&through, "access.pem"), Ok(()));
    // Of the authority itself.
    desk.cross_sign("old", "access.pem", "direct.pem", &[]).fails(&["--issuer root.pem"]);
    desk.cross_sign("old", "access.pem", "direct.pem", &["--issuer", "old/root.pem"])
        .fails(&["another root"]);
    desk.cross_sign("old", "access.pem", "direct.pem", &["--issuer", "new/root.pem"]).done();
    assert_eq!(desk.verify(&pinned, "direct.pem"), Ok(()));
    for file in ["cross.pem", "direct.pem"] {
        desk.run(&["cert", "lint", file, "--issuer", "old/root.pem"]).done();
    }
    desk.run(&["cert", "lint", "cross.pem", "--issuer", "new/root.pem"]).fails(&["issuer_name"]);
    // The old root takes it back.
    desk.root_crl("old", "old.crl", &["cross.pem"]).done();
    let lists = desk.read("old.crl") + &desk.read("new.crl");
    std::fs::write(desk.path("all.crl"), lists).unwrap();
    assert!(desk.verify(&through, "access.pem").unwrap_err().contains("revoked"));
    desk.cross_sign("old", "old/root.pem", "self.pem", &[]).fails(&[]);
}

/// What `init` needs of a root.
const CERTIFIED: [&str; 9] = [
    "--offline-root",
    "--certificate",
    "access.pem",
    "--certificate",
    "system.pem",
    "--root",
    "root/root.pem",
    "--root-crl",
    "root.crl",
];

impl Desk {
    /// A root, and what it signed for the requests of `init`.
    fn certify_both(&self, folder: &str) {
        self.root(folder);
        self.certify(folder, "data/access.csr", "ACCESS", "access.pem").done();
        self.certify(folder, "data/system.csr", "SYSTEM", "system.pem").done();
        self.root_crl(folder, "root.crl", &[]).done();
    }

    /// A service beneath an offline root that is made and not running.
    pub(crate) fn beneath_root() -> Self {
        let desk = Self::with_officers();
        desk.begin_with(&["--offline-root"]).done();
        desk.certify_both("root");
        let begun = desk.begin_with(&CERTIFIED).done();
        assert!(
            begun.out.contains("  root           root_") && begun.out.contains("beneath root_"),
            "{}",
            begun.out
        );
        desk.finish();
        desk
    }
}

#[test]
fn init_beneath_an_offline_root_goes_on_wherever_it_was_interrupted() {
    let desk = Desk::with_officers();
    let first = desk.begin_with(&["--offline-root"]).done();
    assert!(
        first.out.contains("countersign root sign") && !desk.path("data/genesis.cbor").exists(),
        "{}",
        first.out
    );
    let requests = (desk.read("data/access.csr"), desk.read("data/system.csr"));
    std::fs::remove_file(desk.path("data/system.csr")).unwrap();
    desk.begin_with(&["--offline-root"]).done();
    assert_eq!(desk.read("data/access.csr"), requests.0, "what was made stays");
    assert_ne!(desk.read("data/system.csr"), requests.1);
    desk.begin_with(&[]).fails(&["was begun with --offline-root"]);
    desk.certify_both("root");
    desk.begin_with(&CERTIFIED).done();
    desk.begin_with(&CERTIFIED).fails(&["is made already"]);
    desk.finish();
    let strict = ["-x509_strict", "-crl_check", "-CAfile", "root/root.pem", "-CRLfile", "root.crl"];
    for file in ["access.pem", "system.pem"] {
        assert_eq!(desk.verify(&strict, file), Ok(()));
    }
}

#[test]
fn under_cnsa_init_takes_p384_keys_of_officers_and_of_the_root() {
    let desk = Desk::with_officers();
    desk.begin_with(&["--profile", "cnsa"]).fails(&["the key of alice", "certifies P-384 keys only"]);
    assert!(!desk.path("data").exists(), "it is found before anything is written");
    for officer in ["alice", "bob"] {
        let new = ["officer", "new", "--name", officer, "--out", officer, "--profile", "cnsa"];
        desk.run(&new).fails(&["key.pem is P-256, and the profile cnsa takes P-384 only"]);
        std::fs::remove_dir_all(desk.path(officer)).unwrap();
        desk.run(&new).done();
    }
    desk.begin_with(&["--profile", "fips"]).fails_usage();
    desk.begin_with(&["--profile", "cnsa", "--offline-root"]).done();
    let weak = ["root", "new", "--out", "root", "--plain-key", "--yes", "--curve", "P-256"];
    desk.run(&weak).done();
    let certify = || {
        desk.certify("root", "data/access.csr", "ACCESS", "access.pem").done();
        desk.certify("root", "data/system.csr", "SYSTEM", "system.pem").done();
        desk.root_crl("root", "root.crl", &[]).done();
    };
    certify();
    let under = [&CERTIFIED[..], &["--profile", "cnsa"]].concat();
    desk.begin_with(&under).fails(&["root.pem", "its key is not P-384, which the profile cnsa demands"]);
    std::fs::remove_dir_all(desk.path("root")).unwrap();
    desk.certify_both("root");
    assert!(desk.begin_with(&under).done().out.contains("  profile        cnsa"));
    desk.finish();
    for file in ["access.pem", "system.pem", "root/root.pem", "data/officers/alice.pem"] {
        let path = desk.path(file);
        let (_, text, _) = openssl(&["x509", "-noout", "-text", "-in", path.to_str().unwrap()], b"");
        let text = String::from_utf8(text).unwrap();
        for said in ["ASN1 OID: secp384r1", "Signature Algorithm: ecdsa-with-SHA384"] {
            assert!(text.contains(said), "{file}: {said}: {text}");
        }
        desk.run(&["cert", "lint", file, "--profile", "cnsa"]).done();
    }
}

#[test]
fn init_takes_nothing_from_a_ceremony_that_does_not_fit() {
    let desk = Desk::with_officers();
    desk.begin_with(&["--offline-root"]).done();
    desk.certify_both("root");
    desk.certify_both("other");
    let begin = |access: &str, system: &str, root: &str, list: &str| {
        let given = ["--offline-root", "--certificate", access, "--certificate", system];
        desk.begin_with(&[&given[..], &["--root", root, "--root-crl", list]].concat())
    };
    // By now both certificates and root.crl are of the other root.
    begin("access.pem", "system.pem", "root/root.pem", "root/root.crl").fails(&["of another root"]);
    begin("access.pem", "system.pem", "other/root.pem", "root/root.crl").fails(&["root.crl", "list_issuer"]);
    begin("access.pem", "access.pem", "other/root.pem", "root.crl").fails(&["no certificate of the SYSTEM"]);
    begin("access.pem", "other/root.pem", "other/root.pem", "root.crl").fails(&["other/root.pem"]);
    // Of an authority whose key is not here.
    request(&desk, "foreign", "ACCESS", ACCESS, &[]);
    desk.certify("other", "foreign.csr", "ACCESS", "foreign.pem").done();
    begin("foreign.pem", "system.pem", "other/root.pem", "root.crl").fails(&["whose key was made here"]);
    // Swapped at the ceremony.
    desk.certify("other", "data/access.csr", "SYSTEM", "swapped.pem").fails(&["of kind ACCESS, not SYSTEM"]);
    // Revoked since.
    desk.root_crl("other", "revoked.crl", &["system.pem"]).done();
    begin("access.pem", "system.pem", "other/root.pem", "revoked.crl").fails(&["its root has revoked it"]);
    assert!(!desk.path("data/genesis.cbor").exists());
    desk.begin_with(&["--certificate", "access.pem"]).fails_usage();
    begin("access.pem", "system.pem", "other/root.pem", "root.crl").done();
}

/// What a TLS client says of the server that trusts this alone.
fn handshake(served: &Served, pinned: &str) -> (bool, String) {
    let address = served.url.strip_prefix("https://").unwrap();
    let path = served.desk.path(pinned);
    let pinned =
        ["s_client", "-connect", address, "-CAfile", path.to_str().unwrap(), "-no-CApath", "-no-CAstore"];
    let strict = ["-x509_strict", "-verify_return_error", "-tls1_3", "-alpn", "h2", "-brief"];
    let (done, out, said) = openssl(&[&pinned[..], &strict].concat(), b"");
    (done, String::from_utf8_lossy(&out).into_owned() + &said)
}

#[test]
fn who_pins_only_the_root_or_only_the_old_one_connects_to_a_service_beneath_it() {
    let desk = Desk::beneath_root();
    desk.root("old");
    desk.root_crl("old", "old.crl", &[]).done();
    desk.cross_sign("old", "root/root.pem", "cross.pem", &[]).done();
    let mut served = Served::of(desk);
    let listed = served.by("alice", &["authority", "list"]).done().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let (done, said) = handshake(&served, "root/root.pem");
    assert!(done && said.contains("Verification: OK"), "{said}");
    assert!(!handshake(&served, "old/root.pem").0, "nothing leads there yet");
    // Of a root that is not on record, nothing is taken.
    let cross =
        ["authority", "root", "cross", "--by", "old/root.pem", "--certificate", "cross.pem", "--commit"];
    served.by("alice", &cross).fails(&["root"]);
    served.both(&["authority", "root", "trust", "--root", "old/root.pem", "--crl", "old.crl"]);
    served.both(&["authority", "root", "cross", "--by", "old/root.pem", "--certificate", "cross.pem"]);
    served.restart_after(|_| {});
    let (done, said) = handshake(&served, "old/root.pem");
    assert!(done && said.contains("Verification: OK"), "{said}");
    // The bundle leads to every root, and officers read it.
    let bundle = served.by("alice", &["cert", "bundle"]).done().json();
    let bundle = bundle["system_pem"].as_str().unwrap().to_owned();
    std::fs::write(served.desk.path("bundle.pem"), &bundle).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 4, "authority, both roots, cross: {bundle}");
    // An authority alone, and with all that leads up from it.
    let of_access = |row: &&serde_json::Value| row["kind"] == "ACCESS";
    let id = listed.as_array().unwrap().iter().find(of_access).unwrap()["authority_id"].as_str().unwrap();
    for (more, count) in [(&[][..], 1), (&["--chain"], 3)] {
        served.by("alice", &[&["authority", "show", id, "--out", "shown.pem"], more].concat()).done();
        assert_eq!(served.desk.read("shown.pem").matches("BEGIN CERTIFICATE").count(), count);
    }
    let old_only = ["-x509_strict", "-CAfile", "old/root.pem", "-untrusted", "shown.pem"];
    assert_eq!(served.desk.verify(&old_only, "shown.pem"), Ok(()));
    let strict = ["-x509_strict", "-CAfile", "bundle.pem"];
    assert_eq!(served.desk.verify(&strict, "alice/certificate.pem"), Ok(()));
    // What an officer was given at the start leads to the root by itself.
    let shown = ["-x509_strict", "-CAfile", "root/root.pem", "-untrusted", "alice/certificate.pem"];
    assert_eq!(served.desk.verify(&shown, "alice/certificate.pem"), Ok(()));
}

#[test]
fn a_list_of_the_root_is_taken_from_one_officer_and_revokes_what_it_names() {
    let desk = Desk::beneath_root();
    let first = desk.read("root.crl");
    desk.root_crl("root", "second.crl", &["access.pem"]).done();
    desk.root("other");
    desk.root_crl("other", "other.crl", &[]).done();
    let served = Served::of(desk);
    let crl = |root: &str, list: &str| {
        served.by("bob", &["authority", "root", "crl", "--root", root, "--crl", list])
    };
    std::fs::write(served.desk.path("first.crl"), first).unwrap();
    crl("root/root.pem", "first.crl").fails(&["higher number"]);
    crl("root/root.pem", "other.crl").fails(&["list_issuer"]);
    crl("other/root.pem", "other.crl").fails(&["root"]);
    crl("root/root.pem", "second.crl").done();
    let listed = served.by("alice", &["authority", "list"]).done().json();
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|row| [&row["kind"], &row["state"]]).collect();
    assert!(states.contains(&[&"ACCESS".into(), &"REVOKED".into()]), "{listed}");
    assert!(states.contains(&[&"SYSTEM".into(), &"ACTIVE".into()]), "{listed}");
    crl("root/root.pem", "first.crl").fails(&["higher number"]);
}

#[test]
fn the_next_authority_stands_beneath_the_root_and_its_key_waits_for_the_ceremony() {
    let mut served = Served::of(Desk::beneath_root());
    let prepare = ["authority", "prepare", "--kind", "ACCESS", "--beneath-root"];
    let ask = [&prepare[..], &["--out", "next.csr", "--commit"]].concat();
    let first = served.by("alice", &ask).done().json();
    assert_eq!(served.by("bob", &ask).done().json()["authority_id"], first["authority_id"], "one key");
    // Days pass, and the service starts again: the key is not set aside.
    served.restart_after(|_| {});
    assert_eq!(served.by("bob", &ask).done().json()["authority_id"], first["authority_id"], "the same key");
    let id = first["authority_id"].as_str().unwrap();
    served.desk.root("other");
    served.desk.certify("other", "next.csr", "ACCESS", "other.pem").done();
    served.desk.certify("root", "next.csr", "ACCESS", "next.pem").done();
    request(&served.desk, "foreign", "ACCESS", ACCESS, &[]);
    served.desk.certify("root", "foreign.csr", "ACCESS", "foreign.pem").done();
    let take = |kind: &str, file: &str| {
        let what =
            ["authority", "prepare", "--kind", kind, "--beneath-root", "--certificate", file, "--commit"];
        served.by("alice", &what)
    };
    take("ACCESS", "other.pem").fails(&["root"]);
    take("SYSTEM", "next.pem").fails(&["of kind ACCESS, not SYSTEM"]);
    take("ACCESS", "foreign.pem").fails(&["is not at this server"]);
    served.both(&[&prepare[..], &["--certificate", "next.pem"]].concat());
    served.both(&["authority", "activate", id]);
    let listed = served.by("alice", &["authority", "list"]).done().json();
    let next = listed.as_array().unwrap().iter().find(|row| row["authority_id"] == id).unwrap();
    assert_eq!(next["state"], "ACTIVE", "{listed}");
    assert!(next["root_id"].as_str().unwrap().starts_with("root_"), "{listed}");
    assert!(next["root_list_until"].as_str().unwrap().starts_with("20"), "{listed}");
    // Rotation by itself would leave the root.
    let permit = ["authority", "automate", "--kind", "ACCESS", "--until", "2027-06-01T00:00:00Z"];
    served.by("alice", &[&permit[..], &["--rotations", "1", "--commit"]].concat()).fails(&["offline root"]);
}
