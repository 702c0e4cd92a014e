"""What a gateway holds of the feed, and what that alone says against a certificate.

Pure: no clock, no network. The feed is described in docs/feed.md. Whatever is not understood here is refused, and a refusal
leaves the gateway without a lease: it denies.
"""

import hashlib
import io
import struct
from dataclasses import dataclass, field

import cbor2
import pyroaring
import zstandard
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SNAPSHOT_LEN_MAX = 64 << 20  # bytes, before compression
SNAPSHOT_WINDOW_MAX = 128 << 20  # bytes that the decompressor may look back on
BLOCKED = (1 << 64) - 1  # the cut-off of a blocked public key: above every ordinal
CLOCK_MARGIN_MS = 1_000  # how far the clock of a gateway with a lease may be off
RANGE_LEN_MAX = 1 << 21  # ordinals in one range
HEAD_DOMAIN = b"countersign head v1\0"
ATTRIBUTES = "1.3.6.1.4.1.32473.1"  # <arc>.1 of docs/oids.md; an operator has an arc of their own
FORMAT_VERSION = "1"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Refusal(Exception):
    """Something that the server sent is refused, with the code of a Nack."""

    def __init__(self, code: str, detail: str):
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


def read(raw: bytes):
    """A value from canonical CBOR: another spelling of it, or more than it, is refused."""
    try:
        value = cbor2.loads(raw)
        is_canonical = cbor2.dumps(value) == raw
    except Exception as error:  # cbor2 has many ways to say no
        raise Refusal("UNDECODABLE", "not CBOR") from error
    if not is_canonical:
        raise Refusal("UNDECODABLE", "not in canonical form")
    return value


@dataclass(frozen=True)
class Head:
    """A signed head: what the log key vouches for."""

    epoch: int
    seq: int
    root: bytes

    @classmethod
    def verified(cls, raw: bytes, log_key: Ed25519PublicKey) -> "Head":
        match read(raw):
            case [int(epoch), int(seq), bytes(root), int(time_ms), bytes(key), bytes(signature)]:
                pass
            case _:
                raise Refusal("UNDECODABLE", "not a signed head")
        try:
            signed = HEAD_DOMAIN + struct.pack(">QQ32sq", epoch, seq, root, time_ms) + key
            log_key.verify(signature, signed)
        except (struct.error, InvalidSignature) as error:
            raise Refusal("UNDECODABLE", "the signature of the head is wrong") from error
        if len(root) != 32 or key != hashlib.sha256(log_key.public_bytes_raw()).digest():
            raise Refusal("UNDECODABLE", "the head is signed with another key")
        return cls(epoch, seq, root)

    def follows(self, last: "Head") -> bool:
        """Can it come after one that was seen before? Else the server lost history, or shows another one."""
        here, there = (self.epoch, self.seq), (last.epoch, last.seq)
        return here > there or (here == there and self.root == last.root)


class Ordinals:
    """A set of numbers of certificates: roaring bitmaps of 65,536 each, as they are sent."""

    def __init__(self, shards: dict[int, bytes]):
        try:
            self.shards = {shard: pyroaring.BitMap.deserialize(raw) for shard, raw in shards.items()}
        except Exception as error:
            raise Refusal("UNDECODABLE", "not a roaring bitmap") from error
        if any(not bitmap or bitmap.max() > 0xFFFF for bitmap in self.shards.values()):
            raise Refusal("UNDECODABLE", "an ordinal out of its shard, or an empty shard")

    def __contains__(self, ordinal: int) -> bool:
        return (ordinal & 0xFFFF) in self.shards.get(ordinal >> 16, ())

    def add(self, ordinal: int):
        self.shards.setdefault(ordinal >> 16, pyroaring.BitMap()).add(ordinal & 0xFFFF)

    def add_range(self, first: int, last: int):
        for shard in range(first >> 16, (last >> 16) + 1):
            low, high = max(first, shard << 16) & 0xFFFF, min(last, (shard << 16) + 0xFFFF) & 0xFFFF
            self.shards.setdefault(shard, pyroaring.BitMap()).add_range(low, high + 1)

    def discard(self, ordinal: int):
        if ordinal >> 16 in self.shards:
            self.shards[ordinal >> 16].discard(ordinal & 0xFFFF)


def frozen(value):
    """A scope or target, [number, [fields]], as a member of a set."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def change(raw: bytes):
    """What an event does to a view. An event that is not known here is refused: it may take something away."""
    match read(raw):
        case [0, [int(ordinal)]]:
            return lambda view: view.revoked.add(ordinal)
        case [1, [bytes(lineage)]]:
            return lambda view: view.locked.add(lineage)
        case [2, [list(subjects), int(cutoff)]] if all(isinstance(subject, bytes) for subject in subjects):
            return lambda view: [view.cut(view.subjects, subject, cutoff) for subject in subjects]
        case [3, [bytes(entity), int(cutoff)]]:
            return lambda view: view.cut(view.entities, entity, cutoff)
        case [4, [bytes(issuer)]]:
            return lambda view: view.issuers.add(issuer)
        case [5, [[int(), list()] as scope]]:
            return lambda view: view.stops.add(frozen(scope))
        case [6, [[int(), list()] as scope]]:
            return lambda view: view.stops.discard(frozen(scope))
        case [7, [[int(), list()] as target]]:
            return lambda view: view.suspended.add(frozen(target))
        case [8, [[int(), list()] as target]]:
            return lambda view: view.suspended.discard(frozen(target))
        case [9, [int(ordinal)]]:
            return lambda view: view.held.add(ordinal)
        case [10, [int(ordinal)]]:
            return lambda view: view.held.discard(ordinal)
        case [11, [int(ordinal)]]:
            return lambda view: view.raise_ceiling(ordinal)
        case [12, [_bundle]]:
            return lambda view: None  # policy and law are the server's to judge
        case [13, [str(determination), int() | None as revision, int(cutoff)]]:
            return lambda view: view.cut(view.determinations, (determination, revision), cutoff)
        case [14, [bytes(key)]]:
            return lambda view: view.keys.update({key: BLOCKED})
        case [15, [bytes(key), int(cutoff)]]:
            return lambda view: view.keys.update({key: cutoff})
        case [16, [[int(first), int(last)]]] if 0 <= last - first < RANGE_LEN_MAX:
            return lambda view: view.revoked.add_range(first, last)
        case [17, [[bytes(issuer), int(), int(), bytes()]]]:
            return lambda view: view.authorities.add(issuer)
        case [18, [bytes(issuer)]]:
            return lambda view: view.authorities.discard(issuer)
        case [21, [list(row)]]:
            announced = announcement(row)
            return lambda view: view.announce(announced)
        case [22, [bytes(name), int(cut_at)]]:
            return lambda view: view.postpone(name, cut_at)
        case [22, [bytes(name)]]:
            return lambda view: view.postpone(name, None)
        case [24, [[int(), list()]]]:
            return lambda view: None  # a stop is practised: it is acknowledged, and denies nobody anything
        case _:
            raise Refusal("UNDECODABLE", "an event that this gateway does not know")


def announcement(row: list) -> tuple:
    """An announced revocation: its name, what is cut, up to which ordinal, and from when on. A kind of cut that is not known
    reaches everybody."""
    match row:
        case [bytes(name), [int(), list()] as cut, int(cutoff), int(_announced_at), int(cut_at)]:
            return name, cut, cutoff, cut_at
        case _:
            raise Refusal("UNDECODABLE", "an announcement with something that this gateway does not know")


def identifier(text: str, prefix: str) -> bytes:
    """The 16 bytes of an identifier such as ent_01J...: a ULID in Crockford's base 32 behind a prefix."""
    digits = text.removeprefix(prefix)
    if digits == text or len(digits) != 26:
        raise ValueError(f"not an identifier {prefix}...")
    return sum(CROCKFORD.index(digit) << 5 * (25 - at) for at, digit in enumerate(digits)).to_bytes(16, "big")


@dataclass(frozen=True)
class Leaf:
    """What an access certificate is known by. Its signature is verified by the server, before anything is permitted."""

    der: bytes
    issuer: bytes
    ordinal: int
    entity: bytes
    subject: bytes
    lineage: bytes
    determination: str | None = None
    annex_revision: int | None = None
    key: bytes = b""  # SHA-256 of its SubjectPublicKeyInfo

    @classmethod
    def of_pem(cls, pem: bytes, attributes: str = ATTRIBUTES) -> "Leaf":
        """Raises ValueError for what is not an access certificate."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            texts = {
                extension.oid.dotted_string: utf8_string(extension.value.value)
                for extension in certificate.extensions
                if extension.oid.dotted_string.startswith(attributes + ".")
            }
            if texts[f"{attributes}.1"] != FORMAT_VERSION:
                raise ValueError("another format version")
            (issuer,) = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            # spiffe://TRUST-DOMAIN/entity/ent_.../person/sub_..., or workload
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
            return cls(
                der=certificate.public_bytes(Encoding.DER),
                issuer=identifier(issuer.value, "aut_"),
                ordinal=int(texts[f"{attributes}.12"]),
                entity=identifier(texts[f"{attributes}.2"], "ent_"),
                subject=identifier(uri.rpartition("/")[2], "sub_"),
                lineage=identifier(texts[f"{attributes}.13"].partition("/")[0], "lin_"),
                determination=texts.get(f"{attributes}.5"),
                annex_revision=int(texts[f"{attributes}.4"]) if f"{attributes}.4" in texts else None,
                key=hashlib.sha256(
                    certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(),
            )
        except Exception as error:
            raise ValueError(f"not an access certificate: {error}") from error


def utf8_string(der: bytes) -> str:
    """The text of a short DER UTF8String; the server insists on the exact form."""
    if len(der) < 2 or der[0] != 0x0C or der[1] != len(der) - 2:
        raise ValueError("not one UTF8String")
    return der[2:].decode()


def cutoffs_by_revision(determinations: dict) -> dict[tuple[str, int | None], int]:
    """The cut-offs of a snapshot by (determination, annex revision); None: whatever the revision."""
    cutoffs = {}
    for name, row in determinations.items():
        match row:
            case [int(whole), dict(revisions)]:
                cutoffs[(name, None)] = whole
                cutoffs.update({(name, revision): cutoff for revision, cutoff in revisions.items()})
            case _:
                raise Refusal("UNDECODABLE", "a determination with something that this gateway does not know")
    return cutoffs


@dataclass
class View:
    """Everything that has been taken away, up to a record. Its sets and maps are those of docs/feed.md."""

    epoch: int
    seq: int
    digest: bytes
    ceiling: int
    revoked: Ordinals
    held: Ordinals
    locked: set[bytes] = field(default_factory=set)
    subjects: dict[bytes, int] = field(default_factory=dict)
    entities: dict[bytes, int] = field(default_factory=dict)
    issuers: set[bytes] = field(default_factory=set)
    stops: set[tuple] = field(default_factory=set)
    suspended: set[tuple] = field(default_factory=set)
    determinations: dict[tuple[str, int | None], int] = field(default_factory=dict)
    keys: dict[bytes, int] = field(default_factory=dict)
    authorities: set[bytes] = field(default_factory=set)
    announced: dict[bytes, tuple] = field(default_factory=dict)

    @classmethod
    def of_snapshot(cls, begin, compressed: bytes, end) -> "View":
        try:
            # Not more than was announced is ever made of it, whatever the compressed bytes say.
            decompressor = zstandard.ZstdDecompressor(max_window_size=SNAPSHOT_WINDOW_MAX)
            whole = decompressor.stream_reader(io.BytesIO(compressed)).read(begin.bytes + 1)
        except zstandard.ZstdError as error:
            raise Refusal("UNDECODABLE", "the snapshot is not zstd") from error
        if len(whole) != begin.bytes or hashlib.sha256(whole).digest() != end.sha256:
            raise Refusal("DIGEST", "the snapshot does not have its hash")
        match read(whole):
            case [_bundle, int(ceiling), dict(revoked), dict(held), list(locked), dict(subjects), dict(entities),
                  list(issuers), list(stops), list(suspended), int(_lease_ms), dict(determinations), dict(keys),
                  dict(authorities), None, None, None, None, None, None, None, dict(announced), *more] if not any(more):
                return cls(begin.epoch, begin.seq, end.digest, ceiling, Ordinals(revoked), Ordinals(held), set(locked),
                           dict(subjects), dict(entities), set(issuers), {frozen(stop) for stop in stops},
                           {frozen(target) for target in suspended}, cutoffs_by_revision(determinations),
                           dict(keys), set(authorities), {row[0]: row for row in map(announcement, announced.values())})
            case _:
                raise Refusal("UNDECODABLE", "a snapshot with something that this gateway does not know")

    def apply(self, delta):
        """Applies a Delta: whole, or not at all."""
        if delta.from_seq != self.seq + 1 or delta.to_seq < self.seq:
            raise Refusal("GAP", "records are missing or repeated")
        seqs = [self.seq, *(record.seq for record in delta.records)]
        if any(later <= earlier for earlier, later in zip(seqs, seqs[1:])) or seqs[-1] > delta.to_seq:
            raise Refusal("UNDECODABLE", "records are out of order")
        changes = [(record.seq, raw, change(raw)) for record in delta.records for raw in record.events]
        for seq, raw, made in changes:
            made(self)
            self.digest = hashlib.sha256(self.digest + struct.pack(">Q", seq) + raw).digest()
        self.seq = delta.to_seq

    @staticmethod
    def cut(cutoffs: dict, whose, cutoff: int):
        cutoffs[whose] = max(cutoffs.get(whose, 0), cutoff)  # a cut-off never goes down

    def raise_ceiling(self, ordinal: int):
        self.ceiling = max(self.ceiling, ordinal)

    def announce(self, announced: tuple):
        name, *_, cut_at = announced
        held = self.announced.get(name)
        if held is None or cut_at < held[-1]:  # of one that is held, the earlier instant counts
            self.announced[name] = announced

    def postpone(self, name: bytes, cut_at: int | None):
        if cut_at is None:
            self.announced.pop(name, None)
        elif name in self.announced:
            self.announced[name] = (*self.announced[name][:-1], cut_at)

    def denies(self, leaf: Leaf, model: str, now_ms: int) -> str | None:
        """Why the certificate may not use the model, as far as this view knows. None is not a permit: ask the server."""
        if leaf.issuer not in self.authorities:
            return "CREDENTIAL_INVALID"
        if not 0 < leaf.ordinal <= self.ceiling:
            return "CREDENTIAL_NOT_ISSUED"
        cutoffs = [self.entities.get(leaf.entity, 0), self.subjects.get(leaf.subject, 0), self.keys.get(leaf.key, 0)]
        if leaf.determination is not None:
            cutoffs += [self.determinations.get((leaf.determination, revision), 0) for revision in (None, leaf.annex_revision)]
        is_cut = leaf.ordinal <= max(cutoffs)
        if leaf.issuer in self.issuers or is_cut or leaf.ordinal in self.revoked:
            return "CREDENTIAL_REVOKED"
        # Announced: whether or not the server is there to say that the instant has come, and a second early at most.
        if any(at <= now_ms + CLOCK_MARGIN_MS and leaf.ordinal <= cutoff and self.is_cut(cut, leaf)
               for _, cut, cutoff, at in self.announced.values()):
            return "CREDENTIAL_REVOKED"
        if leaf.lineage in self.locked:
            return "CREDENTIAL_LINEAGE_LOCKED"
        if leaf.ordinal in self.held:
            return "CREDENTIAL_HELD"
        if any(self.is_stopped(scope, leaf, model) for scope in self.stops):
            return "EMERGENCY_STOP"
        if any(target in [(0, (leaf.entity,)), (1, (leaf.subject,))] or target[0] > 1 for target in self.suspended):
            return "P-SUSPENDED"
        return None

    @staticmethod
    def is_cut(cut: list, leaf: Leaf) -> bool:
        match cut:
            case [0, [ordinal]]:
                return ordinal == leaf.ordinal
            case [1, [lineage]]:
                return lineage == leaf.lineage
            case [2, [subjects]]:
                return leaf.subject in subjects
            case [3, [entity]]:
                return entity == leaf.entity
            case [4, [issuer]]:
                return issuer == leaf.issuer
            case [5, [determination, *revision]]:
                return determination == leaf.determination and revision in ([], [leaf.annex_revision])
            case _:
                return True  # a kind of cut that is not known here

    @staticmethod
    def is_stopped(scope: tuple, leaf: Leaf, model: str) -> bool:
        match scope:
            case (1, (stopped,)):
                return stopped == model  # by its own name; which others descend from it the server knows
            case (2, (entity,)):
                return entity == leaf.entity
            case (3, (subject,)):
                return subject == leaf.subject
            case (4, (issuer,)):
                return issuer == leaf.issuer
            case _:
                return True  # everything, or a scope that is not known here
