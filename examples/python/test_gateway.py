"""`python -m unittest` in this folder, with the generated code: the lease, and answers of the server that come too late."""

import asyncio
import hashlib
import struct
import unittest
from types import SimpleNamespace as Message
from unittest import mock

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import gateway
from countersign.v1 import enforcement_pb2
from gateway import Gateway
from view import HEAD_DOMAIN, Refusal
from test_view import LEAF, delta, view

KEY = Ed25519PrivateKey.generate()
KEY_DIGEST = hashlib.sha256(KEY.public_key().public_bytes_raw()).digest()


def head(epoch: int, seq: int, root: bytes = bytes(32), key: Ed25519PrivateKey = KEY) -> bytes:
    signed = HEAD_DOMAIN + struct.pack(">QQ32sq", epoch, seq, root, 0) + KEY_DIGEST
    return cbor2.dumps([epoch, seq, root, 0, KEY_DIGEST, key.sign(signed)])


def welcome(epoch: int, seq: int, signed: bytes):
    message = enforcement_pb2.Welcome(epoch=epoch, head_seq=seq, ping_ms=2_500, signed_head=signed)
    return enforcement_pb2.SubscribeResponse(welcome=message)


def pong(ping_id: int, seq: int, server_time_ms: int):
    message = enforcement_pb2.Pong(ping_id=ping_id, epoch=1, head_seq=seq, lease_ms=10_000, server_time_ms=server_time_ms,
                                   signed_head=head(1, seq))
    return enforcement_pb2.SubscribeResponse(pong=message)


class Held(unittest.TestCase):
    """A gateway that holds record 10 and is welcome, on clocks that the test holds."""

    def setUp(self):
        self.boot_ms, self.wall_ms = 1_000_000, 1_782_561_600_000
        for clock in ("boot_ms", "wall_ms"):
            patch = mock.patch.object(gateway, clock, lambda clock=clock: getattr(self, clock))
            patch.start()
            self.addCleanup(patch.stop)
        self.gateway = Gateway("server:1", None, KEY.public_key(), pausable=False)
        self.gateway.view = view()
        self.gateway.take(welcome(1, 10, head(1, 10)))

    def pass_ms(self, ms: int):
        self.boot_ms += ms
        self.wall_ms += ms

    def lease(self):
        (ping,) = self.gateway.tick()
        self.gateway.take(pong(ping.ping.ping_id, 10, self.wall_ms))
        self.assertIsNone(self.gateway.closed())


class Leases(Held):
    def test_a_lease_counts_from_the_ping(self):
        (ping,) = self.gateway.tick()
        self.pass_ms(4_000)
        self.gateway.take(pong(ping.ping.ping_id, 10, self.wall_ms - 2_000))
        self.pass_ms(5_999)
        self.assertIsNone(self.gateway.closed())
        self.pass_ms(1)
        self.assertEqual(self.gateway.closed(), "STALE_VIEW")

    def test_a_pong_that_nobody_asked_for_or_of_an_earlier_connection_extends_nothing(self):
        self.gateway.tick()
        self.gateway.take(pong(7, 10, self.wall_ms))
        self.gateway._begin()
        self.gateway.take(welcome(1, 10, head(1, 10)))
        self.gateway.take(pong(1, 10, self.wall_ms))
        self.assertEqual(self.gateway.closed(), "STALE_VIEW")

    def test_a_lease_for_records_that_are_not_held_is_refused(self):
        (ping,) = self.gateway.tick()
        with self.assertRaises(Refusal):
            self.gateway.take(pong(ping.ping.ping_id, 11, self.wall_ms))
        self.assertEqual(self.gateway.closed(), "STALE_VIEW")

    def test_a_clock_that_is_off_or_was_set_is_not_trusted(self):
        self.lease()
        self.wall_ms += 1_001
        self.assertEqual(self.gateway.closed(), "CLOCK_UNTRUSTED")

    def test_heads_are_believed_only_signed_and_never_behind(self):
        other = Ed25519PrivateKey.generate()
        for code, epoch, seq, signed in [
            ("UNDECODABLE", 1, 10, b"forged"), ("UNDECODABLE", 1, 11, head(1, 11, key=other)),
            ("UNDECODABLE", 2, 11, head(1, 11)), ("ROLLBACK", 1, 9, head(1, 9)), ("ROLLBACK", 1, 10, head(1, 10, b"\1" * 32)),
            ("ROLLBACK", 0, 99, head(0, 99)), ("ROLLBACK", 1, 9, head(1, 11)),
        ]:
            self.setUp()
            self.gateway._begin()
            with self.assertRaises(Refusal) as refused:
                self.gateway.take(welcome(epoch, seq, signed))
            self.assertEqual(refused.exception.code, code, (epoch, seq))


class Decisions(Held):
    def decide(self, *answers, meanwhile=lambda: None) -> dict:
        """A decision while the server gives these answers, and something happens as each travels."""
        left = list(answers)

        async def ask(*_):
            meanwhile()
            return left.pop(0)

        self.gateway.ask = ask
        return asyncio.run(self.gateway.decide(LEAF, "mythos-5", "US", "US"))

    @staticmethod
    def permit(seq: int, epoch: int = 1):
        return Message(permit=True, code="NOT_AN_EXPORT", as_of=Message(epoch=epoch, seq=seq))

    def test_a_permit_is_the_servers_on_at_least_what_is_held(self):
        self.lease()
        self.assertTrue(self.decide(self.permit(10))["permit"])
        self.assertTrue(self.decide(self.permit(9), self.permit(11))["permit"])
        for behind in [self.permit(9), self.permit(10, epoch=2), self.permit(10, epoch=0)]:
            answer = self.decide(behind, behind)
            self.assertEqual((answer["permit"], answer["code"]), (False, "SERVER_DID_NOT_ANSWER"))
        self.assertFalse(self.decide(None)["permit"])

    def test_what_arrives_while_the_answer_travels_counts(self):
        self.lease()
        event = bytes.fromhex("82008107")
        answer = self.decide(self.permit(10), meanwhile=lambda: self.gateway.view.apply(delta(event)))
        self.assertEqual((answer["permit"], answer["code"]), (False, "CREDENTIAL_REVOKED"))

    def test_a_lease_that_ends_while_the_answer_travels_counts(self):
        self.lease()
        answer = self.decide(self.permit(10), meanwhile=lambda: self.pass_ms(10_000))
        self.assertEqual((answer["permit"], answer["code"]), (False, "STALE_VIEW"))

    def test_without_a_lease_nobody_is_asked(self):
        self.assertEqual(self.decide()["code"], "STALE_VIEW")


if __name__ == "__main__":
    unittest.main()
