//! Is this DER, and not merely BER (X.690 sections 10 and 11)? Every element, down to those inside the extensions.

use super::super::der::{BIT_STRING, BOOLEAN, Element, INTEGER, OID, Reader, SEQUENCE, SET, only};
use super::item::{List, Subject};
use super::{Verdict, must};

/// The deepest nesting that is followed: a certificate has eight levels.
const DEPTH_MAX: u32 = 16;
/// The bits of a tag that say whose it is (X.690 section 8.1.2.2), and the two classes that occur.
const CLASS: u8 = 0xc0;
const UNIVERSAL: u8 = 0;
const CONTEXT: u8 = 0x80;
/// The bit of a tag that says that its value is elements.
const CONSTRUCTED: u8 = 0x20;

pub(super) fn certificate(subject: &Subject<'_>) -> Verdict {
    outside(subject.der)?;
    elements(subject.der, 0)?;
    subject.certificate.extensions().iter().try_for_each(|extension| {
        elements(extension.value, 0).map_err(|why| format!("in extension {}: {why}", extension.oid))
    })
}

pub(super) fn list(list: &List<'_>) -> Verdict {
    outside(list.der)?;
    elements(list.der, 0)?;
    list.list.extensions().iter().try_for_each(|extension| elements(extension.value, 0))
}

/// The three parts that are not signed, by their tags: x509-parser looks at the number of a tag only.
fn outside(bytes: &[u8]) -> Verdict {
    let parts = || {
        let mut parts = only(bytes, SEQUENCE)?.inside();
        parts.expect(SEQUENCE)?;
        parts.expect(SEQUENCE)?;
        parts.expect(BIT_STRING)?.bits()?;
        parts.end()
    };
    parts().map_err(|_| "it is not a signed part, an algorithm and a signature of whole octets".to_owned())
}

fn elements(bytes: &[u8], depth: u32) -> Verdict {
    must(depth < DEPTH_MAX, "elements are nested too deep")?;
    let mut reader = Reader::new(bytes);
    let mut last: &[u8] = &[];
    while !reader.is_empty() {
        let element =
            reader.any().map_err(|_| "a length is not in its shortest form, or goes past the end")?;
        one(&element, depth)?;
        last = element.raw;
    }
    must(depth > 0 || !last.is_empty(), "an element is empty")
}

fn one(element: &Element<'_>, depth: u32) -> Verdict {
    if element.tag == SET {
        in_order(element)?;
    }
    let is_constructed = element.tag & CONSTRUCTED != 0;
    let is_list = matches!(element.tag | CONSTRUCTED, SEQUENCE | SET);
    let is_known = match element.tag & CLASS {
        UNIVERSAL => is_constructed == is_list,
        class => class == CONTEXT,
    };
    must(is_known, "a tag is not one of certificates and lists")?;
    if is_constructed {
        return elements(element.value, depth + 1);
    }
    match element.tag {
        // Every BOOLEAN of certificates and lists is FALSE by default, and a default is not written (section 11.5).
        BOOLEAN => must(element.value == [0xff], "a BOOLEAN is not TRUE as 0xFF"),
        INTEGER => must(
            match element.value {
                [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => false,
                [_, ..] => true,
            },
            "an INTEGER is not in its shortest form",
        ),
        BIT_STRING => {
            let fits = match element.value {
                [0] => true,
                [unused @ 0..=7, .., last] => last.trailing_zeros() >= u32::from(*unused),
                _ => false,
            };
            must(fits, "a BIT STRING has unused bits that are not zero")
        }
        OID => {
            let mut begins = true;
            let fits = element.value.iter().all(|octet| {
                let fits = !(begins && *octet == 0x80);
                begins = octet & 0x80 == 0;
                fits
            });
            must(
                fits && begins && !element.value.is_empty(),
                "an OBJECT IDENTIFIER is not in its shortest form",
            )
        }
        _ => Ok(()),
    }
}

/// The elements of a SET OF are ascending (section 11.6).
fn in_order(set: &Element<'_>) -> Verdict {
    let mut reader = set.inside();
    let mut last: &[u8] = &[];
    while let Ok(element) = reader.any() {
        must(last <= element.raw, "a SET OF is not in order")?;
        last = element.raw;
    }
    Ok(())
}
