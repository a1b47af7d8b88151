"""One connection to the broker, MQTT 5, over aiomqtt and the paho client inside it.

aiomqtt connects and lends paho the event loop. Messages come past it, straight from paho. Publications go past both:
aiomqtt hides the reason code of a refused one, and paho takes several times the processor time (see outgoing).
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.runtime.mqtt.buffered_socket import BufferedSocket
from services.runtime.mqtt.delivery import (
    BusError,
    BusUnavailable,
    Deliver,
    Login,
    LoginRefused,
    SubscribeRefused,
    TakenOver,
)
from services.runtime.mqtt.envelope import Envelope
from services.runtime.mqtt.outgoing import Message, Outgoing, Refusals, packet_numbers
from services.runtime.mqtt.properties import Will, broker_will, properties_of, subscribe_options
from services.runtime.mqtt.puback import Pubacks, PubackSieve
from services.runtime.mqtt.publication import MalformedPublication, read_publication
from services.runtime.mqtt.tls import connecting, silent, unanswered
from services.runtime.settings import BrokerSettings

CALL_S = 5.0
"""How long to connect, to log in and to subscribe may each take."""
ANSWER_S = 10.0
"""A broker that has not answered a publication after so long is taken for dead."""
SESSION_EXPIRY_S = 30
"""Longer than the will's delay, which it would cut short; 0: the broker keeps nothing for who is gone, and tells so.

Without a will it is 0 too: a session of somebody who is gone and whose password is then changed crashes mosquitto 2.0
(contracts/decisions/0012), and none of ours is ever taken up again.
"""


class Connection(aiomqtt.Client):
    """A connection from its begin to its end; then it is of no more use:
    aiomqtt's client could be entered again, but then takes itself for connected before it is.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        *,
        login: Login,
        will: Will | None,
        deliver: Deliver,
        now_s: Callable[[], float],
        session_expiry_s: int = SESSION_EXPIRY_S,
    ) -> None:
        connect = properties_of(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = session_expiry_s if will else 0
        super().__init__(
            broker.host,
            broker.port,
            identifier=login.identifier,
            username=login.username,
            password=login.password() if login.password else None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=broker_will(will) if will else None,
            keepalive=broker.keepalive_s,
            clean_start=True,
            properties=connect,
            timeout=CALL_S,
        )
        self._client.connect_timeout = CALL_S
        self._client.disable_logger()
        paho: Any = self._client
        paho._handle_publish = self._take  # noqa: SLF001
        self._thread = threading.get_ident()
        self._broker = broker
        self._login = login
        self._deliver = deliver
        self._now_s = now_s
        self._ended: asyncio.Future[BusError] = self._loop.create_future()
        # One row of numbers for publications and paho's subscriptions: a number in use is not given twice (2.2.1).
        paho._mid_generate = packet_numbers().__next__  # noqa: SLF001 - its own takes a lock for each
        self._outgoing = Outgoing(next_mid=paho._mid_generate, put=self._put, loop=self._loop)  # noqa: SLF001
        self._pubacks = Pubacks(gather=self._gather, flush=self._write, loop=self._loop)
        self._socket: BufferedSocket | None = None
        self._closed = False
        self._full = False  # the socket takes no more at present
        self._writing = False  # what has been put goes out in the loop's next turn

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connected inside; nothing is left running behind. Raises BusUnavailable, LoginRefused, TakenOver."""
        try:
            await self._enter()
            try:
                yield
            finally:
                if not self._ended.done():
                    with suppress(aiomqtt.MqttError):  # the broker did not hear the farewell
                        await self.__aexit__(None, None, None)
        except BusUnavailable as error:
            if self._ended.done() and isinstance(self._ended.result(), TakenOver):
                raise self._ended.result() from error  # of which the error is a consequence
            raise
        finally:
            await self._close()

    async def watch(self, until: asyncio.Task[Any]) -> None:
        """Returns when `until` is done. Raises BusUnavailable when it breaks or answers no more, and TakenOver."""
        while not until.done():
            ends = (until, self._ended, self._disconnected)  # the last, too: aiomqtt puts errors of paho there
            await asyncio.wait(ends, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                raise self._ended.result()
            if self._disconnected.done():
                raise BusUnavailable(str(self._disconnected.exception()))
            if self._socket is not None:
                self._socket.look()
            if self._outgoing.oldest_s() > ANSWER_S:
                raise BusUnavailable(f"the broker has not answered a publication for {ANSWER_S:g} s")

    async def listen(self, topic_filter: str, *, identifier: int, qos: int, commands: bool) -> None:
        """Subscribes; messages for it carry the identifier. commands: see subscription.Wanted.

        Raises SubscribeRefused, BusUnavailable.
        """
        properties = properties_of(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = identifier
        options = subscribe_options(qos, commands=commands)
        try:
            codes = await self.subscribe(topic_filter, options=options, properties=properties)
        except aiomqtt.MqttError as error:
            raise BusUnavailable(str(error)) from error
        for code in codes:
            if isinstance(code, ReasonCode) and code.is_failure:
                raise SubscribeRefused(topic_filter, str(code))

    async def unlisten(self, topic_filter: str) -> None:
        """Ends a subscription. Raises BusUnavailable."""
        try:
            await self.unsubscribe(topic_filter)
        except aiomqtt.MqttError as error:
            raise BusUnavailable(str(error)) from error

    @property
    def window(self) -> int:
        """Publications that are on the wire without an answer at most: what the broker takes, if that is less."""
        return self._outgoing.window

    def send(self, messages: Sequence[Message]) -> asyncio.Future[Refusals]:
        """Hands messages over at once, QoS 1; calls are sent in their order. The future is the broker's answer.

        Raises BusUnavailable; the future raises it too.
        """
        if self._client.socket() is None:
            raise BusUnavailable("not connected to the broker")
        return self._outgoing.send(messages)

    async def publish_one(self, envelope: Envelope, data: bytes) -> None:
        """Returns when the broker has taken the message. Raises BusUnavailable, PublishRefused."""
        for refusal in await self.send([(envelope, data)]):
            raise refusal

    async def _enter(self) -> None:
        try:
            await self.__aenter__()
        except MqttConnectError as error:
            raise LoginRefused(self._login.username, str(error.rc)) from error
        except aiomqtt.MqttError as error:
            late = isinstance(error.__context__, TimeoutError)
            raise BusUnavailable(silent(self._broker, error) if late else str(error)) from error

    async def _close(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # paho then reads the end of the stream and cleans up
        self._closed = True
        if self._misc_task is not None:
            await asyncio.wait((self._misc_task,), timeout=CALL_S)
        self._outgoing.give_up()
        if self._socket is not None and self._socket.fileno() >= 0:  # paho has not heard of the end
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _client_connect(self) -> None:
        with connecting(self._client, self._broker):
            super()._client_connect()

    def _on_connect(
        self,
        client: PahoClient,
        userdata: object,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._outgoing.limit(
            receive_maximum=getattr(properties, "ReceiveMaximum", None),
            most_bytes=getattr(properties, "MaximumPacketSize", None),
        )
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: object,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """aiomqtt would forget an end that follows the login so closely that both are read at once, or precedes it."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(unanswered(self._broker)))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self._disconnected.done():
            self._disconnected.exception()  # counts as looked at
        if not self._ended.done():
            ended = BusUnavailable(f"the connection has ended: {reason_code}")
            taken_over = reason_code.value == TakenOver.REASON
            self._ended.set_result(TakenOver(self._login.client_id) if taken_over else ended)

    def _on_socket_open(self, client: PahoClient, userdata: object, sock: Any) -> None:  # noqa: ANN401
        """Puts a buffer before the socket, in the thread that connects."""
        # Without it each answer waits for the other side's delayed acknowledgement: 44 ms instead of 0.5.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = BufferedSocket(sock, now_s=self._now_s, sift=PubackSieve(self._outgoing.settle).sift)
        paho: Any = client
        paho._sock = self._socket  # noqa: SLF001 - there is no other way in
        if self._closed:  # whoever wanted the connection was cancelled while this thread made it
            self._socket.close()
            raise ConnectionAbortedError("the connection is not wanted any more")
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, client: PahoClient, userdata: object, sock: Any) -> None:  # noqa: ANN401
        """Not before the loop's next turn: what else comes in this one goes with it."""
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._write)
        else:  # the login, from the thread that connects
            self._loop.call_soon_threadsafe(self._write)

    def _on_socket_unregister_write(self, client: PahoClient, userdata: object, sock: Any) -> None:  # noqa: ANN401
        """paho has handed over all that it had, which is not to say that the socket has taken it: see _write()."""

    def _on_socket_close(self, client: PahoClient, userdata: object, sock: Any) -> None:  # noqa: ANN401
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())
        super()._on_socket_close(client, userdata, sock)

    def _gather(self, packet: bytes) -> None:
        if self._socket is not None:
            self._socket.send(packet)

    def _put(self, packet: bytes) -> None:
        self._gather(packet)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """What was handed over in this turn of the loop goes out in one call."""
        self._writing = False
        self._pubacks.sent()
        if self._client.want_write():
            self._client.loop_write()
        sock = self._socket
        if sock is None or sock.fileno() < 0:
            return
        try:
            done = sock.flush()
        except OSError:
            return  # the reader finds that the connection has ended
        if done and self._full:
            self._loop.remove_writer(sock.fileno())
        elif not done and not self._full:
            self._loop.add_writer(sock.fileno(), self._write)
        self._full = not done

    def _take(self) -> MQTTErrorCode:
        """In place of paho's own method: delivers a message and answers it to the broker."""
        paho: Any = self._client
        packet = paho._in_packet  # noqa: SLF001 - see publication.py
        try:
            found = read_publication(packet["command"], packet["packet"])
        except MalformedPublication:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        arrived_s = self._socket.arrival_s() if self._socket else self._now_s()
        self._deliver(found.identifiers, found.delivery(arrived_s=arrived_s))
        if found.qos:
            self._pubacks.add(found.mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS
