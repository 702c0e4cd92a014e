"""A gateway in Python: it subscribes to the feed, holds a lease, acknowledges what it enforces, and decides.

It is safe by being simple. What it holds can only deny: whatever that does not deny is asked of the server (Evaluate), which
judges law and policy and verifies the certificate. A permit is the server's, given on at least what this gateway holds, and
only while the lease holds. Everything runs on one thread of one event loop, so no decision sees half of a change, and what is
acknowledged decides every request from then on.

    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. ../../proto/countersign/v1/*.proto
    python gateway.py --server countersign.example:7443 --identity gw-1 --decide me/certificate.pem --model mythos-5

It decides about the certificate again and again, as a gateway does at each request, and prints each decision as a line of
JSON. See docs/gateways.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import time
from functools import partial
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import algorithms
from countersign.v1 import attestation_pb2, attestation_pb2_grpc, common_pb2, enforcement_pb2, enforcement_pb2_grpc
from view import CROCKFORD, SNAPSHOT_LEN_MAX, Head, Leaf, Refusal, View

AGENT = "countersign-python-example/0.1.0"
PING_MIN_MS, PING_MAX_MS = 100, 2_500
LEASE_MAX_MS = 60_000
SNAPSHOT_PART_LEN_MAX = 1 << 20
SNAPSHOT_PARTS_MAX = SNAPSHOT_LEN_MAX // SNAPSHOT_PART_LEN_MAX + 1
CLOCK_OFFSET_MAX_MS = 1_000
TICK_S = 0.1
PINGS_MAX = 8  # that are remembered; the Pong of an older one extends nothing
SEND_MAX = 64  # messages that may wait; more means that the server does not read
PAUSE_MIN_S, PAUSE_MAX_S = 0.25, 10.0
FAREWELL_S = 1.0
ASK_S = 2.0
ASKS_MAX = 2
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 2_500),
    ("grpc.keepalive_timeout_ms", 2_500),
    ("grpc.enable_http_proxy", 0),
]


def boot_ms() -> int:
    """The lease's clock: one that runs while the machine sleeps, and that nobody sets."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def new_boot_id() -> str:
    """boo_ and a ULID: this run of the gateway."""
    number = (wall_ms() << 80) | int.from_bytes(os.urandom(10), "big")
    return "boo_" + "".join(CROCKFORD[number >> 5 * at & 31] for at in reversed(range(26)))


class Lost(Exception):
    """The connection is of no more use."""


class Drained(Exception):
    """The server asks to connect again after so many seconds."""

    def __init__(self, pause_s: float):
        super().__init__("the server asked to connect again")
        self.pause_s = pause_s


class Gateway:
    def __init__(self, server: str, credentials: grpc.ChannelCredentials, log_key: Ed25519PublicKey, pausable: bool,
                 prove=None):
        self.server, self.credentials, self.log_key = server, credentials, log_key
        self.prove = prove  # what the service has to show once before anything is believed of it; None: nothing, or it has
        self.boot_id = new_boot_id()
        # Each request is decided anew and nothing streams, so a revocation reaches the next request. A machine that can be
        # paused without its clocks noticing (most virtual ones) must say so: its promises are then weak.
        self.strength = enforcement_pb2.Strength(per_request=True, resumption_off=True, pausable=pausable)
        self.view: View | None = None
        self.head: tuple[Head, bytes] | None = None
        self.lease_until_ms = 0
        self.clock_offset_ms = 0
        self.wall_minus_boot_ms = 0
        self.ping_ms = PING_MAX_MS
        self.last_ping_id = 0
        self.channel: grpc.aio.Channel | None = None
        self._begin()

    def _begin(self):
        """Nothing is known of this connection yet. What is held stays, and so does the lease, until it ends."""
        self.epoch: int | None = None  # the server's, once it has said Welcome
        self.is_live = False  # deltas follow what is held
        self.loading = None  # a snapshot that is arriving: its beginning and its parts
        self.pings: dict[int, tuple[int, int]] = {}  # number: boot and wall clock when it was sent
        self.next_ping_ms = 0

    # Deciding

    def closed(self) -> str | None:
        """Why nothing may be permitted now, whatever the certificate."""
        if self.view is None or boot_ms() >= self.lease_until_ms:
            return "STALE_VIEW"
        stepped = wall_ms() - boot_ms() - self.wall_minus_boot_ms
        if abs(self.clock_offset_ms + stepped) > CLOCK_OFFSET_MAX_MS:
            return "CLOCK_UNTRUSTED"
        return None

    async def decide(self, leaf: Leaf, model: str, place: str, serving_region: str) -> dict:
        """A permit is to be used within 250 ms, or asked for again."""
        for _ in range(ASKS_MAX):
            if denial := self.closed() or self.view.denies(leaf, model, wall_ms()):
                return self.answer(False, denial, "gateway")
            decision = await self.ask(leaf, model, place, serving_region)
            if decision is None:
                break
            if not decision.permit:
                return self.answer(False, decision.code, "server")
            # The answer travelled while records arrived here: what they took away is seen here, and what this view cannot
            # see must have been in the answer already.
            if denial := self.closed() or self.view.denies(leaf, model, wall_ms()):
                return self.answer(False, denial, "gateway")
            if decision.as_of.epoch == self.view.epoch and decision.as_of.seq >= self.view.seq:
                return self.answer(True, decision.code, "server")
        return self.answer(False, "SERVER_DID_NOT_ANSWER", "gateway")

    def answer(self, permit: bool, code: str, by: str) -> dict:
        now_ms = boot_ms()
        return {
            "permit": permit, "code": code, "by": by, "seq": self.view.seq if self.view else 0,
            "boot_ms": now_ms, "lease_left_ms": max(0, self.lease_until_ms - now_ms),
        }

    async def ask(self, leaf: Leaf, model: str, place: str, serving_region: str):
        if self.channel is None:
            return None
        at_least = common_pb2.Position(epoch=self.view.epoch, seq=self.view.seq)
        request = attestation_pb2.EvaluateRequest(
            certificate=leaf.der, model=model, place=place, serving_region=serving_region, min_position=at_least)
        stub = attestation_pb2_grpc.AttestationServiceStub(self.channel)
        try:
            return (await stub.Evaluate(request, timeout=ASK_S)).decision
        except grpc.aio.AioRpcError:
            return None

    # The feed: what the server says, and what is said to it

    def open(self):
        held, head = self.view, self.head
        return enforcement_pb2.SubscribeRequest(open=enforcement_pb2.Open(
            boot_id=self.boot_id,
            epoch=held.epoch if held else 0,
            applied_seq=held.seq if held else 0,
            digest=held.digest if held else b"",
            signed_head=head[1] if head else b"",
            versions=[1],
            enforcement=self.strength,
            agent=AGENT,
            adapter="python",
        ))

    def ack(self, barrier_id: int = 0) -> list:
        """What is held is enforced. Nothing is acknowledged before a snapshot that must come has come."""
        if not self.is_live:
            return []
        ack = enforcement_pb2.Ack(applied_seq=self.view.seq, barrier_id=barrier_id)
        return [enforcement_pb2.SubscribeRequest(ack=ack)]

    def tick(self) -> list:
        """The Ping, when it is due. The lease will count from now, which is before it is sent."""
        now_ms = boot_ms()
        if not self.is_live or now_ms < self.next_ping_ms:
            return []
        self.next_ping_ms = now_ms + self.ping_ms
        self.last_ping_id += 1
        self.pings[self.last_ping_id] = (now_ms, wall_ms())
        self.pings.pop(self.last_ping_id - PINGS_MAX, None)
        ping = enforcement_pb2.Ping(ping_id=self.last_ping_id, applied_seq=self.view.seq)
        return [enforcement_pb2.SubscribeRequest(ping=ping)]

    def take(self, response) -> list:
        """Takes a message and gives what is to be sent. Raises Refusal; what is held then stays as it is."""
        kind = response.WhichOneof("message")
        message = getattr(response, kind) if kind else None
        if (self.epoch is None) != (kind == "welcome"):
            raise Refusal("UNDECODABLE", "a welcome out of place")
        match kind:
            case "welcome":
                return self.on_welcome(message)
            case "delta":
                if not self.is_live:
                    raise Refusal("GAP", "records before a snapshot")
                self.view.apply(message)
                return self.ack()
            case "snapshot_begin":
                held = (self.view.epoch, self.view.seq) if self.view else (0, 0)
                if self.loading is not None or message.epoch != self.epoch:
                    raise Refusal("UNDECODABLE", "a snapshot out of place")
                if message.bytes > SNAPSHOT_LEN_MAX or message.parts > SNAPSHOT_PARTS_MAX:
                    raise Refusal("UNDECODABLE", "the snapshot is too long")
                if (message.epoch, message.seq) < held:
                    raise Refusal("ROLLBACK", f"a snapshot of record {message.seq}, behind what is held")
                self.loading, self.is_live = (message, []), False
                return []
            case "snapshot_part":
                is_more = self.loading is None or len(self.loading[1]) >= self.loading[0].parts
                if is_more or len(message.data) > SNAPSHOT_PART_LEN_MAX:
                    raise Refusal("UNDECODABLE", "more of a snapshot than was announced")
                self.loading[1].append(message.data)
                return []
            case "snapshot_end":
                return self.on_snapshot(message)
            case "pong":
                return self.on_pong(message)
            case "barrier":
                return self.ack(message.barrier_id)
            case "drain":
                pause_ms = message.reconnect_after_ms + random.randint(0, message.jitter_ms)
                raise Drained(min(pause_ms, 60_000) / 1_000)
            case _:
                raise Refusal("UNDECODABLE", "a message that this gateway does not know")

    def on_welcome(self, welcome) -> list:
        self.note_head(welcome.signed_head, welcome.epoch)
        if self.view and (welcome.epoch, welcome.head_seq) < (self.view.epoch, self.view.seq):
            raise Refusal("ROLLBACK", f"the server is at record {welcome.head_seq}, behind record {self.view.seq}")
        self.epoch = welcome.epoch
        self.ping_ms = min(max(welcome.ping_ms, PING_MIN_MS), PING_MAX_MS)
        self.is_live = self.view is not None and self.view.epoch == self.epoch
        if self.is_live:
            log(f"resumed after record {self.view.seq}")
        return self.ack()

    def on_snapshot(self, end) -> list:
        if self.loading is None or len(self.loading[1]) != self.loading[0].parts:
            raise Refusal("GAP", "parts of the snapshot are missing")
        begin, parts = self.loading
        view = View.of_snapshot(begin, b"".join(parts), end)
        held = self.view
        if held and (held.epoch, held.seq) == (view.epoch, view.seq) and held.digest != view.digest:
            raise Refusal("ROLLBACK", f"another history up to record {view.seq}")
        self.view, self.loading, self.is_live = view, None, True
        log(f"took a snapshot of record {view.seq}")
        return self.ack()

    def on_pong(self, pong) -> list:
        self.note_head(pong.signed_head, pong.epoch)
        if pong.ping_id not in self.pings:
            return []
        sent_boot_ms, sent_wall_ms = self.pings[pong.ping_id]
        self.pings = {number: sent for number, sent in self.pings.items() if number > pong.ping_id}
        # The server read its clock between sending and arrival: half of the way is the best guess.
        self.clock_offset_ms = (sent_wall_ms + wall_ms()) // 2 - pong.server_time_ms
        self.wall_minus_boot_ms = wall_ms() - boot_ms()
        if not self.is_live or self.view.epoch != pong.epoch or self.view.seq < pong.head_seq:
            raise Refusal("GAP", "a lease for records that were not sent")
        lease_ms = min(pong.lease_ms, LEASE_MAX_MS)
        self.lease_until_ms = max(self.lease_until_ms, sent_boot_ms + lease_ms)
        return []

    def note_head(self, raw: bytes, epoch: int):
        """Believes a head only with the log key's signature, and never one that does not follow the last."""
        if self.head and self.head[1] == raw and self.head[0].epoch == epoch:
            return
        head = Head.verified(raw, self.log_key)
        if head.epoch != epoch:
            raise Refusal("UNDECODABLE", "a signed head of another epoch")
        if self.head and not head.follows(self.head[0]):
            raise Refusal("ROLLBACK", f"a signed head at record {head.seq}, where {self.head[0].seq} was signed before")
        self.head = (head, raw)

    # The connection

    async def run(self):
        """Subscribes for ever: connects, and connects again after a pause."""
        pause_s = PAUSE_MIN_S
        while True:
            lease_before = self.lease_until_ms
            try:
                await self.connection()
                why = Lost("the server ended the stream")
            except (Refusal, Lost, Drained, grpc.aio.AioRpcError) as error:
                why = error
            self.channel = None
            self._begin()
            log(f"the subscription ended: {why.details() if isinstance(why, grpc.aio.AioRpcError) else why}")
            pause_s = PAUSE_MIN_S if self.lease_until_ms > lease_before else min(2 * pause_s, PAUSE_MAX_S)
            wait_s = why.pause_s if isinstance(why, Drained) else pause_s * random.uniform(0.5, 1)
            await asyncio.sleep(wait_s)

    async def connection(self):
        if self.prove is not None:
            try:
                await self.prove()
            except algorithms.WrongAlgorithms as error:
                raise Lost(str(error)) from error
            self.prove = None
            log("the service has shown that it takes nothing but the suite of cnsa")
        # A new channel each time: gRPC's own pause after a failure grows far beyond a lease.
        async with grpc.aio.secure_channel(self.server, self.credentials, CHANNEL_OPTIONS) as channel:
            sending: asyncio.Queue = asyncio.Queue(SEND_MAX)
            sending.put_nowait(self.open())
            stub = enforcement_pb2_grpc.EnforcementServiceStub(channel)
            stream = stub.Subscribe(until_none(sending))
            ticking = asyncio.create_task(self.tick_into(sending))
            self.channel = channel
            try:
                async for response in stream:
                    send(sending, self.take(response))
            except Refusal as refusal:
                # The view is not what the server has, so nothing may be permitted on it.
                self.lease_until_ms = 0
                nack = enforcement_pb2.Nack(
                    seq=self.view.seq if self.view else 0, code=refusal.code, detail=refusal.detail)
                send(sending, [enforcement_pb2.SubscribeRequest(nack=nack), None])
                # The server ends the stream when it has the refusal.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stream.code(), FAREWELL_S)
                raise
            finally:
                ticking.cancel()
                stream.cancel()

    async def tick_into(self, sending: asyncio.Queue):
        while True:
            # A server that does not read gets no Ping, and the lease ends.
            if not sending.full():
                send(sending, self.tick())
            await asyncio.sleep(TICK_S)


def send(sending: asyncio.Queue, messages: list):
    for message in messages:
        try:
            sending.put_nowait(message)
        except asyncio.QueueFull as error:
            raise Lost("the server does not read") from error


async def until_none(sending: asyncio.Queue):
    while (message := await sending.get()) is not None:
        yield message


def log(text: str):
    os.write(2, f"gateway: {text}\n".encode())


def arguments():
    parser = argparse.ArgumentParser(description="A gateway that decides about one certificate, again and again.")
    parser.add_argument("--server", required=True, help="HOST:PORT; the host is a name in the server's certificate")
    parser.add_argument("--identity", type=Path, required=True,
                        help="folder with certificate.pem, key.pem, system-bundle.pem and log-key.pem")
    parser.add_argument("--decide", type=Path, required=True, metavar="PEM", help="the certificate that a client shows")
    parser.add_argument("--model", required=True)
    parser.add_argument("--place", default="", help="where the client is: US, a two-letter country, or not known")
    parser.add_argument("--serving-region", default="", help="where the model is served from, likewise")
    parser.add_argument("--every-ms", type=int, default=250, help="how often it decides")
    parser.add_argument("--pausable", action="store_true", help="this machine can be paused without its clocks noticing")
    return parser.parse_args()


async def main():
    given = arguments()
    identity = {name: (given.identity / name).read_bytes()
                for name in ["certificate.pem", "key.pem", "system-bundle.pem", "log-key.pem"]}
    # Of the system authority only a server's certificate has host names and may be a TLS server's, so the usual checks of
    # gRPC are enough to know that it is the server.
    credentials = grpc.ssl_channel_credentials(
        identity["system-bundle.pem"], identity["key.pem"], identity["certificate.pem"])
    log_key = load_pem_public_key(identity["log-key.pem"])
    if not isinstance(log_key, Ed25519PublicKey):
        raise SystemExit("log-key.pem is not an Ed25519 key")
    leaf = Leaf.of_pem(given.decide.read_bytes())
    prove = None
    try:
        profile = algorithms.profile_of(identity["system-bundle.pem"])
        algorithms.check_identity(profile, identity["certificate.pem"], identity["key.pem"])
    except algorithms.WrongAlgorithms as error:
        raise SystemExit(f"{given.identity}: {error}") from error
    if profile == algorithms.CNSA:
        prove = partial(algorithms.check_service, given.server, given.identity)
    gateway = Gateway(given.server, credentials, log_key, given.pausable, prove)
    running = asyncio.create_task(gateway.run())
    while not running.done():
        decision = await gateway.decide(leaf, given.model, given.place, given.serving_region)
        print(json.dumps(decision), flush=True)
        await asyncio.sleep(given.every_ms / 1_000)
    running.result()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
