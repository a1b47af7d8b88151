"""The publish loop against a server that answers as the test says: what real servers seldom do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import BadNoSubscription, BadTimeout, BadTooManyPublishRequests

from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.publisher import Mailbox, Publisher

SUBSCRIPTION = 7


class Server:
    """Takes requests; each publish request waits for `answer` or `refuse`. asked: those that were taken."""

    def __init__(self) -> None:
        self.asked: list[ua.PublishRequest] = []
        self.waiting: list[asyncio.Future[Buffer]] = []
        self.changed = asyncio.Event()

    async def send_request(self, request: Any, _timeout: float | None) -> Buffer:
        if isinstance(request, ua.CreateSubscriptionRequest):
            response = ua.CreateSubscriptionResponse()
            response.Parameters.SubscriptionId = ua.UInt32(SUBSCRIPTION)
            return Buffer(struct_to_binary(response))
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        self.asked.append(request)
        self.waiting.append(future)
        self.changed.set()
        return await future

    async def has_been_asked(self, times: int) -> None:
        async with asyncio.timeout(30):
            while len(self.asked) < times:
                self.changed.clear()
                await self.changed.wait()

    def answer(self, sequence: int, *held: ua.Variant) -> None:
        items = [
            ua.MonitoredItemNotification(ua.UInt32(handle), ua.DataValue(value)) for handle, value in enumerate(held)
        ]
        response = ua.PublishResponse()
        response.Parameters.SubscriptionId = ua.UInt32(SUBSCRIPTION)
        response.Parameters.MoreNotifications = False
        response.Parameters.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
        response.Parameters.NotificationMessage.NotificationData = [ua.DataChangeNotification(items)] if items else []
        self.waiting.pop(0).set_result(Buffer(struct_to_binary(response)))

    def refuse(self, error: Exception) -> None:
        self.waiting.pop(0).set_exception(error)


@asynccontextmanager
async def subscribed(server: Server) -> AsyncIterator[Mailbox]:
    client: Any = SimpleNamespace(uaclient=SimpleNamespace(protocol=server))
    publisher = Publisher(client, url="plc")
    running = asyncio.create_task(publisher.run())
    try:
        box = Mailbox(name="plc: live", size=10)
        await publisher.create(ua.CreateSubscriptionParameters(), box)
        await server.has_been_asked(3)
        yield box
    finally:
        running.cancel()
        await asyncio.wait({running})


def number(value: float) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Double)


async def test_publications_are_acknowledged_and_asked_for_again_and_keep_alives_are_not() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.answer(1, number(2.5))
        await server.has_been_asked(4)
        server.answer(2)
        await server.has_been_asked(5)

        assert (await box.next(1)).items == [(0, 2.5, 0, None)]
        assert (await box.next(1)).items == []

    acknowledged = [
        [(ack.SubscriptionId, ack.SequenceNumber) for ack in request.Parameters.SubscriptionAcknowledgements]
        for request in server.asked
    ]
    assert acknowledged == [[], [], [], [(SUBSCRIPTION, 1)], []]


async def test_a_type_that_only_the_general_decoder_knows_arrives_too() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.answer(1, number(2.5), ua.Variant(ua.QualifiedName("name", 2), ua.VariantType.QualifiedName))

        items = (await box.next(1)).items

    assert items == [(0, 2.5, 0, None), (1, "name", 0, None)]


async def test_a_server_that_takes_fewer_requests_at_once_is_asked_fewer() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.refuse(BadTooManyPublishRequests())
        server.answer(1, number(1.5))
        await server.has_been_asked(4)

        assert (await box.next(1)).sequence == 1
        assert len(server.waiting) == 2


async def test_a_request_that_grew_old_at_the_server_is_followed_by_another() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.refuse(BadTimeout())
        await server.has_been_asked(4)
        server.answer(1, number(1.5))

        assert (await box.next(1)).sequence == 1


async def test_a_server_that_refuses_each_request_at_once_is_asked_at_leisure() -> None:
    server = Server()
    async with subscribed(server):
        begin = asyncio.get_running_loop().time()
        for asked in (4, 5, 6):
            server.refuse(BadTimeout())
            await server.has_been_asked(asked)

        assert asyncio.get_running_loop().time() - begin > 0.2


async def test_a_subscription_that_the_server_has_forgotten_ends() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.refuse(BadNoSubscription())

        error = await expect_device_error(box.next(1))

    assert error.code == ua.StatusCodes.BadNoSubscription


async def test_a_connection_that_breaks_ends_the_subscription() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.refuse(ConnectionError("connection lost"))

        error = await expect_device_error(box.next(1))

    assert error.cause == "comm"
    assert "connection lost" in str(error)


async def test_an_answer_that_is_no_publication_ends_the_subscription() -> None:
    server = Server()
    async with subscribed(server) as box:
        server.waiting.pop(0).set_result(Buffer(b"\x01\x00\x00\x00nonsense"))

        await expect_device_error(box.next(1))
