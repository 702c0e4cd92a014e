//! Keys on a PKCS#11 token, against SoftHSM: from `init` to a restart, a token that is taken away under load, and a PIN
//! that is wrong.
//!
//! SoftHSM finds its tokens by the environment, so each test that uses the library runs itself again as another process.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::app::{App, Caller as AppCaller, Error, Mode};
use countersign::ca::pkcs11::{TokenAuthorities, TokenFault, TokenKeys, TokenSettings};
use countersign::ca::{AuthorityKeys as _, KeyFolder, SignatureAlgorithm, Signer as _};
use countersign::config::{NewKeys, PassphraseSource, Pkcs11Config};
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::id::{AuthorityId, EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::pkcs11::Pkcs11Uri;
use countersign::x509::Curve;
use tonic::Code;

use crate::calls::key;
use crate::cli::{Desk, Ended, ended, root, send};
use crate::kill::asked;
use crate::world::World;

/// Names the folder with the token to a process that is to use it.
const FOLDER: &str = "COUNTERSIGN_TEST_TOKEN";
pub(crate) const PIN: &str = "482915";
/// How long the token and the service may take to notice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where distributions put a library.
fn library(places: &[&str], package: &str) -> PathBuf {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("none of {places:?} is there: install {package} (tests/run does it)"))
}

pub(crate) fn softhsm() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    ];
    library(&places, "softhsm2")
}

/// OpenSC's library between a program and a module, which writes down each call.
pub(crate) fn spy() -> PathBuf {
    let places = [
        "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
        "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
        "/usr/lib64/pkcs11-spy.so",
        "/usr/lib64/pkcs11/pkcs11-spy.so",
    ];
    library(&places, "opensc")
}

/// A token in a folder of its own.
pub(crate) struct Token(pub(crate) PathBuf);

impl Token {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::with_pin(folder, PIN)
    }

    pub(crate) fn with_pin(folder: &Path, pin: &str) -> Self {
        std::fs::create_dir(folder.join("tokens")).unwrap();
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            folder.join("tokens").display()
        );
        std::fs::write(folder.join("softhsm2.conf"), text).unwrap();
        let token = Self(folder.to_owned());
        token.pin(pin);
        let words =
            ["--init-token", "--free", "--label", "countersign", "--so-pin", "12345678", "--pin", pin];
        token.run("softhsm2-util", &words);
        token
    }

    /// What the file with the PIN says.
    pub(crate) fn pin(&self, pin: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.0.join("pin"), pin).unwrap();
        std::fs::set_permissions(self.0.join("pin"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.0.join("softhsm2.conf")
    }

    fn run(&self, program: &str, words: &[&str]) -> String {
        let output = Process::new(program).args(words).env("SOFTHSM2_CONF", self.conf()).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}; tests/run installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The token's own tool, with the right PIN.
    pub(crate) fn tool(&self, words: &[&str]) -> String {
        let module = softhsm().display().to_string();
        self.run("pkcs11-tool", &[&["--module", &module, "--login", "--pin", PIN], words].concat())
    }

    /// What was called, when [`spy`] stands between.
    fn spied(&self) -> PathBuf {
        self.0.join("spied")
    }

    /// How often somebody logged in through [`spy`].
    pub(crate) fn logins(&self) -> usize {
        let spied = std::fs::read_to_string(self.spied()).unwrap_or_default();
        spied.lines().filter(|line| line.ends_with(": C_Login")).count()
    }

    pub(crate) fn take_away(&self) {
        std::fs::rename(self.0.join("tokens"), self.0.join("taken")).unwrap();
    }

    pub(crate) fn bring_back(&self) {
        std::fs::rename(self.0.join("taken"), self.0.join("tokens")).unwrap();
    }
}

/// Runs a test as another process, with a token.
pub(crate) fn with_token(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let token = Token::new(dir.path());
    let output = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, dir.path())
        .env("SOFTHSM2_CONF", token.conf())
        // For modules that stand between.
        .envs([("PKCS11SPY", softhsm()), ("PKCS11SPY_OUTPUT", token.spied())])
        .env("COUNTERSIGN_TEST_MODULE", softhsm())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("the token was used"), "{said}");
}

/// The token of a process that [`with_token`] started.
pub(crate) fn given() -> Option<Token> {
    asked(FOLDER).map(|folder| {
        println!("the token was used");
        Token(folder.into())
    })
}

pub(crate) fn uri(text: &str) -> Pkcs11Uri {
    text.parse().unwrap()
}

fn open(token: &Token) -> Result<TokenKeys, TokenFault> {
    TokenKeys::open(TokenSettings {
        module: softhsm(),
        token: uri("pkcs11:token=countersign"),
        pin: std::fs::read(token.0.join("pin")).unwrap().into(),
        sessions: 3,
        timeout_ms: 5_000,
    })
}

#[test]
fn keys_are_made_on_a_token_and_stay_there() {
    with_token("pkcs11::the_maker_of_keys");
}

#[test]
fn the_maker_of_keys() {
    let Some(token) = given() else { return };
    let keys = open(&token).unwrap();
    for (name, algorithm) in [
        ("pkcs11:object=p256;id=%01", SignatureAlgorithm::Ecdsa(Curve::P256)),
        ("pkcs11:object=p384;id=%02", SignatureAlgorithm::Ecdsa(Curve::P384)),
        ("pkcs11:object=log;id=%03", SignatureAlgorithm::Ed25519),
    ] {
        let name = uri(name);
        assert!(keys.key(&name).unwrap().is_none());
        let made = keys.make(&name, algorithm).unwrap();
        assert_eq!(made.algorithm(), algorithm);
        // Each opening verifies a signature with the public key.
        let found = keys.key(&Pkcs11Uri { object: None, ..name.clone() }).unwrap().unwrap();
        assert_eq!(found.public_key(), made.public_key());
        assert!(matches!(keys.make(&name, algorithm), Err(TokenFault::Key(_))), "no key is replaced");
    }
    let shown = token.tool(&["--list-objects", "--type", "privkey"]);
    assert_eq!(shown.matches("never extractable").count(), 3, "{shown}");
    // Two of a name: which is meant nobody can say.
    token.tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "twice", "--id", "11"]);
    token.tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "twice", "--id", "12"]);
    assert!(keys.key(&uri("pkcs11:object=twice")).unwrap_err().to_string().contains("several"));
    assert!(keys.key(&uri("pkcs11:object=twice;id=%12")).unwrap().is_some());
    token.tool(&["--keypairgen", "--key-type", "EC:secp521r1", "--label", "other", "--id", "21"]);
    assert!(keys.key(&uri("pkcs11:object=other")).unwrap_err().to_string().contains("neither P-256"));
    let folder = token.0.join("authorities");
    let authorities = TokenAuthorities::new(keys.clone(), Arc::new(KeyFolder::new(folder.clone())));
    let [one, two, old] =
        [1, 2, 3].map(|n| AuthorityId::from_parts("2026-06-27T12:00:00Z".parse().unwrap(), [n; 16]));
    KeyFolder::new(folder).make(old, Curve::P256).unwrap();
    let made = authorities.make(one, Curve::P384).unwrap();
    assert!(authorities.make(one, Curve::P384).is_err());
    assert_eq!(authorities.find(one).unwrap().unwrap().public_key(), made.public_key());
    assert!(authorities.find(two).unwrap().is_none());
    assert_eq!(authorities.list().unwrap(), [one, old], "keys in files of before are found");
    authorities.set_aside(one).unwrap();
    assert!(authorities.find(one).unwrap().is_none());
    assert!(keys.key(&uri(&format!("pkcs11:object={one}.unused"))).unwrap().is_some(), "it is not destroyed");
    authorities.make(two, Curve::P256).unwrap();
    authorities.remove(two).unwrap();
    authorities.remove(two).unwrap();
    assert!(authorities.find(two).unwrap().is_none());
    let left = authorities.making_files();
    left.make(two, Curve::P256).unwrap();
    assert!(keys.key(&uri(&format!("pkcs11:object={two}"))).unwrap().is_none(), "it is in a file");
    assert!(left.find(two).unwrap().is_some());
}

/// What a client of the service got.
#[derive(Default)]
struct Got {
    certificates: AtomicUsize,
    refusals: AtomicUsize,
}

/// Four people who enroll all the time.
pub(crate) struct Load {
    got: Arc<Got>,
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    pub(crate) async fn on(world: &World, entity: EntityId) -> Self {
        let (got, stop) = (Arc::new(Got::default()), Arc::new(AtomicBool::new(false)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
            let app = Arc::clone(world.running().app());
            tasks.spawn(load(app, subject, Arc::clone(&got), Arc::clone(&stop)));
        }
        Self { got, stop, tasks }
    }

    pub(crate) fn issued(&self) -> usize {
        self.got.certificates.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> usize {
        self.got.refusals.load(Ordering::SeqCst)
    }

    pub(crate) async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Enrolls again and again. Whatever is refused is refused for the token.
async fn load(app: Arc<App>, subject: SubjectId, got: Arc<Got>, stop: Arc<AtomicBool>) {
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
    while !stop.load(Ordering::SeqCst) {
        let new = app.create_token(&caller, subject, 0, Mode::Commit).await.unwrap();
        match app.enroll(&new.token.reveal(), &key().request().unwrap()).await {
            Ok(issued) => {
                // What is released is signed by the authority on record.
                app.read_certificate(&issued.certificate).unwrap();
                got.certificates.fetch_add(1, Ordering::SeqCst);
            }
            Err(Error::AuthorityLocked(_)) => {
                got.refusals.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("another refusal: {error}"),
        }
    }
}

pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A service with keys in files gets a token: from the next authority on keys are there.
pub(crate) async fn served_by(token: &Token, module: PathBuf, timeout_ms: u32) -> (World, AuthorityId) {
    let mut world = World::start().await;
    world.close().await;
    world.settings.keys.pkcs11 = Some(Pkcs11Config {
        module,
        token: uri("pkcs11:token=countersign"),
        pin: PassphraseSource::File(token.0.join("pin")),
        sessions: 3,
        timeout_ms,
        new_keys: NewKeys::Token,
        access: None,
        system: None,
        log: None,
    });
    world.open().await;
    let authority = world.rotate(AuthorityKind::Access).await;
    (world, authority)
}

#[test]
fn a_token_that_is_taken_away_under_load_stops_issuance_and_nothing_else() {
    with_token("pkcs11::the_service_whose_token_is_taken_away");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_whose_token_is_taken_away() {
    let Some(token) = given() else { return };
    let (mut world, authority) = served_by(&token, softhsm(), 5_000).await;
    let shown = token.tool(&["--list-objects", "--type", "privkey"]);
    assert!(shown.contains(&authority.to_string()) && shown.contains("never extractable"), "{shown}");
    let entity = world.partner().await;
    let load = Load::on(&world, entity).await;
    let caller = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let own = world.token(caller).await;
    until("issuance by the token", || load.issued() > 20).await;
    for round in 0..3 {
        let refused = load.refused();
        token.take_away();
        until("refusals", || load.refused() > refused + 8).await;
        let status = world.redeem(&own, &key()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("the token with the key of the authority"), "{status}");
        // Everything else goes on, the system authority's file key included.
        world.gateway(&format!("gw-{round}")).await;
        token.bring_back();
        let before = load.issued();
        until("issuance again, by itself", || load.issued() > before + 20).await;
    }
    load.end().await;
    assert!(world.redeem(&own, &key()).await.is_ok(), "the token of the caller was not used up");
    let state = world.running().app().state();
    assert_eq!(state.authorities.get(&authority).map(|row| row.state.is_trusted()), Some(true));
    drop(state);
    world.close().await;
    world.open().await;
    let person = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    world.enroll(person).await;
    world.close().await;
}

/// A command of the desk with a token, or with a library between.
pub(crate) fn command(desk: &Desk, token: &Token, words: &[&str]) -> Process {
    let mut command = desk.command(words);
    command.env("SOFTHSM2_CONF", token.conf()).env("PKCS11SPY", softhsm());
    command.env("PKCS11SPY_OUTPUT", token.spied());
    command
}

pub(crate) fn run(desk: &Desk, token: &Token, words: &[&str]) -> Ended {
    command(desk, token, words).output().unwrap().into()
}

/// `init` with the authorities' keys on the token.
fn made(desk: &Desk, token: &Token) {
    begun(desk, token, "standard").done();
    for officer in ["alice", "bob"] {
        let (key, out) = (format!("{officer}/key.pem"), format!("{officer}.sig"));
        let sign = ["officer", "sign-genesis", "--genesis", "data/genesis.cbor", "--yes", "--key", &key];
        run(desk, token, &[&sign[..], &["--out", &out]].concat()).done();
    }
    let complete = ["init", "--data", "data", "--signature", "alice=alice.sig", "--signature", "bob=bob.sig"];
    run(desk, token, &complete).done();
}

/// Its first step, under this profile of algorithms.
fn begun(desk: &Desk, token: &Token, profile: &str) -> Ended {
    for officer in ["alice", "bob"] {
        let new = ["officer", "new", "--name", officer, "--out", officer, "--profile", profile];
        run(desk, token, &new).done();
    }
    let (policy, module) = (root("deploy/policy"), softhsm().display().to_string());
    let pin = format!("file:{}", token.0.join("pin").display());
    let begin = ["init", "--data", "data", "--trust-domain", "example.org", "--policy", &policy];
    let whom = ["--provider-name", "Example AI", "--officer", "alice=alice/alice.csr"];
    let more = ["--officer", "bob=bob/bob.csr", "--listen", "127.0.0.1:0", "--pkcs11-module", &module];
    let last = ["--pkcs11-token", "pkcs11:token=countersign", "--pkcs11-pin", &pin];
    let last = [&last[..], &["--profile", profile]].concat();
    run(desk, token, &[&begin[..], &whom, &more, &last].concat())
}

#[test]
fn keys_of_authorities_on_a_token_are_of_the_profile() {
    let (desk, dir) = (Desk::new(), tempfile::tempdir().unwrap());
    let token = Token::new(dir.path());
    let begun_so = begun(&desk, &token, "cnsa").done();
    assert!(begun_so.out.contains("profile        cnsa"), "{}", begun_so.out);
    let shown = token.tool(&["--list-objects", "--type", "pubkey"]);
    assert_eq!(shown.matches("EC_POINT 384 bits").count(), 2, "{shown}");
    // They are no keys for a service of the other profile, which would be taken for one of this by its clients.
    let other = Desk::new();
    begun(&other, &token, "standard").fails(&["the ACCESS key that is there is not P-256", "--profile"]);
    assert!(!other.path("data/genesis.cbor").exists());
}

/// Serves until it says so, and stops it; what it says when it does not begin.
fn serve(desk: &Desk, token: &Token) -> Result<(), Ended> {
    use std::io::BufRead as _;
    let mut serve = command(desk, token, &["serve", "--config", "data/countersign.toml"]);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = String::new();
    let is_serving = lines.by_ref().any(|line| {
        said.push_str(&line);
        line.contains("serving")
    });
    if is_serving {
        send("TERM", &child);
        lines.for_each(drop);
        assert!(ended(&mut child).success());
        return Ok(());
    }
    let code = ended(&mut child).code().unwrap();
    Err(Ended { code, out: String::new(), err: said })
}

#[test]
fn a_wrong_pin_is_tried_once_however_often_the_service_starts() {
    let (desk, dir) = (Desk::new(), tempfile::tempdir().unwrap());
    let token = Token::new(dir.path());
    made(&desk, &token);
    let shown = token.tool(&["--list-objects", "--type", "privkey"]);
    assert!(shown.contains("countersign-access") && shown.contains("countersign-system"), "{shown}");
    assert!(!desk.path("data/keys/access.pem").exists() && !desk.path("data/keys/system.pem").exists());
    let config = desk.path("data/countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let watched = text.replace(softhsm().to_str().unwrap(), spy().to_str().unwrap());
    assert_ne!(text, watched);
    std::fs::write(&config, watched).unwrap();
    assert!(serve(&desk, &token).is_ok());
    assert_eq!(token.logins(), 1, "one login for a run, however many sessions");
    token.pin("000000");
    let refused = serve(&desk, &token).unwrap_err();
    assert!(!refused.err.contains("000000"));
    refused.fails(&["CKR_PIN_INCORRECT in C_Login", "is not tried again"]);
    assert_eq!(token.logins(), 2);
    for _ in 0..5 {
        serve(&desk, &token).unwrap_err().fails(&["CKF_USER_PIN_COUNT_LOW", "token's own tool"]);
    }
    // Not with the right one either: only the token's own tool says that the count may begin anew.
    token.pin(PIN);
    serve(&desk, &token).unwrap_err().fails(&["CKF_USER_PIN_COUNT_LOW"]);
    assert_eq!(token.logins(), 2, "exactly one try of the wrong PIN");
    token.tool(&["--list-objects"]);
    assert!(serve(&desk, &token).is_ok());
}

#[test]
fn a_token_or_key_that_is_not_there_stops_the_start_by_name() {
    let (desk, dir) = (Desk::new(), tempfile::tempdir().unwrap());
    let token = Token::new(dir.path());
    made(&desk, &token);
    let config = desk.path("data/countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from));
        std::fs::write(&config, text.replace(from, to)).unwrap();
        serve(&desk, &token).unwrap_err()
    };
    with("token=countersign", "token=other").fails(&["CKR_TOKEN_NOT_PRESENT", "pkcs11:token=other"]);
    with("object=countersign-access", "object=none").fails(&["pkcs11:object=none", "not on the token"]);
    with(softhsm().to_str().unwrap(), "/nowhere.so").fails(&["/nowhere.so", "cannot be loaded"]);
    // The key of the other authority in its place.
    with("object=countersign-access", "object=countersign-system2").fails(&["not on the token"]);
    token.tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "countersign-system2"]);
    with("object=countersign-access", "object=countersign-system2").fails(&[
        "key of ACCESS authority aut_",
        "pkcs11:object=countersign-system2",
        "does not hold the key of the authority",
    ]);
    std::fs::write(&config, &text).unwrap();
    assert!(serve(&desk, &token).is_ok());
}
