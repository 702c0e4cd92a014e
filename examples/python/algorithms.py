"""Which algorithms a service uses, as its bundle says, and what a gateway checks when that is `cnsa`: P-384 keys, SHA-384, and a
TLS that agrees on nothing but TLS_AES_256_GCM_SHA384 and secp384r1.

What gRPC offers cannot be narrowed from Python. So a gateway of a cnsa service asks the service itself, before the first
subscription: a handshake of the suite must succeed, and one of a weaker group must fail. Whatever gRPC then agrees on with that
service is of the suite. Nothing is taken for granted because it was not reached.
"""

import asyncio
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

STANDARD, CNSA = "standard", "cnsa"
PROFILE_LINE = b"# PROFILE "
SUITE, GROUP, WEAKER_GROUP = "TLS_AES_256_GCM_SHA384", "secp384r1", "prime256v1"
HANDSHAKE_S = 5.0
ANEW = "take the operator's trust/system.pem anew"


class WrongAlgorithms(Exception):
    """Something is not of the profile of the service, or could not be shown to be."""


def is_p384(key) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def is_of_suite(certificate: x509.Certificate) -> bool:
    """Of a P-384 key, and signed with SHA-384 by an elliptic-curve key; that the signer's is P-384 is its own certificate's."""
    signed = certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.ECDSA_WITH_SHA384
    return is_p384(certificate.public_key()) and signed and isinstance(certificate.signature_hash_algorithm, hashes.SHA384)


def profile_of(bundle: bytes) -> str:
    """The profile that a bundle says; one of before, which says none, is judged by its system authorities, and strictly."""
    certificates = x509.load_pem_x509_certificates(bundle)
    said = {line[len(PROFILE_LINE):].strip().decode(errors="replace")
            for line in bundle.splitlines() if line.startswith(PROFILE_LINE)}
    if len(said) > 1 or not said <= {STANDARD, CNSA}:
        raise WrongAlgorithms(f"the bundle says a profile that is neither standard nor cnsa, or two; {ANEW}")
    if said == {CNSA} and not all(map(is_of_suite, certificates)):
        raise WrongAlgorithms(f"the bundle is of profile cnsa and has an authority that is not P-384 with SHA-384; {ANEW}")
    if said:
        return said.pop()
    systems = [one for one in certificates
               if [unit.value for unit in one.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)] == ["SYSTEM"]]
    kinds = {is_p384(one.public_key()) for one in systems}
    if kinds == {True, False}:
        raise WrongAlgorithms(f"the bundle has P-256 and P-384 authorities and does not say its profile; {ANEW}")
    return CNSA if kinds == {True} else STANDARD


def check_identity(profile: str, chain: bytes, key: bytes):
    """A gateway's own certificate, with its chain, and its key: what a service of the profile certifies."""
    certificates = x509.load_pem_x509_certificates(chain)
    own = serialization.load_pem_private_key(key, None).public_key()
    if certificates[0].public_key() != own:
        raise WrongAlgorithms("key.pem is not the key of certificate.pem")
    if profile == CNSA and not all(map(is_of_suite, certificates)):
        raise WrongAlgorithms("certificate.pem is not P-384 with SHA-384, and the profile cnsa takes nothing else; make a new key: "
                              f"countersign officer new --profile cnsa. If the service is of profile standard, {ANEW}")


def context(identity: Path, group: str) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_3
    tls.load_verify_locations(cadata=(identity / "system-bundle.pem").read_text())
    tls.load_cert_chain(identity / "certificate.pem", identity / "key.pem")
    tls.set_ecdh_curve(group)
    tls.set_alpn_protocols(["h2"])
    return tls


async def handshake(server: str, tls: ssl.SSLContext) -> tuple[str, bytes]:
    """The suite that was agreed on, and the server's certificate."""
    host, _, port = server.rpartition(":")
    opening = asyncio.open_connection(host.strip("[]"), int(port), ssl=tls, server_hostname=host.strip("[]"))
    _, writer = await asyncio.wait_for(opening, HANDSHAKE_S)
    try:
        return writer.get_extra_info("cipher")[0], writer.get_extra_info("ssl_object").getpeercert(True)
    finally:
        writer.transport.abort()


async def check_service(server: str, identity: Path):
    """Shows that a service agrees on the suite of cnsa and on no weaker group. What it cannot reach it has not shown."""
    try:
        suite, certificate = await handshake(server, context(identity, GROUP))
    except (OSError, asyncio.TimeoutError) as error:
        raise WrongAlgorithms(f"no handshake of the profile cnsa: {error!r}") from error
    if suite != SUITE:
        raise WrongAlgorithms(f"the service agreed on {suite}, and the profile cnsa is {SUITE} alone")
    if not is_of_suite(x509.load_der_x509_certificate(certificate)):
        raise WrongAlgorithms("the service's certificate is not P-384 with SHA-384, and its bundle is of profile cnsa")
    try:
        await handshake(server, context(identity, WEAKER_GROUP))
    except ssl.SSLError:
        return
    except (OSError, asyncio.TimeoutError) as error:
        raise WrongAlgorithms(f"whether the service takes a weaker group was not shown: {error!r}") from error
    raise WrongAlgorithms(f"the service agreed on {WEAKER_GROUP}, and the profile cnsa is {GROUP} alone")
