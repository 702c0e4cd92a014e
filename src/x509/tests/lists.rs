//! Revocation lists that pass the lint, and one that breaks each of its rules.

use rcgen::{CrlScope, RevokedCertParams};

use super::lint::{Broken, Failing, broken, common_name, rebuilt, refused};
use super::*;
use crate::x509::der::{SEQUENCE, element, only};
use crate::x509::lint::{examine, lint_list};

fn list_content(address: bool) -> CrlContent {
    let entry = |seed| CrlEntry {
        serial: Serial::from_random([seed; 16]),
        at: NOW,
        reason: ReasonCode::KeyCompromise,
    };
    CrlContent {
        address: address.then(|| "http://crl.example/v1/aut/4.crl".to_owned()),
        number: CrlNumber::new(Epoch(1), 2, Seq(3)).unwrap(),
        this_update: NOW,
        next_update: NOW.plus_ms(600_000),
        entries: vec![entry(1), CrlEntry { reason: ReasonCode::Unspecified, ..entry(2) }],
    }
}

/// A fetched list, a pushed one and an empty one.
pub(super) fn good(shop: &Workshop) -> Vec<Vec<u8>> {
    let empty = CrlContent { entries: Vec::new(), ..list_content(true) };
    let signed = |content: &CrlContent| {
        let draft = shop.template.list(content).unwrap();
        assert_eq!(lint_list(draft.der(), &shop.authority, content), Ok(()));
        shop.sign(draft.tbs())
    };
    [list_content(true), list_content(false), empty].iter().map(signed).collect()
}

/// What a list breaks whose fields were replaced: 0 version, 1 algorithm, 2 issuer, 3 thisUpdate, 4 nextUpdate,
/// 5 entries, 6 extensions.
fn rebuilt_list(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let shop = Workshop::access();
    let tbs = shop.template.list(&list_content(true)).unwrap().into_tbs();
    let der = shop.sign(&rebuilt(&tbs, rebuild));
    broken(&examine(&der, &profile(), Some(shop.authority.certificate())))
}

fn rebuilt_extensions(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    rebuilt_list(|fields| {
        let list = rebuilt(only(&fields[6], 0xa0).unwrap().value, rebuild);
        fields[6] = element(0xa0, &[&list]);
    })
}

fn bent_list(bend: impl FnOnce(&mut rcgen::CertificateRevocationListParams)) -> Broken {
    let shop = Workshop::access();
    let mut params = shop.template.list_params(&list_content(true)).unwrap();
    bend(&mut params);
    let der = shop.sign(shop.template.list_of(&params).unwrap().tbs());
    broken(&examine(&der, &profile(), Some(shop.authority.certificate())))
}

fn entry() -> RevokedCertParams {
    RevokedCertParams {
        serial_number: rcgen::SerialNumber::from_slice(Serial::from_random([1; 16]).as_bytes()),
        revocation_time: NOW.to_offset(),
        reason_code: None,
        invalidity_date: None,
    }
}

fn judged(der: &[u8], authority: &Authority) -> Broken {
    broken(&examine(der, &profile(), Some(authority.certificate())))
}

#[rustfmt::skip]
pub(super) const FAILING: &[Failing] = &[
    ("list_encoding", || {
        let shop = Workshop::access();
        judged(&[good(&shop).remove(0), vec![0]].concat(), &shop.authority)
    }),
    ("list_canonical", || rebuilt_extensions(|list| list[0] = rebuilt(&list[0], |parts| parts.insert(1, vec![1, 1, 0])))),
    ("list_version", || rebuilt_list(|fields| { fields.remove(0); })),
    ("list_signature_algorithm", || rebuilt_list(|fields| fields[1][11] = 4)),
    ("list_issuer_form", || rebuilt_list(|fields| fields[2] = common_name("elsewhere"))),
    ("list_validity", || rebuilt_list(|fields| fields.swap(3, 4))),
    ("list_extensions", || rebuilt_extensions(|list| { let again = list[0].clone(); list.push(again); })),
    ("list_number", || rebuilt_extensions(|list| {
        let number = list.iter_mut().find(|extension| extension.windows(3).any(|oid| oid == [0x55, 0x1d, 20])).unwrap();
        *number = element(SEQUENCE, &[&[6, 3, 0x55, 0x1d, 20], &[4, 3, 2, 1, 0xff]]);
    })),
    ("list_distribution_point", || bent_list(|params| {
        params.issuing_distribution_point.as_mut().unwrap().scope = Some(CrlScope::CaCertsOnly);
    })),
    ("list_entries", || bent_list(|params| params.revoked_certs = vec![entry(), entry()])),
    ("list_reason", || rebuilt_list(|fields| {
        // rcgen leaves the reason out, so it is written here: an ENUMERATED of 0.
        let reason = [0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 21, 4, 3, 10, 1, 0];
        fields[5] = rebuilt(&fields[5], |entries| entries[1] = rebuilt(&entries[1], |parts| parts.push(reason.to_vec())));
    })),
    ("list_issuer", || judged(&good(&Workshop::access())[0], &Workshop::system().authority)),
    ("list_signature", || {
        let shop = Workshop::access();
        judged(shop.template.list(&list_content(true)).unwrap().der(), &shop.authority)
    }),
    ("record_list", || {
        let shop = Workshop::access();
        let draft = shop.template.list(&list_content(true)).unwrap();
        refused(lint_list(draft.der(), &shop.authority, &list_content(false)))
    }),
];
