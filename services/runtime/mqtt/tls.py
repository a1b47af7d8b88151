"""Connecting to the broker, over TLS where the settings say so (RFC 8446), and what went wrong said with its mend."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from services.runtime.settings import BrokerSettings

# X509_V_ERR_... of OpenSSL (x509_vfy.h)
_NOT_YET_VALID, _EXPIRED, _HOST, _ADDRESS = 9, 10, 62, 64
_OTHER_AUTHORITY = frozenset({7, 18, 19, 20, 21})
_OLD_VERSIONS = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"})


class Client(Protocol):
    """paho's client, which is to use TLS."""

    def tls_set_context(self, context: ssl.SSLContext) -> None:
        """Takes the context of its connection."""


class CannotConnect(OSError):
    """There is no connection; the message is a sentence that names the place and the mend."""


class _Socket(ssl.SSLSocket):
    """paho leaves a socket whose handshake has failed to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Closes where it fails."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def trusting(ca_file: Path) -> ssl.SSLContext:
    """A context that checks name, dates and chain, and takes TLS 1.2 or newer. Raises CannotConnect."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise CannotConnect(
            f"broker.tls.ca_file {ca_file}: {reason}; copy certs/broker/authority.pem of the broker's site there"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    return context


@contextmanager
def connecting(client: Client, broker: BrokerSettings) -> Iterator[None]:
    """paho's client is to connect inside, in a thread: files are read. Raises CannotConnect in place of OSError."""
    if broker.tls is not None:
        client.tls_set_context(trusting(broker.tls.ca_file))
    try:
        yield
    except OSError as error:
        raise CannotConnect(why(error, broker)) from error


def unanswered(broker: BrokerSettings) -> str:
    """What is said where the broker ends the connection instead of answering the login."""
    if broker.tls is not None:
        return f"{_where(broker)} has ended the connection before it answered the login"
    return (
        f"{_where(broker)} has ended the connection before it answered the login: if that is its port for TLS, "
        "set broker.tls.ca_file to the authority's certificate, else take its port for plain MQTT"
    )


def silent(broker: BrokerSettings, reason: object) -> str:
    """What is said where nobody answers."""
    return f"{_where(broker)} does not answer ({reason}): is it running (`dinrail up`), and are host and port right?"


def why(error: OSError, broker: BrokerSettings) -> str:
    """What has gone wrong in connecting, in a sentence."""
    if broker.tls is None:
        return silent(broker, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, broker, broker.tls.ca_file)
    if isinstance(error, ssl.SSLError) and error.reason in _OLD_VERSIONS:
        return f"{_where(broker)} offers no version of TLS from 1.2 on: it must be made newer, or told to"
    if _speaks_no_tls(error):
        return (
            f"{_where(broker)} does not answer the TLS handshake: if that is its port for plain MQTT, set broker.port "
            "to its port for TLS (8883; of `dinrail up` 18883), or remove broker.tls"
        )
    if isinstance(error, ssl.SSLError):
        return f"{_where(broker)} and we find no TLS in common: {error}"
    return silent(broker, error)


def _speaks_no_tls(error: OSError) -> bool:
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return True
    if isinstance(error, TimeoutError):
        return "handshake" in str(error)
    return isinstance(error, ssl.SSLError) and error.reason in _NO_TLS


def _unverified(error: ssl.SSLCertVerificationError, broker: BrokerSettings, ca_file: Path) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return (
            f"the certificate of {_where(broker)} or of its authority has expired, by this machine's clock: if that "
            "is right, renew it by `dinrail init` at the broker's site"
        )
    if code == _NOT_YET_VALID:
        return f"the certificate of {_where(broker)} is not valid yet: set the clock of this machine, or the broker's"
    if code in (_HOST, _ADDRESS):
        return (
            f"the certificate of {_where(broker)} is not for {broker.host}: set broker.host to a name that is in it, "
            f"or add this one by `dinrail init --host {broker.host}` at the broker's site"
        )
    if code in _OTHER_AUTHORITY:
        return (
            f"the certificate of {_where(broker)} was not signed by the authority in {ca_file} (broker.tls.ca_file): "
            "is this the right broker? If so, copy certs/broker/authority.pem of its site there"
        )
    return f"the certificate of {_where(broker)} cannot be trusted: {error.verify_message}"


def _where(broker: BrokerSettings) -> str:
    return f"the broker at {broker.host}:{broker.port}"
