"""A site's own authority, and the broker's certificate that it signs (RFC 5280; names by RFC 9525). Pure but for keys.

Keys are of NIST P-256: what speaks TLS 1.2 knows it, and a handshake costs less than with RSA.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plugins.api.certificates import BACKDATED, LONGEST_NAME, alternative_names, host_name

AUTHORITY_DAYS = 7300
SERVER_DAYS = 820
"""Some systems refuse certificates of servers that are valid for more than 825 days."""
RENEW_DAYS = 30
"""So long before its end a certificate is made anew, and a warning is due."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def belongs_together(self) -> bool:
        """Whether the key is the certificate's."""
        return self.certificate.public_key() == self.key.public_key()


def make_authority(*, site: str, now: datetime) -> Pair:
    """A new authority, which vouches for servers alone and not for other authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"dinrail authority of {site}")
    builder = (
        _builder(name, name, key, now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_server(authority: Pair, *, hosts: Iterable[str], now: datetime) -> Pair:
    """A new certificate of the broker. hosts: names and addresses by which it is reached. Raises CertificateError."""
    names = list(dict.fromkeys(hosts))
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + timedelta(days=SERVER_DAYS), authority.certificate.not_valid_after_utc)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name("dinrail broker"), authority.certificate.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([host_name(host) for host in names]), critical=False)
        .add_extension(issuer, critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def why_anew(
    certificate: x509.Certificate, *, authority: x509.Certificate, hosts: Iterable[str], now: datetime
) -> str | None:
    """Why the broker needs another certificate: another authority, a name of `hosts` that is not in it, its end.

    None if it needs none.
    """
    if not vouches_for(authority, certificate):
        return "it was signed by another authority"
    wanted = {str(host_name(host).value).lower() for host in hosts}
    lacking = sorted(wanted - alternative_names(certificate)[1])
    if lacking:
        return f"it was not for {', '.join(lacking)}"
    if now > certificate.not_valid_after_utc - timedelta(days=RENEW_DAYS):
        return f"it is valid until {certificate.not_valid_after_utc:%Y-%m-%d} only"
    return None


def vouches_for(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the authority has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:LONGEST_NAME])])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
