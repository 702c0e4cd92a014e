//! The house rules that a compiler does not know: which room may use which, sizes, and words that may not be committed.
//!
//! Each rule is a function from text to problems, so that it is shown to fail on a sample before it judges the tree.

mod edges;
mod lock;
mod profile;
mod shape;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What git ignores, for a copy of the tree without git.
const IGNORED: &[&str] = &[".git", ".venv", "target", "dev-data"];

/// One file of the repository, by its path from the root.
struct Page {
    path: String,
    text: String,
}

impl Page {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_source(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/")
    }
}

/// Everything that is committed or could be: what git knows, or, in a copy without git, what lies here.
fn pages() -> Vec<Page> {
    let known = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(ROOT)
        .output();
    let paths: Vec<String> = match known {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        _ => walk(Path::new(ROOT)),
    };
    let read = |path: String| {
        // A file that is deleted but not yet committed is still in git's list.
        let bytes = std::fs::read(Path::new(ROOT).join(&path)).ok()?;
        Some(Page { path, text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    let pages: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(pages.iter().any(|page| page.path == "src/lib.rs"), "the list of files is broken");
    pages
}

fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            if IGNORED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found
}

/// Fails with every problem that the rule finds in the pages.
fn judge<'a>(pages: impl Iterator<Item = &'a Page>, rule: fn(&str, &str) -> Vec<String>) {
    let problems: Vec<_> = pages.flat_map(|page| rule(&page.path, &page.text)).collect();
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_room_uses_only_the_rooms_below_it() {
    judge(pages().iter().filter(|page| page.is_source()), edges::room_problems);
}

#[test]
fn every_crate_stays_in_its_rooms() {
    judge(pages().iter().filter(|page| page.is_source()), edges::crate_problems);
}

#[test]
fn the_domain_is_pure() {
    judge(pages().iter().filter(|page| page.is_source()), edges::purity_problems);
}

#[test]
fn files_and_functions_are_short() {
    judge(pages().iter().filter(|page| page.is_rust()), shape::size_problems);
}

#[test]
fn exceptions_have_reasons_and_nothing_is_left_to_do() {
    judge(pages().iter().filter(|page| page.is_rust()), shape::word_problems);
}

#[test]
fn every_module_says_what_it_is_for() {
    judge(pages().iter().filter(|page| page.is_source()), shape::doc_problems);
}

#[test]
fn nothing_names_a_place_outside_the_repository() {
    judge(pages().iter(), shape::place_problems);
}

#[test]
fn the_specification_of_certificates_and_the_lint_say_the_same() {
    let pages = pages();
    let page = pages.iter().find(|page| page.path == "docs/certificate-profile.md");
    judge(page.into_iter(), profile::clause_problems);
    assert!(page.is_some());
}

#[test]
fn the_lock_file_has_one_of_each() {
    judge(pages().iter().filter(|page| page.path == "Cargo.lock"), lock::lock_problems);
}

#[test]
fn ring_is_not_built() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--all-features", "--prefix", "none", "--format", "{p}"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lock::tree_problems(&tree), [""; 0]);
}

#[test]
fn a_copy_without_git_is_read_the_same_way() {
    let found = walk(Path::new(ROOT));
    assert!(found.iter().any(|path| path == "src/lib.rs"));
    assert!(!found.iter().any(|path| path.starts_with(".git/") || path.starts_with("target/")));
}
