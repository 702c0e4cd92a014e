//! The samples in deploy/ that start the service: units of systemd, manifests of Kubernetes, the Containerfile. Each is read by a
//! parser of its own world, and what it promises about security is looked at. What the image holds is run as its user under a
//! root that cannot be written.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::calls::openssl;
use crate::cli::{Desk, root, send};

/// The worst exposure that `systemd-analyze security` may see in a unit, in tenths: an ordinary one has 96.
const EXPOSURE_MAX: &str = "15";
/// The user of the image, and of the pods.
const USER: u32 = 65_532;
/// A service answers within a second; a busy machine may need many times that.
const PATIENCE: Duration = Duration::from_secs(60);

fn parsed(kind: &str, files: &[&str]) -> Value {
    let mut python = Command::new(root(".venv/bin/python"));
    python.arg(root("tests/data/samples.py")).arg(kind).args(files.iter().map(|file| root(file)));
    let ended = python.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}: are the packages missing? tests/run installs them");
    serde_json::from_slice(&ended.stdout).unwrap()
}

/// The units in a folder of their own, with a binary that exists where theirs would be installed.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let names = ["countersign.service", "countersign-backup.service", "countersign-backup.timer"];
    let copied = names.map(|name| {
        let text = std::fs::read_to_string(root(&format!("deploy/systemd/{name}"))).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text.replace("/usr/bin/countersign", env!("CARGO_BIN_EXE_countersign")))
            .unwrap();
        path
    });
    (folder, copied.to_vec())
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> (bool, String) {
    let ended = Command::new("systemd-analyze").args(arguments).args(units).output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_units_are_valid_and_closed() {
    let (folder, units) = units();
    let (is_valid, said) = analyze(&["verify", "--man=no"], &units);
    assert!(is_valid && said.is_empty(), "{said}");
    for unit in &units[..2] {
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let (is_closed, said) =
            analyze(&["security", "--offline=true", &threshold], std::slice::from_ref(unit));
        assert!(is_closed, "{said}");
        // Without any one of these it would be worse than that, or say less than it promises.
        let text = std::fs::read_to_string(unit).unwrap();
        for line in [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "MemoryDenyWriteExecute=yes",
            "CapabilityBoundingSet=",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}");
        }
    }
    // The measure measures: an open unit is over it, and a word that is none is found.
    let open = folder.path().join("open.service");
    std::fs::write(&open, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert!(!analyze(&["security", "--offline=true", "--threshold=15"], std::slice::from_ref(&open)).0);
    std::fs::write(&open, "[Service]\nExecStart=/bin/true\nProtectSistem=strict\n").unwrap();
    assert!(analyze(&["verify", "--man=no"], &[open]).1.contains("ProtectSistem"));
    let mut user = Command::new("systemd-sysusers");
    let made = user.arg("--dry-run").arg(root("deploy/systemd/countersign.sysusers")).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned() + &String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success() && !said.contains("ignoring"), "{said}");
}

/// The first document of a kind.
#[track_caller]
fn of<'a>(documents: &'a Value, kind: &str, name: &str) -> &'a Value {
    let mut all = documents.as_array().unwrap().iter();
    let found = all.find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[track_caller]
fn pod_is_closed(pod: &Value) {
    let context = &pod["securityContext"];
    assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&json!(true), &json!(USER)));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod.get("hostNetwork").or(pod.get("hostPID")), None);
    let empty = Vec::new();
    let init = pod["initContainers"].as_array().unwrap_or(&empty);
    for container in pod["containers"].as_array().unwrap().iter().chain(init) {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container:#}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container:#}");
        assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{container:#}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{container:#}");
    }
}

#[test]
fn the_manifests_are_valid_and_closed() {
    let service = parsed("kubernetes", &["deploy/kubernetes/countersign.yaml"]);
    let set = &of(&service, "StatefulSet", "countersign")["spec"];
    assert_eq!(set["replicas"], 1, "one writer");
    let pod = &set["template"]["spec"];
    pod_is_closed(pod);
    let container = &pod["containers"][0];
    let probe = json!(["/usr/bin/countersign", "health", "--config", "/etc/countersign/countersign.toml"]);
    assert_eq!(container["readinessProbe"]["exec"]["command"], probe);
    // A service that waits for its officers must not be killed for it, neither while it starts nor later.
    for name in ["startupProbe", "livenessProbe"] {
        assert!(container[name]["tcpSocket"].is_object() && container[name].get("exec").is_none(), "{name}");
    }
    for name in ["countersign", "countersign-crl"] {
        assert_eq!(of(&service, "Service", name)["spec"]["publishNotReadyAddresses"], true, "{name}");
    }
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= 30, "it drains");
    let mounts = container["volumeMounts"].as_array().unwrap();
    let writable: Vec<_> = mounts.iter().filter(|mount| mount["readOnly"] != true).collect();
    assert_eq!(writable.len(), 1, "{mounts:#?}");
    assert_eq!(writable[0]["mountPath"], "/var/lib/countersign");
    assert_eq!(set["volumeClaimTemplates"][0]["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
    assert_eq!(of(&service, "PodDisruptionBudget", "countersign")["spec"]["maxUnavailable"], 0);
    let policy = &of(&service, "NetworkPolicy", "countersign")["spec"];
    assert_eq!((&policy["egress"], &policy["policyTypes"]), (&json!([]), &json!(["Ingress", "Egress"])));
    let labels = &of(&service, "Namespace", "countersign")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");

    let gateway = parsed("kubernetes", &["deploy/kubernetes/gateway.yaml"]);
    pod_is_closed(&of(&gateway, "Deployment", "gateway")["spec"]["template"]["spec"]);
    let policy = &of(&gateway, "NetworkPolicy", "gateway")["spec"];
    assert_eq!(policy["egress"].as_array().unwrap().len(), 3, "the service, the model, names");
    assert_eq!(policy["ingress"], json!([{ "ports": [{ "port": "https" }] }]), "nothing else in the pod");
    let model = &of(&gateway, "NetworkPolicy", "model")["spec"]["ingress"];
    let from = json!([{ "podSelector": { "matchLabels": { "app.kubernetes.io/name": "gateway" } } }]);
    assert_eq!((model.as_array().unwrap().len(), &model[0]["from"]), (1, &from), "nobody else reaches it");

    // Its configuration is one.
    let desk = Desk::made();
    let text = of(&service, "ConfigMap", "countersign")["data"]["countersign.toml"].as_str().unwrap();
    std::fs::write(desk.path("countersign.toml"), text).unwrap();
    let report = desk.run(&["doctor", "--json", "--config", "countersign.toml"]).json();
    assert_eq!(
        (&report["findings"][0]["check"], &report["findings"][0]["level"]),
        (&json!("config"), &json!("OK"))
    );
}

/// The commands in the comment that a manifest begins with.
fn documented_commands(manifest: &str) -> String {
    let comment = manifest.lines().take_while(|line| line.starts_with('#'));
    comment.filter_map(|line| line.strip_prefix("#   ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_gateway_s_manifest_fits_the_configuration_that_its_commands_make() {
    let path = root("deploy/kubernetes/gateway.yaml");
    let commands = documented_commands(&std::fs::read_to_string(&path).unwrap());
    let (make, kubectl) = commands.split_at(commands.find("kubectl").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("sds.yaml");
    let make = make.replace(">sds.yaml", &format!(">{}", made.display()));
    let ran = Command::new("sh").args(["-ec", &make]).current_dir(root("")).status().unwrap();
    assert!(ran.success(), "{make}");
    let config = std::fs::read_to_string(&made).unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with('#');
    let open: Vec<_> = config.lines().filter(|line| !is_comment(line) && line.contains('@')).collect();
    assert!(open.iter().all(|line| line.contains("\"@type\"")), "places that are not filled: {open:#?}");

    let manifest = parsed("kubernetes", &["deploy/kubernetes/gateway.yaml"]);
    let pod = &of(&manifest, "Deployment", "gateway")["spec"]["template"]["spec"];
    let port = &pod["containers"][0]["ports"][0];
    assert!(config.contains(&format!("address: 0.0.0.0, port_value: {}", port["containerPort"])));
    let service = &of(&manifest, "Service", "gateway")["spec"];
    assert_eq!(service["ports"][0]["targetPort"], port["name"]);
    assert_eq!(service["selector"], json!({ "app.kubernetes.io/name": "gateway" }));
    let reached = &of(&manifest, "NetworkPolicy", "model")["spec"]["ingress"][0]["ports"][0]["port"];
    assert!(config.contains(&format!("address: model.models.svc, port_value: {reached}")));
    for (volume, kind, name) in
        [("config", "configMap", "gateway-envoy"), ("identity", "secret", "gateway-identity")]
    {
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|found| found["name"] == volume).unwrap();
        assert!(volume[kind]["name"] == name || volume[kind]["secretName"] == name, "{volume:#}");
        assert!(kubectl.contains(&format!(" {name} ")), "{name}");
    }
    is_valid_for_envoy(&config, kubectl, folder.path());
}

/// Envoy reads it, with files where the pod has them.
fn is_valid_for_envoy(config: &str, kubectl: &str, folder: &Path) {
    let made = |name: &str| folder.join(name).display().to_string();
    for name in ["listener", "gateway"] {
        let (key, certificate) = (made(&format!("{name}.key")), made(&format!("{name}.pem")));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=test"];
        let files = ["-keyout", &key, "-out", &certificate];
        let (is_made, _, said) = openssl(&[&["req", "-x509"], &curve[..], &files].concat(), &[]);
        assert!(is_made, "{said}");
    }
    std::fs::copy(made("gateway.pem"), made("system.pem")).unwrap();
    let paths = config.split('"').filter_map(|text| text.strip_prefix("/etc/countersign/"));
    for name in paths {
        assert!(kubectl.contains(&format!("--from-file={name}")), "{name} is in no secret");
    }
    let config = config.replace("/etc/countersign", &folder.display().to_string());
    std::fs::write(folder.join("sds.yaml"), config).unwrap();
    let mut envoy = Command::new(crate::envoy::binary());
    envoy.args(["--mode", "validate", "-l", "error", "-c"]).arg(folder.join("sds.yaml"));
    let ended = envoy.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
}

/// The values of an instruction, in order.
fn instructions<'a>(file: &'a Value, name: &str) -> Vec<&'a str> {
    let rows = file.as_array().unwrap().iter().filter(|row| row[0] == name);
    rows.map(|row| row[1].as_str().unwrap()).collect()
}

#[test]
fn the_image_has_no_root_no_shell_and_every_path_that_it_copies_is_here() {
    let file = parsed("containerfile", &["deploy/Containerfile"]);
    let stages = instructions(&file, "FROM");
    assert!(stages.len() == 2 && stages[1].contains("distroless"), "{stages:?}");
    assert_eq!(instructions(&file, "USER"), [format!("{USER}:{USER}")]);
    let mut copied = Vec::new();
    for copy in instructions(&file, "COPY") {
        let words: Vec<_> = copy.split(' ').collect();
        match words.as_slice() {
            [from, "/image", "/"] => assert_eq!(*from, "--from=build"),
            [sources @ .., _] => {
                copied.extend(sources.iter().map(|source| (*source).to_owned()));
                for source in sources {
                    assert!(Path::new(&root(source)).exists(), "{source} is copied and not here");
                }
            }
            [] => panic!("{copy}"),
        }
    }
    // What the source takes in from outside is copied too.
    for outside in included() {
        assert!(
            copied.iter().any(|folder| outside.starts_with(folder)),
            "{} is not copied",
            outside.display()
        );
    }
    // Without a shell only lists of words can be run.
    let health = instructions(&file, "HEALTHCHECK").concat();
    let run = [instructions(&file, "ENTRYPOINT"), instructions(&file, "CMD")].concat();
    for words in run.iter().copied().chain(health.split_once("CMD ").map(|(_, words)| words)) {
        assert!(serde_json::from_str::<Vec<String>>(words).is_ok(), "{words}");
    }
    assert_eq!(instructions(&file, "STOPSIGNAL"), ["SIGTERM"]);
}

/// The files outside of `src` that the library takes in.
fn included() -> Vec<PathBuf> {
    let found = Command::new("grep")
        .args(["-rhoE", "include_(str|bytes)!\\(\"[./]+deploy/[^\"]+"])
        .arg(root("src"))
        .output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    let files: Vec<_> =
        found.lines().filter_map(|line| line.find("deploy/").map(|at| PathBuf::from(&line[at..]))).collect();
    assert!(files.len() > 3, "{found}");
    files
}

/// What the image holds: the binary with the libraries of distroless/cc, and folders to mount on.
fn image(at: &Path) {
    let binary = env!("CARGO_BIN_EXE_countersign");
    let place = |from: &str| {
        let to = at.join(from.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap();
    };
    std::fs::create_dir_all(at.join("usr/bin")).unwrap();
    std::fs::copy(binary, at.join("usr/bin/countersign")).unwrap();
    let libraries = Command::new("ldd").arg(binary).output().unwrap();
    for word in
        String::from_utf8(libraries.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/'))
    {
        place(word);
    }
    for folder in ["var/lib/countersign", "etc/countersign", "notify"] {
        std::fs::create_dir_all(at.join(folder)).unwrap();
    }
}

/// A command of the image: as its user, or as the only one that there is for who is not root; the root cannot be written.
fn contained(image: &Path, data: &Path, notify: &Path, arguments: &[&str]) -> Command {
    let is_root = rustix_uid() == 0;
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root { &["--mount"][..] } else { &["--mount", "--user", "--map-root-user"] });
    let enter = if is_root { format!("chroot --userspec={USER}:{USER}") } else { "chroot".to_owned() };
    let script = format!(
        "set -e; export PATH=$PATH:/usr/sbin:/sbin\n\
         mount --bind \"$0\" \"$0\"; mount --bind \"$1\" \"$0/var/lib/countersign\"; mount --bind \"$2\" \"$0/notify\"\n\
         mount -o remount,bind,ro \"$0\"; if touch \"$0/x\" 2>/dev/null; then exit 99; fi\n\
         image=$0; shift 2; exec {enter} \"$image\" /usr/bin/countersign \"$@\""
    );
    unshare.args(["sh", "-c", &script]).args([image, data, notify]).args(arguments);
    unshare.env_clear().env("PATH", "/usr/bin:/bin").env("NOTIFY_SOCKET", "/notify/socket");
    unshare
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn give(path: &Path) {
    if rustix_uid() == 0 {
        let given = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(path).status().unwrap();
        assert!(given.success());
    }
}

/// A started service, ended with the test.
struct Contained(Child);

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_the_image_holds_runs_as_its_user_under_a_root_that_cannot_be_written() {
    let (desk, place) = (Desk::made(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (image_at, notify) = (place.path().join("image"), place.path().join("notify"));
    image(&image_at);
    std::fs::create_dir(&notify).unwrap();
    let socket = UnixDatagram::bind(notify.join("socket")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let data = desk.path("data");
    let config = data.join("countersign.toml");
    // A port that is free now, so that the probe of the image finds it in the configuration.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("127.0.0.1:0\"", &format!("{free}\"")) + "[log]\nformat = \"json\"\n",
    )
    .unwrap();
    for path in [&data, &notify] {
        give(path);
    }
    let at = ["--config", "/var/lib/countersign/countersign.toml"];
    let start = |arguments: &[&str]| contained(&image_at, &data, &notify, &[arguments, &at].concat());
    let mut service = Contained(start(&["serve"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(service.0.stderr.take().unwrap()).lines();
    let said: Vec<_> =
        log.by_ref().map_while(Result::ok).take_while(|line| !line.contains("documentation arc")).collect();
    assert!(said.iter().any(|line| line.contains("\"serving\"")), "{said:#?}");
    let told = |wanted: &str| {
        let mut bytes = [0; 128];
        let len = socket.recv(&mut bytes).unwrap();
        assert!(bytes[..len].starts_with(wanted.as_bytes()), "{}", String::from_utf8_lossy(&bytes[..len]));
    };
    told("READY=1\n");
    let health = start(&["health"]).output().unwrap();
    assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    // It makes no code while it runs: MemoryDenyWriteExecute takes nothing from it.
    let pid = service.0.id();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.contains("/usr/bin/countersign"), "{maps}");
    assert!(
        !maps.lines().any(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rwx"))),
        "{maps}"
    );
    if rustix_uid() == 0 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
    // Told to stop, it says so and ends well.
    send("TERM", &service.0);
    told("STOPPING=1\n");
    assert!(service.0.wait().unwrap().success());
    drop(log);
    give(&desk.path(""));
}

/// The names of all tests of this tree.
pub(crate) fn tests_of_the_tree() -> std::collections::BTreeSet<String> {
    let mut found = std::collections::BTreeSet::new();
    let mut folders = vec![PathBuf::from(root("src")), PathBuf::from(root("tests"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // The first function after each attribute of a test.
                for part in text.split("test]\n").chain(text.split("multi_thread\")]\n")).skip(1) {
                    let name = part.split_once("fn ").map(|(_, rest)| rest);
                    found.extend(name.and_then(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let (tests, text) = (tests_of_the_tree(), std::fs::read_to_string(root("docs/threat-model.md")).unwrap());
    assert!(tests.len() > 500, "{} tests", tests.len());
    let (mut named, mut rows) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Who")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{line}");
        rows += 1;
        let names: Vec<_> = cells[3].split('`').skip(1).step_by(2).collect();
        for name in &names {
            assert!(tests.contains(*name), "no test {name}: {line}");
        }
        // What no test shows is said to be open.
        assert!(!names.is_empty() || line.contains("**not defended**"), "{line}");
        named += names.len();
    }
    assert!(rows > 30 && named > 60, "{rows} rows, {named} tests");
    assert!(!tests.contains("nobody_ever_wrote_this"));
}
