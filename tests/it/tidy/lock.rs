//! What Cargo.lock and the tree of crates that is really built must keep.

/// Two versions of one of these do not speak with each other, and one of them gets its fixes late.
const SINGLE: &[&str] = &["rustls", "tonic", "prost"];

/// Cargo writes a crate into the lock file when a weak feature names it, even if no one turns it on. The tree shows
/// whether it is built.
const MAY_NAME_RING: &[&str] = &["rustls-webpki"];

/// Several or missing versions of the single crates, and crates that bring ring.
pub(super) fn lock_problems(path: &str, text: &str) -> Vec<String> {
    let packages: Vec<_> = text.split("[[package]]").skip(1).collect();
    let mut problems = Vec::new();
    for single in SINGLE {
        let versions = packages.iter().filter(|package| name(package) == *single).count();
        if versions != 1 {
            problems.push(format!("{path}: {versions} versions of {single}, not one"));
        }
    }
    for package in packages {
        let names_ring = package.lines().any(|line| line.trim().starts_with("\"ring"));
        if names_ring && !MAY_NAME_RING.contains(&name(package)) {
            problems.push(format!("{path}: {} brings ring", name(package)));
        }
    }
    problems
}

/// A ring in the tree of crates that is built with all features.
pub(super) fn tree_problems(tree: &str) -> Vec<String> {
    let found = tree.lines().filter(|line| line.starts_with("ring "));
    found.map(|line| format!("{line} is built: the only cryptographic library is aws-lc-rs")).collect()
}

fn name(package: &str) -> &str {
    let line = package.lines().find_map(|line| line.strip_prefix("name = "));
    line.unwrap_or_default().trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::{lock_problems, tree_problems};

    const GOOD: &str =
        "[[package]]\nname = \"rustls\"\n[[package]]\nname = \"tonic\"\n[[package]]\nname = \"prost\"\n";

    #[test]
    fn two_versions_or_none_are_found() {
        assert_eq!(lock_problems("Cargo.lock", GOOD), [""; 0]);
        assert_eq!(lock_problems("Cargo.lock", &format!("{GOOD}[[package]]\nname = \"tonic\"\n")).len(), 1);
        assert_eq!(lock_problems("Cargo.lock", "").len(), 3);
    }

    #[test]
    fn a_crate_that_brings_ring_is_found() {
        let user = |name| format!("{GOOD}[[package]]\nname = \"{name}\"\ndependencies = [\n \"ring\",\n]\n");
        assert_eq!(lock_problems("Cargo.lock", &user("rcgen")).len(), 1);
        assert_eq!(lock_problems("Cargo.lock", &user("rustls-webpki")), [""; 0]);
        assert_eq!(tree_problems("rustls v0.23.46\nring v0.17.14 (*)\n").len(), 1);
        assert_eq!(tree_problems("rustls v0.23.46\nstring v1.0.0\n"), [""; 0]);
    }
}
