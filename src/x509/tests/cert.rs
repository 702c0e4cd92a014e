use rcgen::{CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::*;
use crate::x509::chain::{check_validity, read};
use crate::x509::lint::{Intent, lint};
use crate::x509::{CertificateFault as Fault, extension};

fn access_content() -> Content {
    content(Facts::Access(human()))
}

/// The fault of a leaf that was bent and then signed by the trusted authority.
fn fault_of(content: &Content, bend: impl FnOnce(&mut rcgen::CertificateParams)) -> Fault {
    let shop = Workshop::access();
    read(&shop.bent(content, bend), &profile(), &shop.bundle()).unwrap_err()
}

fn attribute(number: u64, text: &str) -> CustomExtension {
    raw_attribute(number, extension::encode(text))
}

fn raw_attribute(number: u64, value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1, number], value)
}

fn place(params: &rcgen::CertificateParams, number: u64) -> usize {
    params
        .custom_extensions
        .iter()
        .position(|extension| extension.oid_components().last() == Some(number))
        .unwrap()
}

fn replace(number: u64, text: &str) -> impl FnOnce(&mut rcgen::CertificateParams) {
    move |params| {
        let place = place(params, number);
        params.custom_extensions[place] = attribute(number, text);
    }
}

fn numbers(content: &Content) -> Vec<u64> {
    extension::values(content.ordinal, &content.facts).iter().map(|(a, _)| u64::from(a.number())).collect()
}

fn named(number: u64) -> Attribute {
    Attribute::from_number(u8::try_from(number).unwrap()).unwrap()
}

#[test]
fn every_kind_of_leaf_reads_back_as_it_was_meant() {
    for curve in Curve::ALL {
        let access = Workshop::new(AuthorityKind::Access, curve, 1);
        let system_authority = Workshop::new(AuthorityKind::System, curve, 2);
        let bundle =
            TrustBundle::new(vec![access.authority.clone(), system_authority.authority.clone()]).unwrap();
        for (content, der) in every_leaf(&access, &system_authority) {
            let is_system = matches!(content.facts, Facts::System(_));
            let shop = if is_system { &system_authority } else { &access };
            let unverified = parse(&der, &profile()).unwrap();
            assert_eq!(unverified.names(), content.names);
            let certificate = unverified.verify(&bundle).unwrap();
            assert_eq!(certificate.facts, content.facts);
            assert_eq!(certificate.ordinal, content.ordinal);
            assert_eq!(certificate.serial, content.serial);
            assert_eq!(certificate.not_before, content.not_before);
            assert_eq!(certificate.not_after, content.not_after);
            assert_eq!(certificate.issuer, shop.authority.id());
            assert_eq!(certificate.key, key().digest());
            assert_eq!(certificate.hash, Digest::of(&der));
            let (key, profile) = (key(), profile());
            let intent = Intent {
                authority: &shop.authority,
                profile: &profile,
                key: &key,
                content: &content,
                now: NOW,
            };
            assert_eq!(lint(&der, &intent), Ok(()));
        }
    }
}

#[test]
fn a_reader_without_a_crl_base_accepts_any_base() {
    let shop = Workshop::access();
    let der = shop.leaf(&access_content());
    let reader = Profile::new("countersign.example".parse().unwrap(), Arc::default(), None);
    assert!(parse(&der, &reader).is_ok());
    assert!(matches!(
        Template::new(shop.authority.clone(), reader).draft(&key(), &access_content()),
        Err(TemplateFault::NoCrlBase)
    ));
}

#[test]
fn the_template_refuses_what_it_must_not_write() {
    let (access, system_authority) = (Workshop::access(), Workshop::system());
    let fault = |shop: &Workshop, content: &Content| shop.template.draft(&key(), content).unwrap_err();
    assert_eq!(fault(&system_authority, &access_content()), TemplateFault::AuthorityKind);
    assert_eq!(fault(&access, &system(PrincipalKind::Gateway)), TemplateFault::AuthorityKind);
    let with = |edit: fn(&mut AccessFacts)| {
        let mut facts = human();
        edit(&mut facts);
        content(Facts::Access(facts))
    };
    assert_eq!(fault(&access, &with(|f| f.models.clear())), TemplateFault::Models);
    assert_eq!(fault(&access, &with(|f| f.models.reverse())), TemplateFault::Models);
    let mut fraction = access_content();
    fraction.not_after = fraction.not_after.plus_ms(1);
    assert_eq!(fault(&access, &fraction), TemplateFault::Validity);
    let mut nameless = system(PrincipalKind::Server);
    nameless.names.clear();
    assert_eq!(fault(&system_authority, &nameless), TemplateFault::ServerNames);
    let mut gateway = system(PrincipalKind::Gateway);
    gateway.names = system(PrincipalKind::Server).names;
    assert_eq!(fault(&system_authority, &gateway), TemplateFault::ServerNames);
}

#[test]
fn each_attribute_twice_is_refused() {
    for number in numbers(&access_content()) {
        let fault = fault_of(&access_content(), |params| {
            let at = place(params, number);
            params.custom_extensions.insert(at, params.custom_extensions[at].clone());
        });
        assert_eq!(fault, Fault::DuplicateAttribute(named(number)));
        assert_eq!(fault.code(), "CREDENTIAL_DUPLICATE_ATTRIBUTE");
    }
}

#[test]
fn each_attribute_missing_is_refused() {
    for content in [access_content(), content(Facts::Access(workload()))] {
        for number in numbers(&content) {
            let fault = fault_of(&content, |params| {
                let at = place(params, number);
                params.custom_extensions.remove(at);
            });
            assert_eq!(fault, Fault::MissingAttribute(named(number)));
        }
    }
}

#[test]
fn each_attribute_that_does_not_belong_is_refused() {
    let present = numbers(&content(Facts::Access(workload())));
    for (number, text) in
        [(4, "3"), (5, "2026-06-26-lift"), (7, "US_PERSON"), (8, "2026-06-27"), (9, "NONE"), (10, "IAL2")]
    {
        assert!(!present.contains(&number));
        let fault = fault_of(&content(Facts::Access(workload())), |params| {
            let at = params
                .custom_extensions
                .iter()
                .position(|extension| extension.oid_components().last() > Some(number))
                .unwrap();
            params.custom_extensions.insert(at, attribute(number, text));
        });
        assert_eq!(fault, Fault::UnexpectedAttribute(named(number)));
    }
    let fault = fault_of(&content(Facts::Access(provider())), |params| {
        params.custom_extensions.insert(3, attribute(4, "3"));
    });
    assert_eq!(fault, Fault::UnexpectedAttribute(Attribute::AnnexRevision));
}

#[test]
fn each_attribute_in_a_wrong_encoding_is_refused() {
    for number in numbers(&access_content()) {
        let bend = |edit: fn(&mut Vec<u8>)| {
            fault_of(&access_content(), move |params| {
                let at = place(params, number);
                let mut value = params.custom_extensions[at].content().to_vec();
                edit(&mut value);
                // rcgen insists on DER inside, so what is not DER goes in as the text of another string type.
                params.custom_extensions[at] = raw_attribute(number, value);
            })
        };
        let wrong = Fault::AttributeEncoding(named(number));
        // PrintableString, IA5String and OCTET STRING instead of UTF8String.
        assert_eq!(bend(|value| value[0] = 0x13), wrong);
        assert_eq!(bend(|value| value[0] = 0x16), wrong);
        assert_eq!(bend(|value| value[0] = 0x04), wrong);
        // Not UTF-8.
        assert_eq!(bend(|value| *value.last_mut().unwrap() = 0xff), wrong);
    }
}

#[test]
fn an_attribute_cut_short_or_with_a_long_length_is_refused() {
    let shop = Workshop::access();
    let fault = |from: &[u8], to: &[u8]| {
        read(&shop.patched(&access_content(), from, to), &profile(), &shop.bundle()).unwrap_err()
    };
    // `04 06 0c 04 "IAL2"`: the string claims one byte more, one less, or its length in two bytes.
    let wrong = Fault::AttributeEncoding(Attribute::Assurance);
    assert_eq!(fault(b"\x04\x06\x0c\x04IAL2", b"\x04\x06\x0c\x05IAL2"), wrong);
    assert_eq!(fault(b"\x04\x06\x0c\x04IAL2", b"\x04\x06\x0c\x03IAL2"), wrong);
    assert_eq!(fault(b"\x04\x06\x0c\x04IAL2", b"\x04\x06\x0c\x81\x03IAL"), wrong);
    assert_eq!(fault(b"\x04\x06\x0c\x04IAL2", b"\x04\x06\x2c\x04IAL2"), wrong);
}

#[test]
fn each_value_has_one_spelling() {
    for (number, texts) in [
        (1_u64, &["01", "+1", "", "one", "1 "][..]),
        (2, &["", "ent_01j", "sub_01JZTA", "ent_8ZZZZZZZZZZZZZZZZZZZZZZZZZZ"]),
        (3, &["annex_a", "ANNEX_B", "ANNEX_A ", ""]),
        (4, &["03", "+3", "-3", "", "4294967296", "3.0"]),
        (5, &["", "2026-06-26-LIFT", "-lift", "a b"]),
        (6, &["human", "ROBOT", ""]),
        (7, &["US-PERSON", "us_person", ""]),
        (8, &["2026-6-27", "2026-02-30", "20260627", "2026-06-27T00:00:00Z", "+2026-06-27", ""]),
        (9, &["Employee", "BOSS", ""]),
        (10, &["IAL4", "2", "ial2", ""]),
        (
            11,
            &[
                "",
                "mythos-5,fable-5",
                "fable-5,fable-5",
                "fable-5,",
                ",fable-5",
                "fable-5, mythos-5",
                "Fable-5",
            ],
        ),
        (12, &["0", "040812", "+1", "-1", "", "18446744073709551616"]),
        (13, &["", "lin_01J/7", "7", "/7"]),
    ] {
        for text in texts {
            let fault = fault_of(&access_content(), replace(number, text));
            assert_eq!(fault, Fault::AttributeValue(named(number)), "{number} {text:?}");
        }
    }
    let lineage = human().step.lineage;
    for bad in ["0", "07", "+7", "", "7/7", "4294967296"] {
        let fault = fault_of(&access_content(), replace(13, &format!("{lineage}/{bad}")));
        assert_eq!(fault, Fault::AttributeValue(Attribute::Lineage), "{bad}");
    }
    let many: Vec<String> = (100..133).map(|n| format!("m-{n}")).collect();
    assert_eq!(
        fault_of(&access_content(), replace(11, &many.join(","))),
        Fault::AttributeValue(Attribute::Models)
    );
}

#[test]
fn a_later_version_is_refused_before_anything_else_of_it_is_read() {
    let fault = fault_of(&access_content(), |params| {
        replace(1, "2")(params);
        replace(3, "SOMETHING_NEW")(params);
        params.custom_extensions.push(attribute(14, "new in version 2"));
    });
    assert_eq!(fault, Fault::UnknownVersion);
    assert_eq!(fault.code(), "CREDENTIAL_UNKNOWN_VERSION");
}

#[test]
fn an_extension_too_many_is_refused_critical_or_not() {
    let extra = |oid: &'static [u64], critical: bool| {
        fault_of(&access_content(), move |params| {
            let mut extension = CustomExtension::from_oid_content(oid, extension::encode("x"));
            extension.set_criticality(critical);
            params.custom_extensions.push(extension);
        })
    };
    for critical in [false, true] {
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 32473, 1, 14], critical), Fault::UnknownAttribute(14));
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 32473, 1, 0], critical), Fault::UnknownAttribute(0));
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 32473, 2, 1], critical), Fault::UnknownExtension);
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 32473, 1, 1, 1], critical), Fault::UnknownExtension);
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 32473, 1, 200], critical), Fault::UnknownExtension);
        assert_eq!(extra(&[1, 3, 6, 1, 4, 1, 99999, 1, 1], critical), Fault::UnknownExtension);
        // subjectKeyIdentifier and certificatePolicies: standard, but not in leaf v1.
        assert_eq!(extra(&[2, 5, 29, 14], critical), Fault::UnknownExtension);
        assert_eq!(extra(&[2, 5, 29, 32], critical), Fault::UnknownExtension);
        assert_eq!(extra(&[2, 5, 29, 17], critical), Fault::DuplicateExtension);
    }
}

#[test]
fn a_certificate_that_could_be_an_authority_is_refused() {
    use rcgen::BasicConstraints::{Constrained, Unconstrained};
    for is_ca in [IsCa::Ca(Unconstrained), IsCa::Ca(Constrained(0)), IsCa::ExplicitNoCa] {
        let fault = fault_of(&access_content(), |params| params.is_ca = is_ca);
        assert_eq!(fault, Fault::Authority);
    }
    let shop = Workshop::access();
    assert_eq!(parse(shop.authority.der(), &profile()).unwrap_err(), Fault::Authority);
    let leaf = shop.leaf(&access_content());
    assert!(Authority::from_der(&leaf).is_err());
}

#[test]
fn usages_must_be_exactly_those_of_the_kind() {
    let usage =
        |usages: Vec<KeyUsagePurpose>| fault_of(&access_content(), |params| params.key_usages = usages);
    assert_eq!(usage(vec![KeyUsagePurpose::KeyAgreement]), Fault::KeyUsage);
    assert_eq!(usage(vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]), Fault::KeyUsage);
    assert_eq!(usage(vec![]), Fault::MissingExtension);
    let extended = |usages: Vec<ExtendedKeyUsagePurpose>| {
        fault_of(&access_content(), |params| params.extended_key_usages = usages)
    };
    assert_eq!(extended(vec![ExtendedKeyUsagePurpose::ServerAuth]), Fault::ExtendedKeyUsage);
    assert_eq!(
        extended(vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]),
        Fault::ExtendedKeyUsage
    );
    assert_eq!(extended(vec![ExtendedKeyUsagePurpose::Any]), Fault::ExtendedKeyUsage);
    assert_eq!(extended(vec![]), Fault::MissingExtension);
    let shop = Workshop::system();
    let der = shop.bent(&system(PrincipalKind::Server), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(parse(&der, &profile()).unwrap_err(), Fault::ExtendedKeyUsage);
}

#[test]
fn criticality_and_order_are_part_of_the_format() {
    let fault = fault_of(&access_content(), |params| params.custom_extensions[4].set_criticality(true));
    assert_eq!(fault, Fault::Criticality);
    let fault = fault_of(&access_content(), |params| params.custom_extensions.swap(4, 5));
    assert_eq!(fault, Fault::ExtensionOrder);
    // An explicit FALSE is the default written out, and TRUE is 0xff only.
    let shop = Workshop::access();
    for wrong in [b"\x01\x01\x00\x04\x04\x03\x02\x07\x80", b"\x01\x01\x01\x04\x04\x03\x02\x07\x80"] {
        let der = shop.patched(&access_content(), b"\x01\x01\xff\x04\x04\x03\x02\x07\x80", wrong);
        assert_eq!(parse(&der, &profile()).unwrap_err(), Fault::Malformed);
    }
}

#[test]
fn name_subject_and_attributes_must_agree() {
    let uri = |text: String| {
        fault_of(&access_content(), move |params| {
            params.subject_alt_names = vec![SanType::URI(text.try_into().unwrap())];
        })
    };
    let ours = profile().spiffe_id(&Facts::Access(human()));
    let other_entity = EntityId::from_parts(NOW, [9; 16]);
    let entity = human().entity.entity.to_string();
    assert_eq!(uri(ours.replace(&entity, &other_entity.to_string())), Fault::SubjectMismatch);
    assert_eq!(uri(ours.replace("/person/", "/workload/")), Fault::SubjectMismatch);
    assert_eq!(uri(format!("{ours}/")), Fault::SubjectMismatch);
    assert_eq!(uri(ours.replace("countersign.example", "other.example")), Fault::TrustDomain);
    assert_eq!(uri(ours.replace("spiffe:", "https:")), Fault::AlternativeName);
    let fault = fault_of(&access_content(), |params| {
        params.subject_alt_names.push(SanType::DnsName("a.example".to_owned().try_into().unwrap()));
    });
    assert_eq!(fault, Fault::AlternativeName);
    let fault = fault_of(&access_content(), |params| params.subject_alt_names.clear());
    assert_eq!(fault, Fault::MissingExtension);
    let fault = fault_of(&access_content(), replace(6, "WORKLOAD"));
    assert_eq!(fault, Fault::UnexpectedAttribute(Attribute::PersonStatus));

    let subject = |bend: fn(&mut rcgen::CertificateParams)| fault_of(&access_content(), bend);
    assert_eq!(
        subject(|p| p
            .distinguished_name
            .push(DnType::CommonName, SubjectId::from_parts(NOW, [9; 16]).to_string())),
        Fault::SubjectMismatch
    );
    assert_eq!(subject(|p| p.distinguished_name.push(DnType::CommonName, "Alice")), Fault::Subject);
    assert_eq!(subject(|p| p.distinguished_name.push(DnType::CountryName, "US")), Fault::Subject);
}

#[test]
fn system_names_must_agree_too() {
    let shop = Workshop::system();
    let with = |content: &Content, bend: &dyn Fn(&mut rcgen::CertificateParams)| {
        parse(&shop.bent(content, bend), &profile()).map(|_| ()).unwrap_err()
    };
    let uri = |text: &str| SanType::URI(format!("spiffe://countersign.example/{text}").try_into().unwrap());
    let gateway = system(PrincipalKind::Gateway);
    for (path, fault) in [
        ("role/gateway/other", Fault::SubjectMismatch),
        ("role/gateway/gw-eu-1/x", Fault::SubjectMismatch),
        ("role/root/gw-eu-1", Fault::AlternativeName),
        ("entity/x/person/y", Fault::AlternativeName),
    ] {
        assert_eq!(with(&gateway, &|p| p.subject_alt_names = vec![uri(path)]), fault, "{path}");
    }
    let extra = |p: &mut rcgen::CertificateParams| p.custom_extensions.insert(1, attribute(6, "HUMAN"));
    assert_eq!(with(&gateway, &extra), Fault::UnexpectedAttribute(Attribute::SubjectKind));
    let server = system(PrincipalKind::Server);
    assert_eq!(with(&server, &|p| p.subject_alt_names.truncate(1)), Fault::AlternativeName);
    assert_eq!(with(&server, &|p| p.subject_alt_names.swap(1, 2)), Fault::AlternativeName);
    assert_eq!(with(&server, &|p| p.subject_alt_names.swap(0, 1)), Fault::AlternativeName);
    let wildcard = |p: &mut rcgen::CertificateParams| {
        p.subject_alt_names[1] = SanType::DnsName("*.example".to_owned().try_into().unwrap());
    };
    assert_eq!(with(&server, &wildcard), Fault::AlternativeName);
}

#[test]
fn the_crl_address_is_the_shard_of_the_ordinal() {
    let address = |text: &str| {
        let text = text.to_owned();
        fault_of(&access_content(), move |params| params.crl_distribution_points[0].uris = vec![text])
    };
    let id = Workshop::access().authority.id();
    assert!(
        Workshop::access().template.params(&access_content()).unwrap().crl_distribution_points[0].uris[0]
            .ends_with(&format!("{id}/4.crl"))
    );
    assert_eq!(address(&format!("http://crl.example/v1/{id}/5.crl")), Fault::DistributionPoint);
    assert_eq!(address(&format!("http://evil.example/v1/{id}/4.crl")), Fault::DistributionPoint);
    let fault =
        fault_of(&access_content(), |p| p.crl_distribution_points[0].uris.push("http://x".to_owned()));
    assert_eq!(fault, Fault::DistributionPoint);
    assert_eq!(fault_of(&access_content(), |p| p.crl_distribution_points.clear()), Fault::MissingExtension);
}

#[test]
fn serial_version_and_dates_have_their_form() {
    let serial =
        |bytes: Vec<u8>| fault_of(&access_content(), move |params| params.serial_number = Some(bytes.into()));
    assert_eq!(serial(vec![1]), Fault::Serial);
    assert_eq!(serial(vec![0x80; 16]), Fault::Serial);
    assert_eq!(serial(vec![0x3f; 16]), Fault::Serial);
    assert_eq!(serial(vec![0x5a; 17]), Fault::Serial);
    let shop = Workshop::access();
    let der = shop.patched(&access_content(), b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01");
    assert_eq!(parse(&der, &profile()).unwrap_err(), Fault::NotVersion3);
    for (from, to) in [
        (&b"260627115900Z"[..], &b"260627115900+"[..]),
        (b"260627115900Z", b"261327115900Z"),
        (b"260627115900Z", b"260631115900Z"),
        (b"260627115900Z", b"26062711590 Z"),
        // The end before the start.
        (b"260627115900Z", b"270627115900Z"),
        // GeneralizedTime before 2050 (RFC 5280 section 4.1.2.5), cut to the same length.
        (b"\x17\x0d260627115900Z", b"\x18\x0d260627115900Z"),
    ] {
        let der = shop.patched(&access_content(), from, to);
        assert_eq!(parse(&der, &profile()).unwrap_err(), Fault::Validity);
    }
    let mut long = access_content();
    long.not_after = NOW.plus_ms(1000 * i64::from(TTL_MAX_S));
    assert!(parse(&shop.leaf(&long), &profile()).is_ok());
    long.not_after = long.not_after.plus_ms(1000);
    assert_eq!(parse(&shop.leaf(&long), &profile()).unwrap_err(), Fault::Lifetime);
}

#[test]
fn size_and_trailing_bytes_are_bounded() {
    let shop = Workshop::access();
    let der = shop.leaf(&access_content());
    assert_eq!(parse(&[der.as_slice(), &[0]].concat(), &profile()).unwrap_err(), Fault::TrailingBytes);
    assert_eq!(parse(&vec![0x30; 4097], &profile()).unwrap_err(), Fault::TooLarge);
    for len in 0..der.len() {
        assert_eq!(parse(&der[..len], &profile()).unwrap_err(), Fault::Malformed, "{len}");
    }
}

#[test]
fn another_authority_another_kind_or_another_key_is_refused() {
    let (access, system_authority) = (Workshop::access(), Workshop::system());
    let der = access.leaf(&access_content());
    let verify = |bundle: &TrustBundle| parse(&der, &profile()).unwrap().verify(bundle).unwrap_err();
    // Nobody of this name.
    assert_eq!(verify(&system_authority.bundle()), Fault::ForeignAuthority);
    // The same name, another key: caught by the key identifier.
    assert_eq!(verify(&Workshop::access().bundle()), Fault::ForeignAuthority);
    // The same id as an authority of the other kind, with the same key identifier forged into the leaf.
    let imposter = Workshop::new(AuthorityKind::System, Curve::P256, 1);
    let forged = access.bent(&access_content(), |_| {});
    let aki = access.authority.key_id();
    let at = forged.windows(20).position(|window| window == aki).unwrap();
    let mut forged = forged;
    forged[at..at + 20].copy_from_slice(imposter.authority.key_id());
    let fault = parse(&forged, &profile()).unwrap().verify(&imposter.bundle()).unwrap_err();
    assert_eq!(fault, Fault::AuthorityKind);
}

#[test]
fn a_changed_leaf_has_a_bad_signature() {
    let shop = Workshop::access();
    let mut der = shop.leaf(&access_content());
    let at = der.windows(14).position(|window| window == b"FOREIGN_PERSON").unwrap();
    // FOREIGN_PERSON and UNDETERMINED differ in length, so the ordinal is changed instead.
    let ordinal = der.windows(5).position(|window| window == b"40812").unwrap();
    assert!(ordinal > at);
    der[ordinal + 4] = b'3';
    assert_eq!(read(&der, &profile(), &shop.bundle()).unwrap_err(), Fault::BadSignature);
    let draft = shop.template.draft(&key(), &access_content()).unwrap();
    assert_eq!(read(draft.der(), &profile(), &shop.bundle()).unwrap_err(), Fault::BadSignature);
}

#[test]
fn a_signature_of_another_algorithm_is_refused() {
    let shop = Workshop::access();
    let der = shop.leaf(&access_content());
    let sha256 = Curve::P256.signature_algorithm();
    let places: Vec<usize> = (0..der.len()).filter(|at| der[*at..].starts_with(sha256)).collect();
    assert_eq!(places.len(), 2);
    let mut outer = der.clone();
    outer[places[1] + 11] = 3;
    assert_eq!(parse(&outer, &profile()).unwrap_err(), Fault::SignatureAlgorithmsDiffer);
    let mut both = outer.clone();
    both[places[0] + 11] = 3;
    assert_eq!(read(&both, &profile(), &shop.bundle()).unwrap_err(), Fault::BadSignature);
    both[places[0] + 11] = 4;
    assert_eq!(parse(&both, &profile()).unwrap_err(), Fault::SignatureAlgorithm);
}

#[test]
fn validity_is_a_check_of_its_own_with_both_ends_inside() {
    let shop = Workshop::access();
    let certificate = read(&shop.leaf(&access_content()), &profile(), &shop.bundle()).unwrap();
    let (from, until) = (certificate.not_before, certificate.not_after);
    assert_eq!(check_validity(&certificate, from), Ok(()));
    assert_eq!(check_validity(&certificate, until), Ok(()));
    assert_eq!(check_validity(&certificate, from.plus_ms(-1)), Err(Fault::NotYetValid));
    assert_eq!(check_validity(&certificate, until.plus_ms(1)), Err(Fault::Expired));
}

#[test]
fn no_leaf_outlives_its_authority() {
    let shop = Workshop::system();
    let mut content = system(PrincipalKind::Officer);
    content.not_before = shop.authority.not_before().plus_ms(-1000);
    let outlives = |content: &Content| read(&shop.leaf(content), &profile(), &shop.bundle()).unwrap_err();
    assert_eq!(outlives(&content), Fault::OutlivesAuthority);
    content.not_before = shop.authority.not_after().plus_ms(-10_000);
    content.not_after = shop.authority.not_after().plus_ms(1000);
    assert_eq!(outlives(&content), Fault::OutlivesAuthority);
}

#[test]
fn codes_are_stable_and_unique() {
    let codes = Fault::CODES;
    let unique: std::collections::BTreeSet<_> = codes.iter().collect();
    assert_eq!(unique.len(), codes.len());
    assert!(codes.iter().all(|code| code.starts_with("CREDENTIAL_")));
    assert_eq!(Fault::Expired.code(), "CREDENTIAL_EXPIRED");
    assert_eq!(Fault::NotYetValid.code(), "CREDENTIAL_NOT_YET_VALID");
    assert_eq!(Fault::ForeignAuthority.code(), "CREDENTIAL_FOREIGN_AUTHORITY");
    assert_eq!(Fault::BadSignature.code(), "CREDENTIAL_BAD_SIGNATURE");
}
