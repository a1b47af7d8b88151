"""Certificates for the tests of the OPC UA driver, made once per run: keys are slow to make."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from plugins.api.certificates import common_name, make_certificate, write_pair
from plugins.drivers.opcua.simulator import SERVER_URI

NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Made:
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The files of certificate and key."""
        at, key_at = folder / f"{name}.der", folder / f"{name}.pem"
        write_pair(self.certificate, self.key, at=at, key_at=key_at)
        return at, key_at


@cache
def made(
    name: str = "server",
    *,
    uri: str = SERVER_URI,
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
    born_days: int = 0,
) -> Made:
    """A self-signed certificate that is valid for 30 days, from born_days on."""
    return Made(*make_certificate(uri=uri, name=name, hosts=hosts, now=NOW + timedelta(days=born_days), days=30))


@cache
def authority(
    name: str = "plant authority", *, by: Made | None = None, path_length: int | None = None, signs: bool = True
) -> Made:
    """path_length: of authorities below it. signs: whether its key says that it is for certificates."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer = name if by is None else common_name(by.certificate)
    builder = _builder(name, key.public_key(), issuer=issuer, names=())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    if not signs:
        builder = builder.add_extension(_USAGE, critical=True)
    return Made(builder.sign(key if by is None else by.key, hashes.SHA256()), key)


@cache
def issued(
    by: Made,
    *,
    name: str = "issued server",
    bits: int = 2048,
    hosts: tuple[str, ...] = ("127.0.0.1",),
    expired: bool = False,
) -> Made:
    """A certificate that the authority has signed."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    names = [x509.UniformResourceIdentifier(SERVER_URI), *(x509.DNSName(host) for host in hosts)]
    builder = _builder(name, key.public_key(), issuer=common_name(by.certificate), names=names, expired=expired)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return Made(builder.sign(by.key, hashes.SHA256()), key)


def revocation(by: Made, *withdrawn: Made) -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder(
        by.certificate.subject, NOW - timedelta(days=1), NOW + timedelta(days=30)
    )
    for one in withdrawn:
        revoked = x509.RevokedCertificateBuilder(one.certificate.serial_number, NOW - timedelta(hours=1)).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(by.key, hashes.SHA256())


_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    name: str, key: rsa.RSAPublicKey, *, issuer: str, names: Iterable[x509.GeneralName], expired: bool = False
) -> x509.CertificateBuilder:
    def called(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=9))
        .not_valid_after(NOW + timedelta(days=-1 if expired else 30))
    )
    held = list(names)
    return builder.add_extension(x509.SubjectAlternativeName(held), critical=False) if held else builder
