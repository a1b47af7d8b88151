"""Certificates in files: those by which machines and this site know one another. DER or PEM, as people save them.

A site keeps them in one folder: its own certificate and key, those that it trusts, and those that it has refused.
"""

import ipaddress
import os
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = Path("certs")
CLIENT_CERTIFICATE = FOLDER / "client.der"
CLIENT_KEY = FOLDER / "client.key"
TRUSTED = FOLDER / "trusted"
REJECTED = FOLDER / "rejected"
SUFFIXES = frozenset({".der", ".pem", ".crt", ".cer"})

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY_BITS = 2048
BACKDATED = timedelta(hours=24)
"""Machines whose clocks are behind must not take a fresh certificate for one of the future."""
_MOST_BYTES = 1 << 20
LONGEST_NAME = 64
"""Characters of a common name (RFC 5280, appendix A.1)."""
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$")
_HOST = re.compile(r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$")


class CertificateError(Exception):
    """A file is no certificate or key, or cannot be read; the message names it and the mend."""


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the DER form in upper-case hex, by which OPC UA tools name a certificate (OPC 10000-6, 6.2.2)."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303  a name, not a proof


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, or all of the subject if it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def alternative_names(certificate: x509.Certificate) -> tuple[frozenset[str], frozenset[str]]:
    """The URIs, and the host names (lower case) and addresses, that the certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    hosts = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    hosts |= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return frozenset(names.get_values_for_type(x509.UniformResourceIdentifier)), frozenset(hosts)


def parse_certificates(data: bytes) -> list[x509.Certificate]:
    """Every certificate in the data: PEM, or DER one after another. Raises ValueError if there is none or a bad one."""
    blocks = _PEM.findall(data)
    if blocks:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    found = []
    while data:
        size = _der_size(data)
        found.append(x509.load_der_x509_certificate(data[:size]))
        data = data[size:]
    if not found:
        raise ValueError("it is empty")
    return found


def _der_size(data: bytes) -> int:
    """Bytes of the first DER value (ITU-T X.690, 8.1.3)."""
    if len(data) < 2 or data[0] != 0x30:
        raise ValueError("neither PEM nor DER")
    if data[1] < 0x80:
        return 2 + data[1]
    digits = data[1] & 0x7F
    return 2 + digits + int.from_bytes(data[2 : 2 + digits], "big")


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file, the first its subject's own. Raises CertificateError."""
    try:
        return parse_certificates(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path}: no certificate: {error}; save it as DER or PEM") from None


def read_key(path: Path) -> rsa.RSAPrivateKey:
    """The private key in a file, PEM or DER, without a passphrase. Raises CertificateError."""
    data = _content(path)
    load = serialization.load_pem_private_key if data.startswith(b"-----") else serialization.load_der_private_key
    try:
        key = load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path}: no private key: {error}; save it as PEM without passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CertificateError(f"{path}: not an RSA key; the security policies of OPC UA need one")
    return key


def folder_certificates(folder: Path) -> list[tuple[Path, x509.Certificate]]:
    """Each certificate of the folder with its file, in order of file name; none if there is no folder.

    Raises CertificateError on a file with a certificate's name that holds none.
    """
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [(path, certificate) for path in files for certificate in read_certificates(path)]


def keep_certificate(certificate: x509.Certificate, folder: Path) -> Path:
    """Saves it as NAME [THUMBPRINT].der, as OPC UA tools do, and returns the path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", common_name(certificate)).strip("-.")[:60]
    path = folder / f"{name}-{thumbprint(certificate)}.der"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return path


def make_certificate(
    *, uri: str, name: str, hosts: Iterable[str], now: datetime, days: int
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """A self-signed certificate of an OPC UA application and its key (OPC 10000-6, 6.2.2).

    uri: the application's own, which its peers compare. name: 1 to 64 characters. hosts: names and addresses of its
    machine. Raises CertificateError where one of them cannot stand in a certificate.
    """
    if not _URI.fullmatch(uri):
        raise CertificateError(f"{uri!r} is no URI; write one of ASCII without blanks, such as urn:plant:dinrail")
    if not 0 < len(name) <= LONGEST_NAME:
        raise CertificateError(f"{name!r} has {len(name)} characters; a certificate's name has 1 to {LONGEST_NAME}")
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dinrail")]
    )
    names = [x509.UniformResourceIdentifier(uri), *(host_name(host) for host in dict.fromkeys(hosts))]
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def write_pair(certificate: x509.Certificate, key: rsa.RSAPrivateKey, *, at: Path, key_at: Path) -> None:
    """Saves the certificate as DER and its key as PEM that only its owner may read. Raises OSError."""
    for path in (at, key_at):
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = key_at.with_name(key_at.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key_text(key))
    partial.replace(key_at)
    at.write_bytes(certificate.public_bytes(serialization.Encoding.DER))


def key_text(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as PEM (PKCS #8) without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def host_name(host: str) -> x509.GeneralName:
    """A name or an address of a machine, as it stands in a certificate. Raises CertificateError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise CertificateError(
                f"{host!r} is no host; write a name such as plc or plc.plant, or an address"
            ) from None
        return x509.DNSName(host)


def _usage() -> x509.KeyUsage:
    """What OPC 10000-6, 6.2.2 asks of an application; a self-signed certificate signs one: itself."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CertificateError(f"{path}: too large for a certificate; name another file")
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path}: {error.strerror}; name another file, or make one with `dinrail certs`"
        ) from None
