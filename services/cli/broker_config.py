"""mosquitto.conf, the one place where the broker's limits stand; written for both Debian's 2.0.11 and newer 2.x."""

from dataclasses import dataclass
from pathlib import PurePath

from contracts.codec import MAX_BYTES
from services.runtime.settings import BrokerSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MESSAGE_BYTES = MAX_BYTES + (1 << 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where the broker is spoken to.

    address: of one interface; empty means every one. certificate: file with the broker's own and its key; None: no TLS.
    websockets: MQTT over WebSockets (MQTT 5.0, 6).
    """

    port: int
    address: str = ""
    certificate: PurePath | None = None
    websockets: bool = False

    def lines(self) -> list[str]:
        """Its lines in mosquitto.conf."""
        found = [f"listener {self.port} {self.address}".rstrip()]
        if self.websockets:
            found.append("protocol websockets")
        if self.certificate is not None:
            found += [f"certfile {self.certificate}", f"keyfile {self.certificate}", *_TLS]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """What differs from one installation to another.

    user: whom the broker becomes when it is started by root; None leaves mosquitto's own choice (the user mosquitto).
    """

    listeners: tuple[Listener, ...]
    data: PurePath
    passwords: PurePath
    access: PurePath
    user: str | None = None

    def text(self) -> str:
        """The content of mosquitto.conf."""
        lines = [_HEAD, *(line for listener in self.listeners for line in listener.lines())]
        if self.user:
            lines.append(f"user {self.user}")
        return "\n".join(lines) + _COMMON.format(
            data=self.data, passwords=self.passwords, access=self.access, message_bytes=MESSAGE_BYTES
        )


def listeners(broker: BrokerSettings, certificate: PurePath) -> tuple[Listener, ...]:
    """Those of `dinrail up`: plain MQTT on this machine only, unless its services use TLS, and TLS for others.

    certificate: the broker's file.
    """
    others = broker.listen
    address = broker.host if broker.host in LOOPBACK else LOOPBACK[0]
    found = [] if broker.tls else [Listener(port=broker.port, address=address)]
    if others.tls_port is not None:
        found.append(Listener(port=others.tls_port, address=others.host, certificate=certificate))
    if others.websocket_port is not None:
        port = others.websocket_port
        found.append(Listener(port=port, address=others.host, certificate=certificate, websockets=True))
    return tuple(found)


def why_unreachable(broker: BrokerSettings) -> str | None:
    """Why services with these settings would not find a broker with these listeners; None if they would."""
    if broker.tls is not None and broker.port != broker.listen.tls_port:
        return (
            f"broker.tls is set, and broker.port {broker.port} is not broker.listen.tls_port "
            f"{broker.listen.tls_port}: give both the same port, or remove broker.tls"
        )
    if broker.tls is None and broker.host not in LOOPBACK:
        return (
            f"broker.host is {broker.host}, and without TLS the broker listens on this machine alone: "
            f"write {LOOPBACK[0]}; other machines come to broker.listen.tls_port"
        )
    return None


_HEAD = "# Written by dinrail; changes are lost. Addresses and ports: broker in dinrail.yaml."

# The lowest version; ciphers of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, 4.2).
_TLS = ("tls_version tlsv1.2", "ciphers ECDHE+AESGCM:ECDHE+CHACHA20")

_COMMON = """
set_tcp_nodelay true

allow_anonymous false
password_file {passwords}
acl_file {access}

# Retained values live in memory; the file is a convenience, since writers publish their state again at each connect.
persistence true
persistence_location {data}/
autosave_interval 60

# A subscriber's retained snapshot passes through its queue: mosquitto's default would cut it at about 1000 topics.
# Never 0: some 2.0 releases take that for "none" (2.0.16 to 2.0.21).
max_queued_messages 200000
max_queued_bytes 134217728
# No persistent_client_expiration: with it no session lasts for ever, and mosquitto 2.0 crashes on one that ends one day
# if it reads its files again meanwhile and the password of the session's owner is another by then, or was forgotten at
# a restart. What a session holds is bounded above.
max_inflight_messages 200
# Told to each MQTT 5 client, so that it refuses a longer message itself instead of being cut off for it.
max_packet_size {message_bytes}
max_keepalive 120

log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages true
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""
