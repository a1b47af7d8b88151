"""What a connection keeps in files: certificates, keys, the password; read anew at every connection."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from plugins.api.certificates import (
    REJECTED,
    CertificateError,
    folder_certificates,
    keep_certificate,
    read_certificates,
    read_key,
)
from plugins.api.driver import DeviceError

from .config import Connection
from .trust import TrustList

_MOST_REJECTED = 100
"""Certificates that are kept, the newest: whoever answers at the address can show another each time."""
_LONGEST_PASSWORD = 128
"""Bytes: with the server's nonce it must go into one block of the shortest key (OPC 10000-4, 7.41.2.2)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Credentials:
    """own: of this application, None without security. user: of the user, if a certificate says who that is."""

    own: Pair | None = None
    user: Pair | None = None
    password: str | None = field(default=None, repr=False)
    trust: TrustList = field(default_factory=lambda: TrustList(()))


def read_credentials(connection: Connection, folder: Path) -> Credentials:
    """Reads the files that the connection names. Raises DeviceError, cause config, that names the file and the mend.

    folder: where relative paths begin.
    """
    security = connection.security
    try:
        own = _pair(folder / security.certificate, folder / security.key) if security.secured else None
        user = None
        if connection.user_certificate and connection.user_key:
            user = _pair(folder / connection.user_certificate, folder / connection.user_key)
        password = _password(folder / connection.password_file) if connection.password_file else None
        # Nothing secret goes to anybody otherwise, so that a bad file there stops nobody.
        judged = security.secured or (password is not None and not connection.clear_password)
        trust = _trust_list(folder / security.trust) if judged else TrustList(())
        return Credentials(own, user, password, trust)
    except CertificateError as error:
        raise DeviceError(str(error), cause="config") from None


def keep_rejected(chain: Sequence[x509.Certificate], folder: Path) -> str:
    """Keeps the certificate that was refused where the site does, and tells where, or why not."""
    try:
        kept = keep_certificate(chain[0], folder / REJECTED)
        held = sorted((folder / REJECTED).glob("*.der"), key=lambda path: path.stat().st_mtime)
        for path in held[:-_MOST_REJECTED]:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"not kept in {folder / REJECTED}: {error.strerror}"
    return f"kept as {kept}"


def _pair(certificate: Path, key: Path) -> Pair:
    pair = Pair(read_certificates(certificate)[0], read_key(key))
    if pair.certificate.public_key() != pair.key.public_key():
        raise CertificateError(f"{key}: not the key of {certificate}; name the two that belong together")
    return pair


def _trust_list(path: Path) -> TrustList:
    """One file, or every certificate and revocation list (.crl) of a folder; no folder trusts nobody."""
    if path.is_file():
        return TrustList(read_certificates(path))
    lists = [_revocation_list(one) for one in sorted(path.glob("*.crl"))]
    return TrustList([certificate for _, certificate in folder_certificates(path)], lists)


def _revocation_list(path: Path) -> x509.CertificateRevocationList:
    try:
        data = path.read_bytes()
        return x509.load_pem_x509_crl(data) if data.startswith(b"-----") else x509.load_der_x509_crl(data)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path}: no revocation list: {error}; save it as DER or PEM, or remove it") from None


def _password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CertificateError(f"{path}: {reason}; write the password into it, readable by this service only") from None
    if len(password.encode()) > _LONGEST_PASSWORD:
        raise CertificateError(f"{path}: more than {_LONGEST_PASSWORD} bytes; write the password alone")
    return password
