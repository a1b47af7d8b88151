"""paho's client for who only reads: it takes all that has come at once, and answers it at once.

By itself paho looks at the socket before each packet, reads it in at least four calls, and answers each message by two
more; every call gives the interpreter to another thread for up to 5 ms. That was an eighth of the recorder's processor
time (bench/RESULTS.md).
"""

from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MessageType, MQTTErrorCode, MQTTProtocolVersion

from services.runtime.mqtt.puback import pack_puback
from services.runtime.mqtt.publication import MalformedPublication, Publication, read_publication

_AT_ONCE = 100
"""Packets that are read before paho looks to its other duties."""


class ReadingClient(Client):
    """MQTT 5, with paho's thread, no reconnection of its own, and acknowledgements by acknowledge() alone.

    take: called with each message, in paho's thread. Its socket is to be a ReadAhead, from on_socket_open on.
    """

    def __init__(self, *, client_id: str, take: Callable[[Publication], None]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._take = take

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """In place of paho's own method, which reads one packet."""
        sock: Any = self.socket()
        for _ in range(_AT_ONCE):
            done = super().loop_read()
            if done != MQTTErrorCode.MQTT_ERR_SUCCESS or self.socket() is None or not sock.pending():
                break
        return done

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Answers messages with QoS 1, by one call for all. From any thread. mids: packet identifiers."""
        self._packet_queue(MessageType.PUBACK, b"".join(map(pack_puback, mids)), 0, 1)

    def _handle_publish(self) -> MQTTErrorCode:
        packet: Any = self._in_packet
        try:
            found = read_publication(packet["command"], packet["packet"])
        except MalformedPublication:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._take(found)
        return MQTTErrorCode.MQTT_ERR_SUCCESS
