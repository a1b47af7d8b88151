"""An OPC UA server made for measuring: Double variables that all change at every tick, and no more than that needs.

Variable v0 is the counter of ticks; the others walk about their own mean. The stamp of a tick is taken when the
variables change, and the change goes out with the subscription's next publishing interval, so the latency measured
includes the server's own publishing, as with a real one. Ticks come up to 5 ms early or late, so that at 10 ms no luck
with the phase is measured; ticks that fall between two publications go out together, as from a monitored item with a
queue. A publication of 1000 values costs half a millisecond: the server is not to be
what is measured. Served are a channel without security (OPC 10000-6, 6.7), sessions, Read, and subscriptions.
"""

import argparse
import asyncio
import signal
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary

from bench.opcua_machine import Machine, Tick, ticks_now
from bench.stamps import Stamps

NAMESPACE = "urn:dinrail:bench"
STANDARD = "http://opcfoundation.org/UA/"
NONE = "http://opcfoundation.org/UA/SecurityPolicy#None"
_HEAD = struct.Struct("<3scI")
_MESSAGE = struct.Struct("<3scIIIII")
_CHUNK = 65_535
"""Bytes of a chunk, what asyncua and so the gateway takes; two ticks of 1000 Doubles are 44,000."""
_MOST_BODY = _CHUNK - _MESSAGE.size
_GOOD = struct.Struct("<HHqIIBiBBB")
_ITEM = "IBBdq"
_NOTICE = struct.Struct("<IiBIqiHHBii")
_IDS = ua.ObjectIds
_KEPT = 10
"""Ticks that wait for a publication at most: the usual queue size of a monitored item."""


class Connection(asyncio.Protocol):
    """One client: its channel, its session, its subscriptions."""

    def __init__(self, machine: Machine, url: str) -> None:
        self._machine = machine
        self._url = url
        self._pending = b""
        self._sequence = 0
        self._waiting: deque[int] = deque()
        self._feeds: dict[int, Feed] = {}
        self._services: Mapping[int, tuple[type, Callable[[Any], object]]] = {
            _IDS.CreateSessionRequest_Encoding_DefaultBinary: (ua.CreateSessionRequest, self._create_session),
            _IDS.ActivateSessionRequest_Encoding_DefaultBinary: (ua.ActivateSessionRequest, _activated),
            _IDS.CloseSessionRequest_Encoding_DefaultBinary: (
                ua.CloseSessionRequest,
                lambda _: ua.CloseSessionResponse(),
            ),
            _IDS.ReadRequest_Encoding_DefaultBinary: (ua.ReadRequest, self._read),
            _IDS.CreateSubscriptionRequest_Encoding_DefaultBinary: (ua.CreateSubscriptionRequest, self._subscribe),
            _IDS.CreateMonitoredItemsRequest_Encoding_DefaultBinary: (ua.CreateMonitoredItemsRequest, self._monitor),
            _IDS.DeleteSubscriptionsRequest_Encoding_DefaultBinary: (ua.DeleteSubscriptionsRequest, self._unsubscribe),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the client's subscriptions."""
        for feed in self._feeds.values():
            feed.end()

    def data_received(self, data: bytes) -> None:
        """Takes each whole message in what has come (OPC 10000-6, 7.1.2); an unknown kind ends the connection."""
        self._pending += data
        while len(self._pending) >= _HEAD.size:
            kind, _, size = _HEAD.unpack_from(self._pending)
            if len(self._pending) < size:
                return
            message, self._pending = self._pending[:size], self._pending[size:]
            if kind == b"HEL":
                self._transport.write(_HEAD.pack(b"ACK", b"F", 28) + struct.pack("<5I", 0, _CHUNK, _CHUNK, 0, 0))
            elif kind == b"OPN":
                self._open(message)
            elif kind == b"MSG":
                self._answer(message)
            else:
                self._transport.close()

    def _open(self, message: bytes) -> None:
        at = message.index(NONE.encode()) + len(NONE) + 8  # then sender's and receiver's certificate, both absent
        _, request = struct.unpack_from("<II", message, at)
        response = ua.OpenSecureChannelResponse()
        response.Parameters.SecurityToken.ChannelId = response.Parameters.SecurityToken.TokenId = ua.UInt32(1)
        response.Parameters.SecurityToken.RevisedLifetime = ua.UInt32(3_600_000)
        body = struct_to_binary(response)
        policy = struct.pack("<i", len(NONE)) + NONE.encode() + struct.pack("<ii", -1, -1)
        self._sequence += 1
        rest = struct.pack("<I", 1) + policy + struct.pack("<II", self._sequence, request) + body
        self._transport.write(_HEAD.pack(b"OPN", b"F", 8 + len(rest)) + rest)

    def send(self, request: int, body: bytes) -> None:
        """Answers the request with this number, in chunks that the client takes (OPC 10000-6, 6.7.2)."""
        parts = [body[at : at + _MOST_BODY] for at in range(0, len(body), _MOST_BODY)]
        for part in parts:
            self._sequence += 1
            last = b"F" if part is parts[-1] else b"C"
            head = _MESSAGE.pack(b"MSG", last, _MESSAGE.size + len(part), 1, 1, self._sequence, request)
            self._transport.write(head + part)

    def _answer(self, message: bytes) -> None:
        (request,) = struct.unpack_from("<I", message, 20)
        body = Buffer(message[24:])
        kind = int(nodeid_from_binary(body.copy()).Identifier)
        if kind == _IDS.PublishRequest_Encoding_DefaultBinary:
            self._waiting.append(request)
            return
        if kind not in self._services:
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadServiceUnsupported))
            self.send(request, struct_to_binary(fault))
            return
        model, serve = self._services[kind]
        answer = serve(struct_from_binary(model, body))
        self.send(request, answer if isinstance(answer, bytes) else struct_to_binary(answer))

    def next_request(self) -> int | None:
        """A publish request to answer; None if the client has asked for none."""
        return self._waiting.popleft() if self._waiting else None

    def _create_session(self, request: ua.CreateSessionRequest) -> object:
        response = ua.CreateSessionResponse()
        endpoint = ua.EndpointDescription()
        endpoint.EndpointUrl = self._url
        endpoint.SecurityMode = ua.MessageSecurityMode.None_
        endpoint.SecurityPolicyUri = NONE
        endpoint.UserIdentityTokens = [ua.UserTokenPolicy(PolicyId="anonymous", TokenType=ua.UserTokenType.Anonymous)]
        response.Parameters.SessionId = response.Parameters.AuthenticationToken = ua.NodeId(ua.Int32(1))
        response.Parameters.RevisedSessionTimeout = request.Parameters.RequestedSessionTimeout
        response.Parameters.ServerEndpoints = [endpoint]
        return response

    def _read(self, request: ua.ReadRequest) -> object:
        nodes = request.Parameters.NodesToRead
        if nodes and nodes[0].NodeId.NamespaceIndex == 1 and nodes[0].AttributeId == ua.AttributeIds.Value:
            return self._values([int(str(node.NodeId.Identifier)[1:]) for node in nodes])
        response = ua.ReadResponse()
        response.Results = [_told(node) for node in nodes]
        return response

    def _values(self, places: Sequence[int]) -> bytes:
        """A ReadResponse with these variables' values and source times."""
        levels, time = self._machine.levels, self._machine.time
        fields = [part for place in places for part in (5, 11, levels[place], time)]
        results = struct.pack("<i" + "BBdq" * len(places), len(places), *fields)
        return (
            _GOOD.pack(1, _IDS.ReadResponse_Encoding_DefaultBinary, ticks_now(), 0, 0, 0, 0, 0, 0, 0)
            + results
            + b"\xff" * 4
        )

    def _subscribe(self, request: ua.CreateSubscriptionRequest) -> object:
        asked, response = request.Parameters, ua.CreateSubscriptionResponse()
        number = len(self._feeds) + 1
        interval_s = asked.RequestedPublishingInterval / 1000
        self._feeds[number] = Feed(self, self._machine, number, interval_s, int(asked.RequestedMaxKeepAliveCount))
        response.Parameters.SubscriptionId = ua.UInt32(number)
        response.Parameters.RevisedPublishingInterval = asked.RequestedPublishingInterval
        response.Parameters.RevisedLifetimeCount = asked.RequestedLifetimeCount
        response.Parameters.RevisedMaxKeepAliveCount = asked.RequestedMaxKeepAliveCount
        return response

    def _monitor(self, request: ua.CreateMonitoredItemsRequest) -> object:
        feed, response = self._feeds[int(request.Parameters.SubscriptionId)], ua.CreateMonitoredItemsResponse()
        for item in request.Parameters.ItemsToCreate:
            result, asked = ua.MonitoredItemCreateResult(), item.RequestedParameters
            feed.items.append((int(asked.ClientHandle), int(str(item.ItemToMonitor.NodeId.Identifier)[1:])))
            result.MonitoredItemId = ua.UInt32(len(feed.items))
            result.RevisedSamplingInterval, result.RevisedQueueSize = asked.SamplingInterval, asked.QueueSize
            response.Results.append(result)
        feed.take((self._machine.levels, self._machine.time))  # the first publication has the value of each item
        return response

    def _unsubscribe(self, request: ua.DeleteSubscriptionsRequest) -> object:
        response = ua.DeleteSubscriptionsResponse()
        for number in request.Parameters.SubscriptionIds:
            self._feeds[int(number)].end()
            response.Results.append(ua.StatusCode())
        return response


class Feed:
    """One subscription. items: client handle and variable of each monitored item."""

    def __init__(self, owner: Connection, machine: Machine, number: int, interval_s: float, keep_alive: int) -> None:
        self._owner, self._machine, self._number = owner, machine, number
        self._interval_s, self._keep_alive, self._silent = interval_s, keep_alive, 0
        self.items: list[tuple[int, int]] = []
        self._ticks: deque[Tick] = deque(maxlen=_KEPT)
        self._message = 0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + interval_s
        self._timer = self._loop.call_at(self._due, self._publish)
        machine.feeds.add(self)

    def end(self) -> None:
        """Publishes no more."""
        self._timer.cancel()
        self._machine.feeds.discard(self)

    def take(self, tick: Tick) -> None:
        """Keeps the tick for the next publication; of too many the oldest is lost."""
        self._ticks.append(tick)

    def _publish(self) -> None:
        self._due = max(self._due + self._interval_s, self._loop.time())
        self._timer = self._loop.call_at(self._due, self._publish)
        self._silent += 1
        changed = self.items and self._ticks
        if not changed and self._silent < self._keep_alive:
            return
        request = self._owner.next_request()
        if request is not None:
            self._silent = 0
            self._owner.send(request, self._changes() if changed else self._notice(0, b"", self._message + 1))

    def _changes(self) -> bytes:
        fields = [
            part
            for levels, time in self._ticks
            for handle, place in self.items
            for part in (handle, 5, 11, levels[place], time)
        ]
        count = len(self._ticks) * len(self.items)
        self._ticks.clear()
        self._message += 1
        return self._notice(count, struct.pack("<" + _ITEM * count, *fields), self._message)

    def _notice(self, count: int, items: bytes, message: int) -> bytes:
        """A PublishResponse (OPC 10000-4, 5.13.5) with at most one DataChangeNotification."""
        now = ticks_now()
        head = _GOOD.pack(1, _IDS.PublishResponse_Encoding_DefaultBinary, now, 0, 0, 0, 0, 0, 0, 0)
        if not count:
            return head + struct.pack("<IiBIqi", self._number, 0, 0, message, now, 0) + b"\xff" * 8
        kind = _IDS.DataChangeNotification_Encoding_DefaultBinary
        told = _NOTICE.pack(self._number, 0, 0, message, now, 1, 1, kind, 1, len(items) + 8, count)
        return head + told + items + b"\xff" * 12


def _activated(_: object) -> object:
    return ua.ActivateSessionResponse()


def _told(node: ua.ReadValueId) -> ua.DataValue:
    """What is no value of a variable: the namespaces, the state, the variables' data type; nothing else."""
    answers = {
        (0, _IDS.Server_NamespaceArray): ua.Variant([STANDARD, NAMESPACE]),
        (0, _IDS.Server_ServerStatus_State): ua.Variant(0, ua.VariantType.Int32),
    }
    if node.NodeId.NamespaceIndex == 1 and node.AttributeId == ua.AttributeIds.DataType:
        return ua.DataValue(ua.Variant(ua.NodeId(ua.Int32(_IDS.Double)), ua.VariantType.NodeId))
    known = answers.get((node.NodeId.NamespaceIndex, cast("int", node.NodeId.Identifier)))
    return (
        ua.DataValue(known)
        if known
        else ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadNodeIdUnknown)))
    )


async def serve(port: int, values: int, hz: float, stamps: Stamps) -> None:
    """Serves until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    machine = Machine(values, stamps)
    url = f"opc.tcp://127.0.0.1:{port}/bench"
    async with await loop.create_server(lambda: Connection(machine, url), "127.0.0.1", port):
        print("ready", flush=True)
        await machine.run(1 / hz, stop)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--values", type=int, default=1000)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--stamps", type=Path, required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.values, given.hz, Stamps(given.stamps)))


if __name__ == "__main__":
    main()
