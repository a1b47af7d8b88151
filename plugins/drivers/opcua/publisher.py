"""Asks the server to publish, and hands each publication to the subscription that it belongs to.

asyncua's own publish loop keeps one request under way, decodes everything in full, and after an error waits a second
and goes on; here several requests are under way, so that a distant server need not wait for us, nothing is dropped in
silence, and every error reaches the subscriptions.
"""

import asyncio
from collections import deque
from collections.abc import Mapping

from asyncua import Client, ua
from asyncua.common.utils import Buffer
from asyncua.ua.uaerrors import BadNoSubscription, BadTimeout, BadTooManyPublishRequests

from plugins.api.driver import DeviceError

from .answers import ask, decoded, device_errors
from .values import item_of
from .wire import Publication, publication

_UNDER_WAY = 3
"""Publish requests that wait at the server, which answers one per publication."""
_PAUSE_S = 0.1
"""After a request that was refused: a server that refuses each at once is not asked as fast as it answers."""


class Mailbox:
    """The publications of one subscription, in order; at most `size` of them wait, one more is an error."""

    def __init__(self, *, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._held: deque[Publication] = deque()
        self._came = asyncio.Event()
        self._error: DeviceError | None = None
        self._sequence = 0

    def put(self, given: Publication) -> None:
        """Adds a publication. One that is missing before it ends the mailbox."""
        if given.items or given.ended is not None:
            if self._sequence and given.sequence != self._sequence % 0xFFFF_FFFF + 1:
                self._fail(f"publication {given.sequence} follows {self._sequence}: some are lost", "device")
            self._sequence = given.sequence
        if len(self._held) >= self._size:
            self._fail(f"{self._size} publications were not taken in time", "overflow")
        if self._error is None:
            self._held.append(given)
            self._came.set()

    def fail(self, error: DeviceError) -> None:
        """Ends the mailbox: after what it holds, next() raises the first such error."""
        self._error = self._error or error
        self._came.set()

    async def next(self, timeout_s: float) -> Publication:
        """The oldest. Raises the DeviceError of fail(), and one when nothing comes in time, not even a keep-alive."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            raise DeviceError(f"{self._name}: no publication within {timeout_s:g} s") from None
        if self._held:
            given = self._held.popleft()
            if not self._held and self._error is None:
                self._came.clear()
            return given
        raise self._error or DeviceError(f"{self._name}: no publication")

    def _fail(self, message: str, cause: str) -> None:
        self.fail(DeviceError(f"{self._name}: {message}", cause=cause))


class Publisher:
    """The publish requests of one session. run() is a task that lives as long as the session."""

    def __init__(self, client: Client, *, url: str) -> None:
        self._client = client
        self._url = url
        self._boxes: dict[int, Mailbox] = {}
        self._wanted = asyncio.Event()
        self._acknowledged: list[ua.SubscriptionAcknowledgement] = []
        self._error: DeviceError | None = None

    async def create(self, params: ua.CreateSubscriptionParameters, box: Mailbox) -> ua.CreateSubscriptionResult:
        """Creates a subscription whose publications go into the box. Raises DeviceError."""
        if self._error is not None:
            raise self._error
        request = ua.CreateSubscriptionRequest()
        request.Parameters = params
        with device_errors(f"{self._url}: subscribe"):
            response = decoded(ua.CreateSubscriptionResponse, await ask(self._client, request))
        result: ua.CreateSubscriptionResult = response.Parameters
        self._boxes[int(result.SubscriptionId)] = box
        self._wanted.set()
        return result

    def forget(self, subscription: int) -> None:
        """The subscription is no longer of interest; the caller deletes it at the server."""
        self._boxes.pop(subscription, None)

    def fail(self, error: DeviceError) -> None:
        """The connection is lost: every subscription ends with this error."""
        self._error = self._error or error
        for box in self._boxes.values():
            box.fail(self._error)

    async def run(self) -> None:
        """Publishes until cancelled, or until the connection fails, which each subscription is then told."""
        asked: deque[tuple[asyncio.Task[Buffer], Mapping[int, Mailbox]]] = deque()
        try:
            with device_errors(f"{self._url}: publish"):
                await self._publish(asked)
        except DeviceError as error:
            self.fail(error)
        finally:
            self.fail(DeviceError(f"{self._url}: closed"))
            tasks = [task for task, _ in asked]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, asked: deque[tuple[asyncio.Task[Buffer], Mapping[int, Mailbox]]]) -> None:
        most = _UNDER_WAY
        while True:
            if not asked:
                await self._wanted.wait()
            while len(asked) < most and self._boxes:
                asked.append((asyncio.create_task(self._ask(), name="opcua publish"), dict(self._boxes)))
            if not asked:
                self._wanted.clear()
                continue
            task, boxes = asked[0]
            try:
                given = _decoded(await task)
            except BadTooManyPublishRequests:
                most = max(1, most - 1)
                await asyncio.sleep(_PAUSE_S)
            except BadTimeout:  # a request grew old at the server, which OPC 10000-4, 5.13.5 allows; the next follows
                await asyncio.sleep(_PAUSE_S)
            except BadNoSubscription:
                _end(boxes)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._deliver(given)
            asked.popleft()

    async def _ask(self) -> Buffer:
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = self._acknowledged
        self._acknowledged = []
        return await ask(self._client, request, timeout_s=0)  # its answer comes when there is something to tell

    def _deliver(self, given: Publication) -> None:
        if given.items or given.ended is not None:
            self._acknowledged.append(
                ua.SubscriptionAcknowledgement(
                    SubscriptionId=ua.UInt32(given.subscription), SequenceNumber=ua.UInt32(given.sequence)
                )
            )
        box = self._boxes.get(given.subscription)
        if box is not None:
            box.put(given)


def _end(boxes: Mapping[int, Mailbox]) -> None:
    """The server said that there is no subscription: those there were when it was asked are gone."""
    code = int(ua.StatusCodes.BadNoSubscription)
    for box in boxes.values():
        box.fail(DeviceError("the server has no such subscription any more", code=code))


def _decoded(answer: Buffer) -> Publication:
    found = publication(bytes(answer))
    if found is not None:
        return found
    result = decoded(ua.PublishResponse, answer).Parameters
    items = []
    ended = None
    for notification in result.NotificationMessage.NotificationData or ():
        if isinstance(notification, ua.StatusChangeNotification):
            ended = int(notification.Status.value)
        elif isinstance(notification, ua.DataChangeNotification):
            items += [item_of(item.ClientHandle, item.Value) for item in notification.MonitoredItems]
    sequence = int(result.NotificationMessage.SequenceNumber)
    return Publication(int(result.SubscriptionId), sequence, bool(result.MoreNotifications), items, ended)
