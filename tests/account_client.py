"""A logged-in account at a real broker, as any MQTT tool would be: for tests of what the broker lets it do."""

import queue
import socket
import threading
from collections.abc import Sequence
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE_S = 30
REFUSED = "Not authorized"


class Received(NamedTuple):
    """A message as it came."""

    topic: str
    payload: bytes
    correlation: bytes | None


class AccountClient:
    """Publishes with the broker's verdict, and receives. received: in order of arrival.

    client_id: None for one that nobody else has. session_s: how long the broker keeps the session; 0 ends the one that
    stands there. will: topic of a last will, which the broker may send will_delay_s after the connection has died.
    """

    def __init__(
        self,
        port: int,
        account: str,
        password: str | None,
        *,
        client_id: str | None = None,
        session_s: int = 0,
        will: str | None = None,
        will_delay_s: int = 0,
        will_retained: bool = False,
    ) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self.connected: queue.Queue[ReasonCode] = queue.Queue()
        self.ended = threading.Event()
        self._verdicts: queue.Queue[tuple[int, ReasonCode]] = queue.Queue()
        self._subscribed: queue.Queue[None] = queue.Queue()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id or "", protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self.paho.username_pw_set(account, password)
        self.paho.max_inflight_messages_set(100)
        if will is not None:
            properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
            properties.WillDelayInterval = will_delay_s
            self.paho.will_set(will, account.encode(), qos=1, retain=will_retained, properties=properties)
        self.paho.on_connect = lambda _c, _u, _f, code, _p: self.connected.put(code)
        self.paho.on_publish = lambda _c, _u, mid, code, _p: self._verdicts.put((mid, code))
        self.paho.on_message = lambda _c, _u, message: self.received.put(_received(message))
        self.paho.on_subscribe = lambda *_: self._subscribed.put(None)
        self.paho.on_disconnect = lambda *_: self.ended.set()
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = session_s
        self.paho.connect("127.0.0.1", port, clean_start=session_s == 0, properties=connect)
        self.paho.loop_start()

    def publish(self, topics: Sequence[str], payload: bytes = b"{}", *, retain: bool = False) -> set[str]:
        """Those that the broker took."""
        mids = {self.paho.publish(topic, payload, qos=1, retain=retain).mid: topic for topic in topics}
        taken = set()
        for _ in topics:
            mid, verdict = self._verdicts.get(timeout=DEADLINE_S)
            if verdict.getName() != REFUSED:
                taken.add(mids[mid])
        return taken

    def subscribe(self, *filters: str) -> None:
        """Returns when the broker has answered. Mosquitto grants any: what it refuses is the delivery."""
        self.paho.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])
        self._subscribed.get(timeout=DEADLINE_S)

    def receive_until(self, last: str) -> list[Received]:
        """What comes before the topic `last`."""
        messages = []
        while (message := self.received.get(timeout=DEADLINE_S)).topic != last:
            messages.append(message)
        return messages

    def die(self) -> None:
        """The connection breaks without a farewell, so that the last will is due."""
        link = self.paho.socket()
        assert isinstance(link, socket.socket)
        link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Takes leave."""
        self.paho.disconnect()
        self.paho.loop_stop()
        self.paho._reset_sockets(sockpair_only=True)  # else they stay until it is collected, with a warning


def _received(message: paho.MQTTMessage) -> Received:
    return Received(message.topic, bytes(message.payload), getattr(message.properties, "CorrelationData", None))
