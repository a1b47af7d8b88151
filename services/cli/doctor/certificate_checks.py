"""Whether the broker's certificate is good: in the site's files, and as the broker shows it."""

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from cryptography import x509

from plugins.api.certificates import CertificateError, read_certificates
from services.cli.authority import RENEW_DAYS, vouches_for
from services.cli.broker_certificates import BrokerCertificates
from services.cli.doctor.finding import Finding, State
from services.runtime.mqtt.tls import CannotConnect, trusting, why
from services.runtime.settings import BrokerSettings

ANSWER_S = 5.0
_RENEW = "`dinrail init` renews it, and the running broker takes it up"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Those of a site that has the broker; nothing to look at elsewhere."""

    name: ClassVar[str] = "certificates"

    files: BrokerCertificates
    now: datetime

    def findings(self) -> Iterator[Finding]:
        """Of authority and server."""
        if not _is_ours(self.files.server):
            return
        try:
            authority, server = (read_certificates(one)[0] for one in (self.files.authority, self.files.server))
        except CertificateError as error:
            yield Finding(State.FAIL, str(error))
            return
        if not vouches_for(authority, server):
            yield Finding(State.FAIL, f"{self.files.server}: {self.files.authority} has not signed it; {_RENEW}")
        yield dated(server, f"{self.files.server}: the broker's certificate", _RENEW, self.now)
        mend = "make a new one by `dinrail init --rotate-authority`, and give its certificate to every client"
        yield dated(authority, f"{self.files.authority}: the authority's certificate", mend, self.now)


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What the broker shows on a port over TLS. broker: with host, port and the authority that is trusted."""

    name: ClassVar[str] = "tls"

    broker: BrokerSettings
    files: BrokerCertificates
    now: datetime

    def findings(self) -> Iterator[Finding]:
        """Whether there is a handshake, by which name and chain are good, until when, and whether it is the newest."""
        where = f"{self.broker.host}:{self.broker.port}"
        try:
            shown = self._shown()
        except CannotConnect as error:
            yield Finding(State.FAIL, str(error))
            return
        except OSError as error:
            yield Finding(State.FAIL, why(error, self.broker))
            return
        yield dated(shown, f"{where}: TLS, the certificate's name and chain are good,", _RENEW, self.now)
        try:
            newest = read_certificates(self.files.server)[0] if _is_ours(self.files.server) else shown
        except CertificateError:
            return  # told of the file
        if newest != shown:
            yield Finding(
                State.WARN,
                f"{where}: the broker shows another certificate than {self.files.server}: start it anew, "
                "at the latest before the one it shows ends; `dinrail up` and mosquitto/run.sh do so by themselves",
            )

    def _shown(self) -> x509.Certificate:
        assert self.broker.tls is not None
        context = trusting(self.broker.tls.ca_file)
        with (
            socket.create_connection((self.broker.host, self.broker.port), timeout=ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=self.broker.host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
        if shown is None:
            raise ssl.SSLError("it shows no certificate")
        return x509.load_der_x509_certificate(shown)


def _is_ours(file: Path) -> bool:
    """Whether it is here and for us to read: in containers it is the broker's alone."""
    return os.access(file, os.R_OK)


def dated(certificate: x509.Certificate, what: str, mend: str, now: datetime) -> Finding:
    """How its dates stand. what: begins the sentence."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return Finding(State.FAIL, f"{what} is valid from {begin:%Y-%m-%d} on: set this machine's clock")
    if now >= end:
        return Finding(State.FAIL, f"{what} has ended on {end:%Y-%m-%d}: {mend}")
    if now >= end - timedelta(days=RENEW_DAYS):
        return Finding(State.WARN, f"{what} ends in {(end - now).days} days, on {end:%Y-%m-%d}: {mend}")
    return Finding(State.OK, f"{what} valid until {end:%Y-%m-%d}")
