//! Object identifiers: the arc under which our attributes stand, and OIDs as text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The most numbers an arc may have: ours has seven, and one extension's OID must stay a line in a log.
const NUMBERS_MAX: usize = 16;
/// The longest encoded OID that is written as text; longer ones are somebody's attack on a log.
const ENCODED_LEN_MAX: usize = 64;

/// A text that is not an arc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a valid OID arc: {why}")]
pub struct InvalidArc {
    /// What is wrong with it.
    pub why: &'static str,
}

/// The private enterprise arc under which the attributes are registered, configurable per operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arc(Vec<u64>);

impl Arc {
    /// True for the documentation arc (RFC 5612), which no production service may use.
    pub fn is_documentation(&self) -> bool {
        *self == Self::default()
    }

    /// The numbers of the arc.
    pub(super) fn numbers(&self) -> &[u64] {
        &self.0
    }

    /// The numbers of the OID of attribute `number` (`<arc>.1.<number>`).
    pub(super) fn attribute(&self, number: u8) -> Vec<u64> {
        let mut numbers = self.0.clone();
        numbers.extend([1, u64::from(number)]);
        numbers
    }

    /// The encoded OID (X.690 section 8.19) of `<arc>.1`, to which one byte adds an attribute's number.
    pub(super) fn encode_prefix(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let [first, second, rest @ ..] = self.0.as_slice() {
            push_base128(&mut out, first * 40 + second);
            for number in rest {
                push_base128(&mut out, *number);
            }
        }
        push_base128(&mut out, 1);
        out
    }
}

impl Default for Arc {
    /// 1.3.6.1.4.1.32473, the enterprise number for documentation (RFC 5612).
    fn default() -> Self {
        Self(vec![1, 3, 6, 1, 4, 1, 32473])
    }
}

impl fmt::Display for Arc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.pad(&numbers.join("."))
    }
}

impl FromStr for Arc {
    type Err = InvalidArc;
    fn from_str(text: &str) -> Result<Self, InvalidArc> {
        let mut numbers = Vec::new();
        for part in text.split('.') {
            let number: u32 =
                part.parse().map_err(|_| InvalidArc { why: "numbers up to 4294967295 joined by dots" })?;
            if number.to_string() != part {
                return Err(InvalidArc { why: "a number has a sign or a leading zero" });
            }
            if numbers.len() == NUMBERS_MAX {
                return Err(InvalidArc { why: "it has more than 16 numbers" });
            }
            numbers.push(u64::from(number));
        }
        match numbers.as_slice() {
            [0 | 1, 0..=39, _, ..] | [2, _, _, ..] => Ok(Self(numbers)),
            _ => Err(InvalidArc { why: "it must have three numbers or more, the first 0 to 2" }),
        }
    }
}

fn push_base128(out: &mut Vec<u8>, number: u64) {
    let groups = number.checked_ilog2().unwrap_or(0) / 7;
    for group in (0..=groups).rev() {
        let [low, ..] = (number >> (7 * group)).to_le_bytes();
        out.push(if group == 0 { low & 0x7f } else { low | 0x80 });
    }
}

/// An encoded OID as dotted numbers, or `None` when it is not one or too long to be worth a line.
pub(super) fn text(encoded: &[u8]) -> Option<String> {
    if encoded.len() > ENCODED_LEN_MAX {
        return None;
    }
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    let mut open = false;
    for byte in encoded {
        if number > u64::MAX >> 7 || (!open && *byte == 0x80) {
            return None;
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        open = byte & 0x80 != 0;
        if !open {
            numbers.push(number);
            number = 0;
        }
    }
    let (first, rest) = numbers.split_first().filter(|_| !open)?;
    let root = (*first / 40).min(2);
    let mut text = format!("{root}.{}", *first - root * 40);
    for number in rest {
        text.push('.');
        text.push_str(&number.to_string());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arc_has_one_spelling_and_the_encoding_of_x690() {
        let arc: Arc = "1.3.6.1.4.1.32473".parse().unwrap();
        assert_eq!(arc, Arc::default());
        assert_eq!(hex::encode(arc.encode_prefix()), "2b0601040181fd5901");
        assert_eq!(text(&arc.encode_prefix()).unwrap(), "1.3.6.1.4.1.32473.1");
        for bad in ["", "1", "1.3", "3.1.1", "1.40.1", "1.3.06", "1.3.+6", "1..3", "1.3.4294967296"] {
            assert!(bad.parse::<Arc>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_an_oid_has_no_text() {
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[0x2b, 0x80]), None);
        assert_eq!(text(&[0x2b, 0x80, 0x01]), None);
        assert_eq!(text(&[0xff; 30]), None);
        assert_eq!(text(&[0x01; 65]), None);
        assert_eq!(text(&[0x88, 0x37]).as_deref(), Some("2.999"));
    }
}
