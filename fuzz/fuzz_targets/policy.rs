//! A policy bundle as officers write it: the three files and one or more determinations, one after another with a zero byte
//! between them. What is read makes sense and is read again as the same; what is not says in which file.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use countersign::domain::bundle::Bundle;
use countersign_fuzz::service::policy::load;

const FILES: [&str; 3] = ["models.toml", "posture.toml", "provider-policy.toml"];
/// Determinations of one input.
const DETERMINATIONS_MAX: usize = 4;

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        std::fs::create_dir(folder.join("determinations")).expect("a folder");
        folder
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let folder = folder();
    let mut parts = data.split(|byte| *byte == 0);
    for name in FILES {
        std::fs::write(folder.join(name), parts.next().unwrap_or_default()).expect("written");
    }
    for number in 0..DETERMINATIONS_MAX {
        let path = folder.join(format!("determinations/{number}.toml"));
        match parts.next() {
            Some(part) => std::fs::write(path, part).expect("written"),
            None => drop(std::fs::remove_file(path)),
        }
    }
    match (load(folder, &[]), load(folder, &[])) {
        (Ok(bundle), Ok(again)) => {
            assert!(bundle.parts() == again.parts() && bundle.inconsistencies().is_empty());
            assert!(Bundle::new(bundle.parts().clone()).is_ok_and(|same| same.parts() == bundle.parts()));
        }
        (Err(fault), Err(again)) => {
            let fault = fault.to_string();
            assert_eq!(fault, again.to_string());
            assert!(fault.contains(&folder.display().to_string()), "{fault}");
        }
        (first, again) => panic!("{first:?}, then {again:?}"),
    }
});
