"""The files of a site's authority and of the broker's certificate."""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.api.certificates import CertificateError, alternative_names, host_name, key_text, parse_certificates
from services.cli.authority import Pair, make_authority, make_server, why_anew
from services.runtime.site_file import replace_file

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "broker")
"""The last one is the broker's name in docker-compose.yml."""
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation (RFC 5737, RFC 3849): nothing is sent there."""


class Renewal(Enum):
    """What is made anew: what is missing or soon to end; the broker's certificate; its authority, too."""

    DUE = "due"
    SERVER = "server"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerCertificates:
    """authority: certificate, to be given to every client. authority_key: signs; it may be kept elsewhere.

    server: the broker's certificate with its key, in one file, so that nobody reads the one without the other.
    """

    authority: Path
    authority_key: Path
    server: Path

    def keep(self, *, site: str, hosts: Sequence[str], now: datetime, renewal: Renewal = Renewal.DUE) -> list[str]:
        """Makes what is missing or too old, and gives a line per thing made. Raises CertificateError, OSError.

        hosts: names and addresses that are to be in the broker's certificate beside this machine's own and those that
        are in it. Where the authority's key is kept elsewhere, a certificate that is soon to end stays.
        """
        for host in hosts:
            host_name(host)
        made = []
        if renewal is Renewal.AUTHORITY or not self.authority.exists():
            self._write_authority(make_authority(site=site, now=now))
            made.append(f"{self.authority}: the authority of this site; give it to every client")
        present = self._present()
        reason = self._reason(present, hosts, now)
        if reason is None and renewal is Renewal.DUE:
            return made
        asked = hosts or present is None or renewal is not Renewal.DUE
        if not asked and not self.authority_key.exists():
            return made
        wanted = [*LOCAL_HOSTS, *own_hosts(), *(sorted(alternative_names(present)[1]) if present else ()), *hosts]
        server = make_server(self.signing(), hosts=wanted, now=now)
        text = key_text(server.key) + server.certificate.public_bytes(serialization.Encoding.PEM)
        replace_file(self.server, text, mode=0o600)
        return [*made, f"{self.server}: the broker's certificate; {reason or 'it was to be renewed'}"]

    def _reason(self, present: x509.Certificate | None, hosts: Sequence[str], now: datetime) -> str | None:
        if present is None:
            return "there was none"
        return why_anew(present, authority=_read(self.authority, _MEND), hosts=hosts, now=now)

    def _present(self) -> x509.Certificate | None:
        return _read(self.server, _MEND_SERVER) if self.server.exists() else None

    def signing(self) -> Pair:
        """The authority with its key. Raises CertificateError where they cannot be read or do not belong together."""
        certificate = _read(self.authority, _MEND)
        try:
            key = serialization.load_pem_private_key(_content(self.authority_key, _MEND), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError(f"{self.authority_key}: cannot be read: {error}; {_MEND}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not Pair(certificate, key).belongs_together:
            raise CertificateError(f"{self.authority_key}: not the key of {self.authority}; {_MEND}")
        return Pair(certificate, key)

    def _write_authority(self, pair: Pair) -> None:
        """The key first: without its certificate it is of no use to anybody, and both are made again."""
        for path in (self.authority, self.authority_key):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if path is self.authority_key else 0o777)
        replace_file(self.authority_key, key_text(pair.key), mode=0o600)
        replace_file(self.authority, pair.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


_MEND = "put the right one there, or make a new authority with `dinrail init --rotate-authority`"

_MEND_UNREADABLE = "let the user who runs this read it"

_MEND_SERVER = "remove it, and `dinrail init` makes another; give names of your own with --host once more"


def _read(path: Path, mend: str) -> x509.Certificate:
    """The file's own certificate. Raises CertificateError, with this mend where it is damaged or missing."""
    try:
        return parse_certificates(_content(path, mend))[0]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path}: holds no certificate: {error}; {mend}") from None


def _content(path: Path, mend: str) -> bytes:
    """Raises CertificateError; what may merely not be read may well be whole, and is not to be replaced."""
    try:
        return path.read_bytes()
    except OSError as error:
        what = _MEND_UNREADABLE if isinstance(error, PermissionError) else mend
        raise CertificateError(f"{path}: cannot be read: {error.strerror}; {what}") from None


def own_hosts() -> Iterator[str]:
    """This machine's name, and its addresses on the ways to other networks."""
    name = socket.gethostname()
    try:
        host_name(name)
        yield name
    except CertificateError:
        pass  # no name that a client could use
    for family, address in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((address, 9))
                yield str(probe.getsockname()[0])
            except OSError:
                continue  # no such network
