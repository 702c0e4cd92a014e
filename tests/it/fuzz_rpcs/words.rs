//! Messages made of bytes: as the descriptors say, of words that mean something here, then changed.

use std::collections::BTreeMap;

use countersign::domain::command::Command;
use countersign::domain::revocation::{RevocationReason, StopScope};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::world::World;

/// How deep messages are put into each other.
const DEPTH_MAX: usize = 4;

/// A generator that gives the same again for the same seed (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    /// Of a seed and a name, so that no two methods get the same.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| u8::try_from(self.next() & 0xff).unwrap()).collect()
    }
}

/// A mandate as the service prepares it; nobody has signed it.
pub(super) async fn mandate(world: &World) -> Vec<u8> {
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    world.mandate(&stop).await.unwrap()
}

/// What messages are made of.
pub(super) struct Words {
    pub(super) texts: Vec<String>,
    pub(super) bytes: Vec<Vec<u8>>,
    messages: BTreeMap<String, DescriptorProto>,
    /// The message that a method takes.
    inputs: BTreeMap<String, String>,
}

impl Default for Words {
    fn default() -> Self {
        let mut words =
            Self { texts: Vec::new(), bytes: Vec::new(), messages: BTreeMap::new(), inputs: BTreeMap::new() };
        for set in [countersign::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for message in &file.message_type {
                    words.learn(&format!(".{}", file.package()), message);
                }
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        words.inputs.insert(path, method.input_type().to_owned());
                    }
                }
            }
        }
        let known = [
            "",
            "-",
            "*",
            "mythos-5",
            "fable-5",
            "US",
            "FR",
            "US-FOREIGN",
            "EMPLOYEE",
            "COMPANY",
            "INFERENCE",
            "WEIGHTS",
            "ACCESS",
            "SYSTEM",
            "2026-06-27T12:00:00Z",
            "2026-06-26-lift",
            "OK",
            "0.0",
            "1.0",
            "18446744073709551615.18446744073709551615",
            "ent_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "req_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "prp_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "aut_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "ZZZZZZZZZZ",
            "\u{0}",
            "\u{202e}abc",
            "a b",
            "@",
            "../../etc/passwd",
        ];
        words.texts.extend(known.map(str::to_owned));
        words.bytes.extend([vec![], vec![0x80], vec![0x9f; 300], vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]);
        words
    }
}

impl Words {
    fn learn(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        for nested in &message.nested_type {
            self.learn(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// What is sent in one call: one message, or some.
    pub(super) fn messages(&self, path: &str, random: &mut Random) -> Vec<Vec<u8>> {
        let count = if random.percent(85) { 1 } else { random.below(4) };
        (0..count).map(|_| self.message(path, random)).collect()
    }

    fn message(&self, path: &str, random: &mut Random) -> Vec<u8> {
        let mut bytes = match self.inputs.get(path) {
            Some(input) if random.percent(90) => self.encoded(input, random, 0),
            Some(_) | None => {
                let len = random.below(200);
                random.bytes(len)
            }
        };
        if random.percent(25) {
            change(&mut bytes, random);
        }
        bytes
    }

    fn encoded(&self, name: &str, random: &mut Random, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name).filter(|_| depth <= DEPTH_MAX) else { return bytes };
        for field in &message.field {
            if !random.percent(70) {
                continue;
            }
            let times = match field.label() {
                Label::Repeated if random.percent(3) => 200,
                Label::Repeated => random.below(4),
                Label::Optional | Label::Required => 1,
            };
            for _ in 0..times {
                self.field(field, (&mut bytes, random), depth);
            }
        }
        bytes
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        (bytes, random): (&mut Vec<u8>, &mut Random),
        depth: usize,
    ) {
        let number = u32::try_from(field.number()).unwrap();
        let long = match field.r#type() {
            Type::String => self.text(random).into_bytes(),
            Type::Bytes => self.some_bytes(random),
            Type::Message | Type::Group => self.encoded(field.type_name(), random, depth + 1),
            Type::Fixed64 | Type::Sfixed64 | Type::Double => {
                encode_key(number, WireType::SixtyFourBit, bytes);
                return bytes.extend(random.next().to_le_bytes());
            }
            Type::Fixed32 | Type::Sfixed32 | Type::Float => {
                encode_key(number, WireType::ThirtyTwoBit, bytes);
                return bytes.extend(random.bytes(4));
            }
            Type::Enum | Type::Bool => {
                encode_key(number, WireType::Varint, bytes);
                return encode_varint(*random.pick(&[0, 1, 2, 3, 4, 9, 99, u64::MAX]), bytes);
            }
            _ => {
                let other = random.next();
                let value = *random.pick(&[0, 1, 2, 3, 10, 1_000, u64::from(u32::MAX), u64::MAX, other]);
                encode_key(number, WireType::Varint, bytes);
                return encode_varint(value, bytes);
            }
        };
        encode_key(number, WireType::LengthDelimited, bytes);
        encode_varint(long.len() as u64, bytes);
        bytes.extend(long);
    }

    fn text(&self, random: &mut Random) -> String {
        match random.below(10) {
            0 => {
                let len = *random.pick(&[64, 65, 1_000, 5_000]);
                "x".repeat(len)
            }
            1 => {
                let bytes = random.bytes(12);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => random.pick(&self.texts).clone(),
        }
    }

    fn some_bytes(&self, random: &mut Random) -> Vec<u8> {
        if random.percent(30) {
            let len = random.below(300);
            return random.bytes(len);
        }
        let mut bytes = random.pick(&self.bytes).clone();
        if random.percent(50) {
            change(&mut bytes, random);
        }
        bytes
    }
}

/// Changes, cuts, doubles or prolongs.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    match random.below(4) {
        0 => {
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let more = bytes.clone();
            bytes.extend(more);
        }
        _ => {
            let more = random.bytes(8);
            bytes.extend(more);
        }
    }
}
