//! DER (X.690) as a tree, so that one element can be changed and every length around it still fits. Without that a fuzzer
//! spends its time on wrong lengths and rarely gets to what is inside.

/// Elements inside elements that are followed; certificates have eight or so.
const DEPTH_MAX: usize = 16;
const OCTET_STRING: u8 = 0x04;
const CONSTRUCTED: u8 = 0x20;

enum Element<'a> {
    /// Its value is bytes.
    Plain(u8, &'a [u8]),
    /// Its value is elements.
    Nested(u8, Vec<Element<'a>>),
}

/// Another reading of `der`: byte 0 of `change` says what to do, byte 1 to which element, in the order of their tags, and
/// the rest is what to put there. None when there is nothing to change.
pub fn splice(der: &[u8], change: &[u8]) -> Option<Vec<u8>> {
    let [action, at, with @ ..] = change else { return None };
    let elements = parse(der, 0)?;
    let mut out = Vec::new();
    Splice { action: *action, with, left: usize::from(*at) }.write(&elements, &mut out);
    Some(out)
}

/// The first element inside the outermost one, as it is.
pub fn first_inside(der: &[u8]) -> Option<&[u8]> {
    let (_, inside, _) = element(der)?;
    let (_, _, rest) = element(inside)?;
    inside.get(..inside.len() - rest.len())
}

fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (tag, value, rest) = element(bytes)?;
        // The value of an extension is an octet string with DER inside.
        let may_nest = tag & CONSTRUCTED != 0 || tag == OCTET_STRING;
        let inside =
            (may_nest && depth < DEPTH_MAX && !value.is_empty()).then(|| parse(value, depth + 1)).flatten();
        elements.push(match inside {
            Some(inside) => Element::Nested(tag, inside),
            None => Element::Plain(tag, value),
        });
        bytes = rest;
    }
    Some(elements)
}

/// The first element: tag, value, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = bytes else { return None };
    let (len, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    Some((*tag, rest.get(..len)?, rest.get(len..)?))
}

struct Splice<'a> {
    action: u8,
    with: &'a [u8],
    /// How many elements come before the one to change.
    left: usize,
}

impl Splice<'_> {
    fn write(&mut self, elements: &[Element<'_>], out: &mut Vec<u8>) {
        for element in elements {
            let is_chosen = self.left == 0;
            self.left = self.left.wrapping_sub(1);
            let (Element::Plain(tag, _) | Element::Nested(tag, _)) = element;
            let mut value = Vec::new();
            match element {
                Element::Plain(_, bytes) => value.extend_from_slice(bytes),
                Element::Nested(_, inside) => self.write(inside, &mut value),
            }
            match (is_chosen, self.action % 6) {
                (false, _) => write(*tag, &value, out),
                (true, 0) => write(*tag, self.with, out),
                (true, 1) => {}
                (true, 2) => {
                    write(*tag, &value, out);
                    write(*tag, &value, out);
                }
                (true, 3) => write(self.with.first().copied().unwrap_or(0), &value, out),
                (true, 4) => write(*tag, &[&value, self.with].concat(), out),
                (true, _) => {
                    write(*tag, &value, out);
                    out.extend_from_slice(self.with);
                }
            }
        }
    }
}

fn write(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    // An input has at most some 4 KiB, so three octets of length do.
    match u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, len @ 0..=0x7f] => out.push(len),
        [0, len] => out.extend([0x81, len]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(value);
}
