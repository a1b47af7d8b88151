"""A site whose broker is reached over TLS, and whose certificate tests spoil."""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from contracts.acl import VIEWER
from plugins.api.certificates import key_text
from services.cli.authority import make_authority, make_server
from services.runtime.settings import BrokerSettings, TlsSettings
from tests.e2e.stack import Stack


def over_tls(stack: Stack) -> BrokerSettings:
    """What a machine elsewhere is given."""
    tls = TlsSettings(ca_file=stack.site.certificates.authority)
    return BrokerSettings(host="127.0.0.1", port=stack.ports.broker_tls, tls=tls)


def password(stack: Stack, account: str = VIEWER.name) -> str:
    return stack.site.password(account).read_text().strip()


def spoil(stack: Stack, *, hosts: tuple[str, ...] = ("127.0.0.1",), days_ago: int = 0, foreign: bool = False) -> None:
    """Another certificate for the broker that has not begun yet."""
    then = datetime.now(UTC) - timedelta(days=days_ago)
    certificates = stack.site.certificates
    authority = certificates.signing()
    if foreign:
        authority = make_authority(site="other", now=then)
    server = make_server(authority, hosts=hosts, now=then)
    certificates.server.write_bytes(key_text(server.key) + server.certificate.public_bytes(serialization.Encoding.PEM))


def shown(stack: Stack) -> x509.Certificate:
    """What the broker shows to whoever comes now."""
    pem = ssl.get_server_certificate(("127.0.0.1", stack.ports.broker_tls))
    return x509.load_pem_x509_certificate(pem.encode())
