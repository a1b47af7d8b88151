"""One connection to a session that the broker keeps for us, and paho's client for it.

paho lets the consumer acknowledge, where aiomqtt does so on receipt. It works in a thread of its own.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from prometheus_client import Counter

from services.runtime.mqtt.arrivals import Arrivals
from services.runtime.mqtt.buffered_socket import ReadAhead
from services.runtime.mqtt.delivery import BusError, BusUnavailable, Login, LoginRefused, SubscribeRefused, TakenOver
from services.runtime.mqtt.properties import properties_of
from services.runtime.mqtt.publication import Publication
from services.runtime.mqtt.reading_client import ReadingClient
from services.runtime.mqtt.tls import CannotConnect, connecting, silent, unanswered
from services.runtime.settings import BrokerSettings

SESSION_EXPIRY_S = 0xFFFFFFFF
"""Never (MQTT 5.0, 3.1.2.11.2). Mosquitto 2.0 crashes on a session that ends one day if, while its owner is away, the
broker reads its files again and does not find his password right, which it forgets itself when it is started anew.
"""
CALL_S = 5.0
"""How long to connect, to log in and to take leave may each take."""


@dataclass(frozen=True, slots=True)
class IntakeMessage:
    """A message as it came."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class Arrival:
    """A message that has arrived in a session. done: its consumer has put it away."""

    message: IntakeMessage
    mid: int
    session: "Session"
    done: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """How a session was opened. session_present: the broker had kept it. refusals: of subscriptions."""

    session_present: bool
    refusals: list[SubscribeRefused]


class Session:
    """One connection to the broker, with a paho client of its own.

    So an acknowledgement that comes too late goes to a client that is gone, instead of acknowledging another message
    that bears the same identifier in the next connection. `ended` gives the reason once it has ended.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        *,
        login: Login,
        receive_maximum: int,
        arrivals: Arrivals[Arrival],
        overflow: Counter,
    ) -> None:
        self._broker = broker
        self._login = login
        self._receive_maximum = receive_maximum
        self._arrivals = arrivals
        self._overflow = overflow
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BusError] = self._loop.create_future()
        self._opened: asyncio.Future[Opened] = self._loop.create_future()
        self._started: asyncio.Future[None] | None = None
        self._session_present = False
        self._answered = False
        self._overrun = False
        self._client: ReadingClient | None = None
        self._filters: tuple[str, ...] = ()

    async def open(self, filters: tuple[str, ...]) -> Opened:
        """Connects and subscribes. Raises BusUnavailable, LoginRefused."""
        self._filters = filters
        self._client = self._make_client()
        self._started = self._loop.run_in_executor(None, self._start, self._client)
        try:
            await asyncio.shield(self._started)
            async with asyncio.timeout(CALL_S):
                await asyncio.wait((self._opened, self.ended), return_when=asyncio.FIRST_COMPLETED)
        except CannotConnect as error:
            raise BusUnavailable(str(error)) from error
        except TimeoutError as error:
            raise BusUnavailable(silent(self._broker, f"nothing within {CALL_S:g} s")) from error
        if not self._opened.done():
            raise self.ended.result()
        return self._opened.result()

    async def close(self) -> None:
        """Takes leave after what has been acknowledged so far, and ends paho's thread."""
        client = self._client
        if client is None:
            return
        if self._started is not None:
            await asyncio.wait((self._started,))
        sock: Any = client.socket()
        if client.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            await asyncio.wait((self.ended,), timeout=CALL_S)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        await self._loop.run_in_executor(None, client.loop_stop)
        # Its callbacks hold us: only once we let go of it are the sockets closed by which it woke its thread.
        self._client = None
        if self._opened.done():
            self._opened.exception()

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Acknowledges messages with QoS 1, unless the connection has ended. mids: their packet identifiers."""
        if mids and self._client is not None and not self.ended.done():
            self._client.acknowledge(mids)

    def _make_client(self) -> ReadingClient:
        client = ReadingClient(client_id=self._login.identifier, take=self._take)
        client.connect_timeout = CALL_S
        if self._login.username is not None:
            client.username_pw_set(self._login.username, self._login.password() if self._login.password else None)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        return client

    # From here on: in paho's thread, or in that of _start.

    def _start(self, client: Client) -> None:
        connect = properties_of(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = SESSION_EXPIRY_S
        connect.ReceiveMaximum = self._receive_maximum
        host, port, keepalive_s = self._broker.host, self._broker.port, self._broker.keepalive_s
        with connecting(client, self._broker):
            client.connect(host, port, keepalive_s, clean_start=False, properties=connect)
        client.loop_start()

    def _on_socket_open(self, client: Client, userdata: object, sock: Any) -> None:  # noqa: ANN401 - paho's union
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        paho: Any = client
        paho._sock = ReadAhead(sock)  # noqa: SLF001 - there is no other way in

    def _on_connect(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            refusal = LoginRefused(self._login.username, str(reason))
            self._loop.call_soon_threadsafe(self._settle, self.ended, refusal)
            return
        self._session_present = flags.session_present
        if flags.session_present:
            self._arrivals.clear()  # the broker sends them again; of a session that it lost, we have the only copies
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(topic_filter, options) for topic_filter in self._filters])

    def _on_subscribe(
        self, client: Client, userdata: object, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        refusals = [
            SubscribeRefused(topic_filter, str(reason))
            for topic_filter, reason in zip(self._filters, reasons, strict=True)
            if reason.is_failure
        ]
        opened = Opened(self._session_present, refusals)
        self._loop.call_soon_threadsafe(self._settle, self._opened, opened)

    def _take(self, message: Publication) -> None:
        if self._overrun or self._client is None:
            return
        taken = IntakeMessage(message.topic, message.payload)
        arrival = Arrival(taken, message.mid if message.qos else 0, self)
        # Mosquitto 2.0.11 sends more than ReceiveMaximum while a backlog is being acknowledged. Not to read on holds it
        # back; if that takes too long, it sends all that is not acknowledged again in the next connection.
        if not self._arrivals.add(arrival, patience_s=CALL_S):
            self._overrun = True
            self._overflow.inc()
            self._client.disconnect()

    def _on_disconnect(
        self,
        client: Client,
        userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        ended = f"the connection has ended: {reason}" if self._answered else unanswered(self._broker)
        error: BusError = BusUnavailable(ended)
        if reason.value == TakenOver.REASON:
            error = TakenOver(self._login.client_id)
        self._loop.call_soon_threadsafe(self._settle, self.ended, error)

    def _settle(self, future: asyncio.Future[Any], result: object) -> None:
        if not future.done():
            future.set_result(result)
