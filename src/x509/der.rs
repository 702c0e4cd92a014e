//! A reader and a writer of DER (X.690 section 10), only as much as certificates need.
//!
//! The reader accepts one encoding of each length and never more than the caller bounded; it never copies. It is
//! our own because a verifier that owns its format must refuse what general parsers accept (BER lengths, explicit
//! defaults, duplicates), and because it is the second reader beside x509-parser, which `lint` uses.

/// BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;
/// UTF8String.
pub(super) const UTF8_STRING: u8 = 0x0c;
/// UTCTime.
pub(super) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(super) const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET.
pub(super) const SET: u8 = 0x31;

/// The bytes are not the DER that was expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotDer;

/// One tag, length and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// Tag, length and value.
    pub(super) raw: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// A reader over the value.
    pub(super) const fn inside(&self) -> Reader<'a> {
        Reader::new(self.value)
    }

    /// The bytes of a BIT STRING whose length is a whole number of bytes.
    pub(super) fn bits(&self) -> Result<&'a [u8], NotDer> {
        match self.value.split_first() {
            Some((0, bits)) if self.tag == BIT_STRING => Ok(bits),
            _ => Err(NotDer),
        }
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// True when the next element has this tag.
    pub(super) fn next_is(&self, tag: u8) -> bool {
        self.rest.first() == Some(&tag)
    }

    /// The next element, whatever its tag. Lengths over 24 bits and tags over 30 do not occur in what we read.
    pub(super) fn any(&mut self) -> Result<Element<'a>, NotDer> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(NotDer)?;
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (len, header_len) = match after_tag {
            [len @ 0..=0x7f, ..] => (usize::from(*len), 2),
            // X.690 section 10.1: the shortest form of a length, so 0x81 only from 128 and 0x82 only from 256.
            [0x81, len @ 0x80..=0xff, ..] => (usize::from(*len), 3),
            [0x82, high @ 1..=0xff, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
            // A revocation list of a full shard has half a megabyte.
            [0x83, high @ 1..=0xff, middle, low, ..] => {
                ((usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low), 5)
            }
            _ => return Err(NotDer),
        };
        let (raw, rest) = self.rest.split_at_checked(header_len + len).ok_or(NotDer)?;
        self.rest = rest;
        Ok(Element { tag, raw, value: raw.get(header_len..).ok_or(NotDer)? })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer) }
    }

    /// Nothing may follow.
    pub(super) const fn end(&self) -> Result<(), NotDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// The only element of `bytes`, which must have this tag.
pub(super) fn only(bytes: &[u8], tag: u8) -> Result<Element<'_>, NotDer> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element)
}

/// Writes one element whose value is the parts, one after the other. Values of 16 MiB and more are not written.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + 5);
    out.push(tag);
    match u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes() {
        [0, 0, 0, low @ 0..=0x7f] => out.push(low),
        [0, 0, 0, low] => out.extend([0x81, low]),
        [0, 0, high, low] => out.extend([0x82, high, low]),
        [_, high, middle, low] => out.extend([0x83, high, middle, low]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}
