"""From the shared secret to TLS: both ends derive the same key and certificate, and accept no other.

Python's ``ssl`` learns pre-shared keys in 3.13 only. A certificate that is a function of the secret does the
same with every version: to use it takes its private key, and to derive that takes the secret. TLS 1.3
(RFC 8446) does the rest: fresh keys for every connection, so that a recording can neither be replayed nor,
should the secret leak, be read later.

Whoever connects is shown the certificate, and it tells whether a guess at the secret is right. So secrets are
long, and the derivation is slow (scrypt, RFC 7914).
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import secrets
import ssl
import tempfile

from ...runtime.errors import RelaxcError

_SALT = b"relaxc rpc, version 1"
_SCRYPT_COST = 2**14
_SCRYPT_BLOCK = 8
_KEY_BYTES = 32
_NAME = "relaxc-rpc"
# Boards without a clock of their own start in 1970.
_VALID_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_VALID_UNTIL = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The two ends of TLS for one secret."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def identity_of(secret: bytes) -> Identity:
    """The contexts that connect to, and accept, holders of ``secret`` and nobody else.

    Raises:
        RelaxcError: the library that makes certificates is not installed.
    """
    try:
        key, certificate, password = _encrypted_key_and_certificate(secret)
    except ImportError as error:
        raise RelaxcError(f"measuring over RPC needs {error.name}: pip install 'relaxc[tune]'") from error
    # The ssl module reads a private key from a file only, so it lies there encrypted, for a moment.
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + certificate)
        file.flush()
        contexts = [
            _context(protocol, file.name, password, certificate)
            for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
        ]
    return Identity(*contexts)


def _context(protocol: int, file: str, password: bytes, certificate: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate stands for the secret, not for a machine's name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate.decode())
    context.load_cert_chain(file, password=password)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # every connection proves the secret anew
    return context


def _encrypted_key_and_certificate(secret: bytes) -> tuple[bytes, bytes, bytes]:
    """The private key and the certificate as PEM, and the key's password. A secret has one certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = hashlib.scrypt(secret, salt=_SALT, n=_SCRYPT_COST, r=_SCRYPT_BLOCK, p=1, dklen=_KEY_BYTES)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .sign(key, algorithm=None)
    )
    password = secrets.token_hex(_KEY_BYTES).encode()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encrypted = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(password))
    return encrypted, certificate.public_bytes(pem), password
