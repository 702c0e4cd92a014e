"""`python -m unittest` in this folder, with the generated code: what the profile cnsa asks of bundle, identity and service."""

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
import unittest
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from algorithms import CNSA, STANDARD, WrongAlgorithms, check_identity, check_service, profile_of
from gateway import Gateway

P256, P384 = ec.SECP256R1(), ec.SECP384R1()


def name(unit: str, common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def made(curve, unit: str = "SYSTEM", issuer=None, hashed=hashes.SHA384()):
    """A certificate with its key: of an authority, or by one for localhost."""
    key = ec.generate_private_key(curve)
    subject = name(unit, "1")
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer[0].subject if issuer else subject,
                                      public_key=key.public_key(), serial_number=x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashed), key


def pem(certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Bundles(unittest.TestCase):
    def setUp(self):
        self.weak, self.strong = pem(made(P256)[0]), pem(made(P384)[0])

    def test_the_profile_is_what_the_bundle_says(self):
        for said, bundle in [
            (CNSA, b"# PROFILE cnsa\n" + self.strong), (CNSA, b"# PROFILE cnsa\r\n" + self.strong + b"# PROFILE cnsa\n"),
            (STANDARD, b"# PROFILE standard\n" + self.strong), (STANDARD, b"# PROFILE standard\n" + self.weak + self.strong),
            # Of before: by the keys, and strictly. An offline root is P-384 under either profile.
            (CNSA, self.strong), (STANDARD, self.weak), (STANDARD, self.weak + pem(made(P384, "ROOT")[0])),
        ]:
            self.assertEqual(profile_of(bundle), said, bundle)

    def test_keys_that_do_not_fit_and_words_that_are_none_are_refused(self):
        sha256 = pem(made(P384, hashed=hashes.SHA256())[0])
        for why, bundle in [
            ("not P-384", b"# PROFILE cnsa\n" + self.weak), ("not P-384", b"# PROFILE cnsa\n" + self.strong + self.weak),
            ("not P-384", b"# PROFILE cnsa\n" + sha256), ("not P-384", b"# PROFILE cnsa\n" + self.strong + pem(made(P256, "ROOT")[0])),
            ("neither", b"# PROFILE CNSA\n" + self.strong), ("or two", b"# PROFILE cnsa\n# PROFILE standard\n" + self.strong),
            ("does not say", self.weak + self.strong),
        ]:
            with self.assertRaisesRegex(WrongAlgorithms, why):
                profile_of(bundle)

    def test_an_identity_of_another_kind_is_refused(self):
        authority = made(P384)
        strong, other = made(P384, issuer=authority), made(P384, issuer=authority)
        check_identity(CNSA, pem(strong[0]), key_pem(strong[1]))
        with self.assertRaisesRegex(WrongAlgorithms, "not the key"):
            check_identity(CNSA, pem(strong[0]), key_pem(other[1]))
        for weak in [made(P256, issuer=authority), made(P384, issuer=authority, hashed=hashes.SHA256())]:
            check_identity(STANDARD, pem(weak[0]), key_pem(weak[1]))
            with self.assertRaisesRegex(WrongAlgorithms, "takes nothing else"):
                check_identity(CNSA, pem(weak[0]), key_pem(weak[1]))


class Services(unittest.IsolatedAsyncioTestCase):
    """A TLS server on loopback in the place of a service, and a folder of an identity."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.authority = made(P384)
        own = made(P384, "gateway", self.authority)
        (self.folder / "system-bundle.pem").write_bytes(b"# PROFILE cnsa\n" + pem(self.authority[0]))
        (self.folder / "certificate.pem").write_bytes(pem(own[0]))
        (self.folder / "key.pem").write_bytes(key_pem(own[1]))

    def served(self, server, group: str | None):
        """The address of a server with this certificate that takes this group alone, or any; it says why it refuses."""
        (self.folder / "server.pem").write_bytes(pem(server[0]) + key_pem(server[1]))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.folder / "server.pem")
        if group:
            tls.set_ecdh_curve(group)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def serve():
            while True:
                accepted, _ = listener.accept()
                with accepted, contextlib.suppress(OSError), tls.wrap_socket(accepted, server_side=True) as stream:
                    stream.recv(1)

        # It ends with the process; nobody asks it after its test.
        threading.Thread(target=serve, daemon=True).start()
        return f"localhost:{port}"

    async def refused(self, why: str, server: str):
        with self.assertRaisesRegex(WrongAlgorithms, why):
            await check_service(server, self.folder)

    async def test_a_service_of_the_suite_alone_is_believed(self):
        await check_service(self.served(made(P384, "server", self.authority), "secp384r1"), self.folder)

    async def test_a_service_that_takes_a_weaker_group_is_not(self):
        strong = made(P384, "server", self.authority)
        await self.refused("agreed on prime256v1", self.served(strong, None))
        await self.refused("no handshake", self.served(strong, "prime256v1"))

    async def test_a_service_with_a_weaker_certificate_or_a_strangers_is_not(self):
        await self.refused("service's certificate", self.served(made(P256, "server", self.authority), "secp384r1"))
        await self.refused("no handshake", self.served(made(P384, "server", made(P384)), "secp384r1"))

    async def test_who_is_not_reached_has_shown_nothing(self):
        address = self.served(made(P384, "server", self.authority), "secp384r1")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        await self.refused("no handshake", f"localhost:{port}")
        # And so has a gateway no connection before it is shown.
        tried = []

        async def prove():
            tried.append(address)
            raise WrongAlgorithms("not shown")

        gateway = Gateway(address, None, Ed25519PrivateKey.generate().public_key(), False, prove)
        with self.assertRaisesRegex(Exception, "not shown"):
            await gateway.connection()
        self.assertIs(gateway.prove, prove)
        self.assertEqual((tried, gateway.channel, gateway.closed()), ([address], None, "STALE_VIEW"))


if __name__ == "__main__":
    unittest.main()
