//! Short texts of anybody: the path of a list, names, numbers, places. The first byte says which word the rest should be.
//! What is read is written again as the same word; a path in one spelling only, because caches know it by its spelling.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use countersign::domain::enforce::message::SoftwareName;
use countersign::domain::id::{AuthorityId, BootId, EntityId, LineageId, ModelId, PrincipalId, SubjectId};
use countersign::domain::model::AccessForm;
use countersign::domain::policy::Place;
use countersign::domain::time::Timestamp;
use countersign::x509::profile::read_crl_path;
use countersign::x509::{Arc, TrustDomain};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [kind, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind {
        0 => {
            if let Some((authority, shard)) = read_crl_path(text) {
                assert_eq!(format!("/{authority}/{shard}.crl"), text);
            }
        }
        1 => word::<SoftwareName>(text),
        2 => word::<PrincipalId>(text),
        3 => word::<EntityId>(text),
        4 => word::<SubjectId>(text),
        5 => word::<AuthorityId>(text),
        6 => word::<LineageId>(text),
        7 => word::<BootId>(text),
        8 => word::<ModelId>(text),
        9 => word::<AccessForm>(text),
        10 => word::<Timestamp>(text),
        11 => word::<TrustDomain>(text),
        12 => word::<Arc>(text),
        13 => drop(text.parse::<Place>()),
        _ => {}
    }
});

fn word<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(word) = text.parse::<T>() else { return };
    let again = word.to_string();
    assert!(again.parse::<T>().is_ok_and(|same| same == word), "{again}");
}
