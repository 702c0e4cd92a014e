use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::ledger::{Names, Refusal, Version};
use super::*;
use crate::domain::id::{Digest, Epoch, Seq};

const LEASED: Name = Name::Set { term: Term::Leased, has_canary: false };
const UNLEASED: Name = Name::Set { term: Term::Unleased, has_canary: false };

fn set(signature: u64) -> Version {
    Version::Set(CrlNumber::new(Epoch(1), signature, Seq(1)).unwrap())
}

fn without_canaries(name: Name) -> bool {
    matches!(name, Name::Set { has_canary: false, .. })
}

fn why(refusal: Option<Refusal>) -> Option<String> {
    refusal.map(|refusal| refusal.why)
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn ask(ledger: &mut Ledger, more: &[&str], less: &[&str]) -> Result<Option<String>, Fault> {
    let heard = Heard { names: Names::Change(names(more), names(less)), answer: None };
    ledger.hear(heard, without_canaries).map(why)
}

fn answer(ledger: &mut Ledger, nonce: &str, refused: Option<&str>) -> Result<Option<String>, Fault> {
    let answer = Some((nonce.to_owned(), refused.map(str::to_owned)));
    ledger.hear(Heard { answer, ..Heard::default() }, without_canaries).map(why)
}

#[test]
fn names_are_read_as_they_are_written() {
    for text in [
        "countersign-access",
        "countersign-access-canary",
        "countersign-access-unleased",
        "countersign-access-unleased-canary",
        "countersign-listener",
    ] {
        assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
    }
    for other in [
        "",
        "countersign",
        "countersign-access-",
        "countersign-access-canary-unleased",
        "countersign-listener-",
        "*",
    ] {
        assert!(other.parse::<Name>().is_err(), "{other}");
    }
}

#[test]
fn an_answer_is_of_its_response_and_of_nothing_else() {
    let mut ledger = Ledger::default();
    ask(&mut ledger, &["countersign-access"], &[]).unwrap();
    assert!(ledger.is_due(LEASED, set(1)));
    assert_eq!(ledger.acked(), Some(Seq(0)));
    let first = ledger.send(vec![(LEASED, set(1), Seq(5))]);
    assert!(!ledger.is_due(LEASED, set(1)) && ledger.is_due(LEASED, set(2)));
    let second = ledger.send(vec![(LEASED, set(2), Seq(9))]);
    assert_eq!(answer(&mut ledger, &first, None), Ok(None));
    assert_eq!(ledger.acked(), Some(Seq(5)));
    assert_eq!(answer(&mut ledger, &second, Some("no")), Ok(Some("no".to_owned())));
    assert_eq!(ledger.acked(), Some(Seq(5)), "a refusal acknowledges nothing");
    // The older variant repeats what it answered.
    assert_eq!(answer(&mut ledger, &second, None), Ok(None));
    assert_eq!(ledger.acked(), Some(Seq(5)));
    for unknown in ["3", "x", "-1"] {
        assert_eq!(answer(&mut ledger, unknown, None), Err(Fault::UnknownNonce), "{unknown}");
    }
    // The set that it holds says the same as of a later record; the one that it refused does not help it.
    ledger.confirm(LEASED, set(2), Seq(20));
    assert_eq!(ledger.acked(), Some(Seq(5)));
    ledger.confirm(LEASED, set(1), Seq(20));
    assert_eq!(ledger.acked(), Some(Seq(20)));
    ledger.confirm(LEASED, set(1), Seq(7));
    assert_eq!(ledger.acked(), Some(Seq(20)), "never back");
}

#[test]
fn an_answer_of_a_later_response_is_none_of_an_earlier_one() {
    let mut ledger = Ledger::default();
    ask(&mut ledger, &["countersign-access", "countersign-access-unleased"], &[]).unwrap();
    ledger.send(vec![(UNLEASED, set(1), Seq(5))]);
    let second = ledger.send(vec![(LEASED, set(2), Seq(9))]);
    answer(&mut ledger, &second, None).unwrap();
    assert_eq!(ledger.acked(), Some(Seq(9)), "a leased one counts before what is not leased");
    ask(&mut ledger, &[], &["countersign-access-unleased"]).unwrap();
    assert_eq!(ledger.names().collect::<Vec<_>>(), [LEASED]);
}

#[test]
fn who_answers_nothing_is_sent_no_more_than_eight() {
    let mut ledger = Ledger::default();
    ask(&mut ledger, &["countersign-access"], &[]).unwrap();
    let mut nonces = Vec::new();
    for signature in 1..=8 {
        assert!(ledger.has_room());
        nonces.push(ledger.send(vec![(LEASED, set(signature), Seq(signature))]));
    }
    assert!(!ledger.has_room());
    answer(&mut ledger, &nonces[3], None).unwrap();
    assert!(ledger.has_room());
    assert_eq!(ledger.acked(), Some(Seq(4)));
}

#[test]
fn what_is_asked_for_is_bounded_and_a_leased_name_is_not_dropped() {
    let mut ledger = Ledger::default();
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ask(&mut ledger, &many, &[]), Err(Fault::TooMuch));
    assert_eq!(ask(&mut ledger, &[], &many), Err(Fault::TooMuch));
    assert_eq!(ask(&mut ledger, &["x".repeat(129).as_str()], &[]), Err(Fault::TooMuch));
    assert_eq!(ask(&mut ledger, &["countersign-access-canary", "x"], &[]), Ok(None));
    assert_eq!(ledger.take_unknown(), ["countersign-access-canary", "x"]);
    assert!(ledger.take_unknown().is_empty());
    // Never sent: nobody holds it.
    ask(&mut ledger, &["countersign-access"], &["countersign-access"]).unwrap();
    ask(&mut ledger, &["countersign-access"], &[]).unwrap();
    ledger.send(vec![(LEASED, set(1), Seq(1))]);
    assert_eq!(ask(&mut ledger, &[], &["countersign-access"]), Err(Fault::Dropped));
}

#[test]
fn the_older_variant_names_all_and_is_not_answered_again() {
    let mut ledger = Ledger::default();
    let mut say = |list: &[&str]| {
        ledger
            .hear(Heard { names: Names::All(names(list)), answer: None }, without_canaries)
            .map(|_| ledger.take_unknown())
    };
    let both = ["countersign-access", "countersign-access-unleased", "other"];
    assert_eq!(say(&both), Ok(Vec::new()), "it has no word for a name that there is not");
    assert_eq!(say(&both), Ok(Vec::new()));
    ledger.send(vec![(LEASED, set(1), Seq(1)), (UNLEASED, set(1), Seq(1))]);
    let mut say =
        |list: &[&str]| ledger.hear(Heard { names: Names::All(names(list)), answer: None }, without_canaries);
    assert_eq!(say(&both), Ok(None));
    assert_eq!(say(&both[..1]), Ok(None));
    assert_eq!(say(&[]), Err(Fault::Dropped));
    assert!(!ledger.is_due(LEASED, set(1)));
}

#[test]
fn a_canary_takes_turns() {
    let mut ledger = Ledger::default();
    let name = Name::Set { term: Term::Leased, has_canary: true };
    let heard = Heard { names: Names::Change(vec![name.to_string()], Vec::new()), answer: None };
    ledger.hear(heard, |_| true).unwrap();
    let mut turns = Vec::new();
    for signature in 1..=4 {
        turns.push(ledger.last(name).1);
        ledger.send(vec![(name, set(signature), Seq(1))]);
    }
    assert_eq!(turns, [false, true, false, true]);
    assert_eq!(ledger.last(name).0, Some(set(4)));
}

#[test]
fn the_certificate_of_a_listener_acknowledges_nothing() {
    let mut ledger = Ledger::default();
    let heard = Heard {
        names: Names::Change(names(&["countersign-access", "countersign-listener"]), Vec::new()),
        answer: None,
    };
    ledger.hear(heard, |_| true).unwrap();
    let chain = Version::Chain(Digest::of(b"chain"));
    let pair = ledger.send(vec![(Name::Listener, chain, Seq(0))]);
    assert!(!ledger.is_due(Name::Listener, chain));
    assert!(ledger.is_due(Name::Listener, Version::Chain(Digest::of(b"another"))));
    assert_eq!(answer(&mut ledger, &pair, None), Ok(None));
    assert_eq!(ledger.acked(), Some(Seq(0)), "the set is not acknowledged");
    let set = ledger.send(vec![(LEASED, set(1), Seq(5))]);
    assert_eq!(answer(&mut ledger, &set, None), Ok(None));
    assert_eq!(ledger.acked(), Some(Seq(5)));
    let pair = ledger.send(vec![(Name::Listener, chain, Seq(0))]);
    let heard = Heard { answer: Some((pair, Some("no".to_owned()))), ..Heard::default() };
    let refusal = ledger.hear(heard, |_| true).unwrap().unwrap();
    assert_eq!(refusal.names, [Name::Listener]);
    assert_eq!(ledger.acked(), Some(Seq(5)));
    // It may be dropped, for nobody waits for it.
    ask(&mut ledger, &[], &["countersign-listener"]).unwrap();
    assert_eq!(ledger.names().collect::<Vec<_>>(), [LEASED]);
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn promises(fields: &[(&str, Kind)]) -> Promises {
    let fields = fields.iter().map(|(name, kind)| ((*name).to_owned(), value(kind.clone())));
    let inner = Struct { fields: fields.collect() };
    let metadata =
        Struct { fields: HashMap::from([("countersign".to_owned(), value(Kind::StructValue(inner)))]) };
    let node =
        envoy_types::pb::envoy::config::core::v3::Node { metadata: Some(metadata), ..Default::default() };
    Promises::of(&node)
}

#[test]
fn what_is_not_clearly_promised_is_not() {
    let truth = Kind::BoolValue(true);
    let all = [("per_request", truth.clone()), ("clock_synchronized", truth.clone())];
    assert!(promises(&all).has_clock && !promises(&all).strength().is_weak());
    let cut = |kind: Kind| {
        let fields = [all.as_slice(), &[("stream_cut_ms", kind)]].concat();
        promises(&fields).strength().stream_cut_ms
    };
    assert_eq!(cut(Kind::NumberValue(1_500.5)), 1_501);
    for odd in [Kind::NumberValue(-1.0), Kind::NumberValue(f64::NAN), Kind::NumberValue(1e20), truth.clone()]
    {
        assert_eq!(cut(odd), u32::MAX);
    }
    for odd in [Kind::StringValue("true".to_owned()), Kind::NumberValue(1.0), Kind::BoolValue(false)] {
        let odd = promises(&[("per_request", truth.clone()), ("clock_synchronized", odd)]);
        assert!(!odd.has_clock && odd.strength().pausable);
    }
    let closes = [
        ("closes_connections", truth.clone()),
        ("resumption_off", truth.clone()),
        ("clock_synchronized", truth),
    ];
    assert!(promises(&closes).strength().is_weak(), "a list says less than the record");
    assert!(Promises::of(&Default::default()).strength().is_weak());
}
