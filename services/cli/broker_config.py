"""mosquitto.conf, the one place where the broker's limits stand; written for both Debian's 2.0.11 and newer 2.x."""

from dataclasses import dataclass
from pathlib import PurePath

from contracts.codec import MAX_BYTES

MESSAGE_BYTES = MAX_BYTES + (1 << 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """What differs from one installation to another.

    address: where the broker listens; empty means on every interface.
    user: whom the broker becomes when it is started by root; None leaves mosquitto's own choice (the user mosquitto).
    """

    address: str
    port: int
    data: PurePath
    passwords: PurePath
    access: PurePath
    user: str | None = None

    def text(self) -> str:
        """The content of mosquitto.conf."""
        lines = [_HEAD, f"listener {self.port} {self.address}".rstrip()]
        if self.user:
            lines.append(f"user {self.user}")
        return "\n".join(lines) + _COMMON.format(
            data=self.data, passwords=self.passwords, access=self.access, message_bytes=MESSAGE_BYTES
        )


_HEAD = "# Written by dinrail; changes are lost. Address and port: broker in dinrail.yaml."

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
max_inflight_messages 200
# Told to each MQTT 5 client, so that it refuses a longer message itself instead of being cut off for it.
max_packet_size {message_bytes}
persistent_client_expiration 7d
max_keepalive 120

log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages true
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""
