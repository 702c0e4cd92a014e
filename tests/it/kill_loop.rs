//! `tests/kill-loop`, which kills a real service at random moments of what officers do: a few runs of it, and that it finds
//! what it looks for.

use std::process::Command;

use crate::cli::{Ended, root};

fn kill_loop(arguments: &[&str]) -> Ended {
    // The folder of a run that failed is kept, here only until the test has ended.
    let folder = tempfile::tempdir().unwrap();
    let mut script = Command::new(root("tests/kill-loop"));
    script.args(arguments).env("TMPDIR", folder.path()).output().unwrap().into()
}

#[test]
fn whatever_is_killed_the_state_is_one_of_the_two_legal_ones() {
    let ended = kill_loop(&["--runs", "12", "--binary", env!("CARGO_BIN_EXE_countersign")]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("--seed ") && ended.out.contains("12 passed, 0 failed"), "{}", ended.out);
    for kind in ["rotation", "backup", "approval", "revocation", "announcement"] {
        assert!(ended.out.contains(kind), "{}", ended.out);
    }
}

#[test]
fn a_service_that_forgets_what_it_acknowledged_is_found() {
    // A binary that answers and whose record is put back between two runs: the loop must say so, and not pass.
    let folder = tempfile::tempdir().unwrap();
    let forgetful = folder.path().join("countersign");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = serve ]; then\n  if [ -d kept ]; then rm -rf data/journal data/snapshots data/views; cp -r kept data/journal; \
         else cp -r data/journal kept; fi\n  rm -f alice/log-key.pem bob/log-key.pem\nfi\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_countersign")
    );
    std::fs::write(&forgetful, script).unwrap();
    std::fs::set_permissions(&forgetful, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = kill_loop(&["--runs", "12", "--seed", "3", "--binary", forgetful.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("FAILED") && ended.out.contains("the folder is kept"), "{}", ended.out);
}
