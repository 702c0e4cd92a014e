"""`python -m unittest` in this folder: what the view holds, and that it refuses what it does not know. The events are those
that the golden test of the service pins (src/domain/tests/encodings/feed.rs)."""

import hashlib
import struct
import tracemalloc
import unittest
from types import SimpleNamespace as Message

import cbor2
import pyroaring
import zstandard

from view import Leaf, Ordinals, Refusal, View, change, identifier

ENTITY, SUBJECT, ISSUER, LINEAGE = (bytes([n]) * 16 for n in (1, 2, 3, 4))
KEY = bytes([8]) * 32
NOW_MS = 1_782_561_600_000
LEAF = Leaf(der=b"", issuer=ISSUER, ordinal=7, entity=ENTITY, subject=SUBJECT, lineage=LINEAGE,
            determination="2026-06-26-lift", annex_revision=3, key=KEY)
BUNDLE = [[], [], [], []]


def view() -> View:
    return View(1, 10, bytes(32), 100, Ordinals({}), Ordinals({}), authorities={ISSUER})


def delta(*events: bytes, first: int = 11) -> Message:
    records = [Message(seq=first + at, events=[event]) for at, event in enumerate(events)]
    return Message(from_seq=11, to_seq=max(10, first + len(events) - 1), records=records)


def snapshot(content: list) -> View:
    whole = cbor2.dumps(content)
    begin = Message(epoch=1, seq=10, bytes=len(whole))
    return View.of_snapshot(begin, zstandard.compress(whole), Message(sha256=hashlib.sha256(whole).digest(), digest=b"d"))


class Events(unittest.TestCase):
    def test_each_event_takes_away_what_it_says(self):
        for event, code in {
            "82008107": "CREDENTIAL_REVOKED",
            "8201815004040404040404040404040404040404": "CREDENTIAL_LINEAGE_LOCKED",
            "82028281500202020202020202020202020202020207": "CREDENTIAL_REVOKED",
            "82038250010101010101010101010101010101011b0000010000000000": "CREDENTIAL_REVOKED",
            "8204815003030303030303030303030303030303": "CREDENTIAL_REVOKED",
            "820581820080": "EMERGENCY_STOP",
            "820581820181686d7974686f732d35": "EMERGENCY_STOP",
            "8205818202815001010101010101010101010101010101": "EMERGENCY_STOP",
            "8205818203815002020202020202020202020202020202": "EMERGENCY_STOP",
            "8205818204815003030303030303030303030303030303": "EMERGENCY_STOP",
            "8207818200815001010101010101010101010101010101": "P-SUSPENDED",
            "8207818201815002020202020202020202020202020202": "P-SUSPENDED",
            "82098107": "CREDENTIAL_HELD",
            "820d836f323032362d30362d32362d6c696674f607": "CREDENTIAL_REVOKED",
            "820d836f323032362d30362d32362d6c696674031b0000010000000000": "CREDENTIAL_REVOKED",
            "820e81582008" + "08" * 31: "CREDENTIAL_REVOKED",
            "821081820509": "CREDENTIAL_REVOKED",
            "8212815003030303030303030303030303030303": "CREDENTIAL_INVALID",
        }.items():
            held = view()
            self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))
            held.apply(delta(bytes.fromhex(event)))
            self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS), code, event)
            self.assertEqual(held.seq, 11)

    def test_what_is_released_is_no_longer_denied(self):
        for engaged, released in [("820581820080", "820681820080"), ("82098107", "820a8107"), (
                "8207818200815001010101010101010101010101010101", "8208818200815001010101010101010101010101010101")]:
            held = view()
            held.apply(delta(bytes.fromhex(engaged), bytes.fromhex(released)))
            self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))

    def test_an_authority_is_known_from_its_record_on(self):
        held = view()
        held.authorities.clear()
        self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS), "CREDENTIAL_INVALID")
        held.apply(delta(bytes.fromhex("82118184500303030303030303030303030303030301054130")))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))

    def test_a_drill_is_applied_and_denies_nobody(self):
        held = view()
        held.apply(delta(bytes.fromhex("82181881820080")))
        self.assertEqual(held.seq, 11)
        self.assertNotEqual(held.digest, bytes(32))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))

    def test_a_later_certificate_is_not_cut_off_and_a_cutoff_never_falls(self):
        held = view()
        held.apply(delta(cbor2.dumps([3, [ENTITY, 6]]), cbor2.dumps([3, [ENTITY, 5]])))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))
        self.assertEqual(held.entities[ENTITY], 6)
        held.apply(Message(from_seq=13, to_seq=13, records=[Message(seq=13, events=[cbor2.dumps([13, ["2026-06-26-lift", 2, 9]])])]))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS), "another revision")

    def test_what_is_announced_is_cut_at_its_instant_without_a_record(self):
        name = bytes([6]) * 16
        cuts = [[0, [7]], [1, [LINEAGE]], [2, [[SUBJECT]]], [3, [ENTITY]], [4, [ISSUER]], [5, ["2026-06-26-lift"]],
                [5, ["2026-06-26-lift", 3]], [9, [b"?"]]]
        for cut in cuts:
            held = view()
            held.apply(delta(cbor2.dumps([21, [[name, cut, 7, NOW_MS - 5, NOW_MS + 1_001]]])))
            self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))
            self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS + 1), "CREDENTIAL_REVOKED", cut)
        for cut, cutoff in [([3, [ENTITY]], 6), ([3, [SUBJECT]], 7), ([5, ["2026-06-26-lift", 2]], 7)]:
            held = view()
            held.apply(delta(cbor2.dumps([21, [[name, cut, cutoff, NOW_MS - 5, NOW_MS]]])))
            self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS), cut)

    def test_an_instant_is_moved_and_taken_back(self):
        name = bytes([6]) * 16
        announced = lambda at: cbor2.dumps([21, [[name, [3, [ENTITY]], 7, NOW_MS - 5, at]]])
        held = view()
        held.apply(delta(announced(NOW_MS + 9_000), announced(NOW_MS), announced(NOW_MS + 9_000)))
        self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS), "CREDENTIAL_REVOKED", "the earlier one counts")
        held.apply(Message(from_seq=14, to_seq=14, records=[Message(seq=14, events=[cbor2.dumps([22, [name, NOW_MS + 5_000]])])]))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))
        self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS + 5_000), "CREDENTIAL_REVOKED")
        held.apply(Message(from_seq=15, to_seq=15, records=[Message(seq=15, events=[cbor2.dumps([22, [name]])])]))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS + 5_000))
        with self.assertRaises(Refusal):
            held.apply(Message(from_seq=16, to_seq=16, records=[Message(seq=16, events=[cbor2.dumps([21, [[name, 3]]])])]))

    def test_an_ordinal_that_was_never_announced_is_denied(self):
        held = view()
        held.ceiling = 6
        self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS), "CREDENTIAL_NOT_ISSUED")
        held.apply(delta(cbor2.dumps([11, [7]]), cbor2.dumps([11, [3]])))
        self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))

    def test_a_stop_of_a_kind_that_is_not_known_reaches_everything(self):
        held = view()
        held.apply(delta(cbor2.dumps([5, [[9, [b"?"]]]])))
        self.assertEqual(held.denies(LEAF, "mythos-5", NOW_MS), "EMERGENCY_STOP")

    def test_what_is_not_known_is_refused_and_nothing_of_it_applied(self):
        for unknown in [b"", b"?", cbor2.dumps([99, [7]]), cbor2.dumps([0, [7, 8]]), bytes.fromhex("8200811807"),
                        bytes.fromhex("8200810700"), bytes.fromhex("9f008107ff"), cbor2.dumps({0: [7]})]:
            held = view()
            with self.assertRaises(Refusal) as refused:
                held.apply(delta(bytes.fromhex("82008107"), unknown))
            self.assertEqual((refused.exception.code, held.seq, held.digest), ("UNDECODABLE", 10, bytes(32)))
            self.assertIsNone(held.denies(LEAF, "mythos-5", NOW_MS))

    def test_lost_and_repeated_records_are_refused(self):
        event = bytes.fromhex("82008107")
        for from_seq, to_seq in [(10, 11), (12, 12), (11, 9)]:
            with self.assertRaises(Refusal) as refused:
                view().apply(Message(from_seq=from_seq, to_seq=to_seq, records=[]))
            self.assertEqual(refused.exception.code, "GAP")
        with self.assertRaises(Refusal):
            view().apply(Message(from_seq=11, to_seq=11, records=[Message(seq=12, events=[event])]))

    def test_the_digest_is_chained_over_record_and_event(self):
        held, event = view(), bytes.fromhex("82098107")
        held.apply(delta(event))
        self.assertEqual(held.digest, hashlib.sha256(bytes(32) + struct.pack(">Q", 11) + event).digest())
        held.apply(Message(from_seq=12, to_seq=11, records=[]))
        self.assertEqual(held.seq, 11, "a Delta of cards only")


class Snapshots(unittest.TestCase):
    CONTENT = [BUNDLE, 1 << 20, {0: pyroaring.BitMap([7]).serialize(), 1: pyroaring.BitMap([3]).serialize()}, {}, [LINEAGE],
               {SUBJECT: 5}, {ENTITY: 6}, [ISSUER], [[0, []]], [[0, [ENTITY]]], 10_000, {"2026-06-26-lift": [4, {3: 8}]},
               {KEY: 5}, {ISSUER: [ISSUER, 0, 0, b"0"]}, *[None] * 7,
               {b"a" * 16: [b"a" * 16, [3, [ENTITY]], 9, 1_000, 2_000]}]

    def test_a_snapshot_is_read(self):
        held = snapshot(self.CONTENT)
        self.assertTrue(7 in held.revoked and 65_539 in held.revoked and 8 not in held.revoked and 1 << 40 not in held.revoked)
        self.assertEqual((held.locked, held.issuers, held.digest), ({LINEAGE}, {ISSUER}, b"d"))
        self.assertEqual((held.stops, held.suspended), ({(0, ())}, {(0, (ENTITY,))}))
        self.assertEqual(held.authorities, {ISSUER})
        self.assertEqual(held.announced, {b"a" * 16: (b"a" * 16, [3, [ENTITY]], 9, 2_000)})
        self.assertEqual(held.determinations, {("2026-06-26-lift", None): 4, ("2026-06-26-lift", 3): 8})

    def test_more_than_is_known_is_refused_unless_it_is_empty(self):
        snapshot([*self.CONTENT, [], None])
        with self.assertRaises(Refusal):
            snapshot([*self.CONTENT, ["2026-06-26-lift"]])

    def test_a_bomb_is_not_unpacked(self):
        bomb, end = zstandard.compress(b"\0" * (64 << 20)), Message(sha256=bytes(32), digest=b"d")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaises(Refusal) as refused:
            View.of_snapshot(Message(epoch=1, seq=10, bytes=1_000), bomb, end)
        self.assertEqual(refused.exception.code, "DIGEST")
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)

    def test_broken_bitmaps_are_refused(self):
        beyond, empty = pyroaring.BitMap([65_536]).serialize(), pyroaring.BitMap().serialize()
        for broken in [b"", b"?" * 20, b"\x3a\x30\0\0\xff\xff\xff\xff", beyond, empty]:
            with self.assertRaises(Refusal):
                snapshot([BUNDLE, 1, {0: broken}, *self.CONTENT[3:]])


class Names(unittest.TestCase):
    def test_identifiers_are_16_bytes(self):
        self.assertEqual(identifier("ent_01J9ZQ4R8W3T5V7X9Y1A2B3C4D", "ent_").hex()[:6], "01927f")
        for wrong in ["ent_", "sub_01J9ZQ4R8W3T5V7X9Y1A2B3C4D", "ent_01J9ZQ4R8W3T5V7X9Y1A2B3C4U", "ent_Z1J9ZQ4R8W3T5V7X9Y1A2B3C4D"]:
            with self.assertRaises((ValueError, OverflowError)):
                identifier(wrong, "ent_")


if __name__ == "__main__":
    unittest.main()
