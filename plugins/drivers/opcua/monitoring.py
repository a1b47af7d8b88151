"""The monitored items of one subscription: asked for within the server's limits, and what the server makes of them."""

import math
from collections.abc import Iterable, Mapping, Sequence

from asyncua import ua

from plugins.api.driver import GroupSpec, Reading, TagSpec

from .answers import device_errors
from .audit import GONE, Audit
from .config import Deadband
from .nodes import AddressBook
from .session import Session
from .wire import Item

_NO_FILTER = frozenset(
    {
        ua.StatusCodes.BadFilterNotAllowed,
        ua.StatusCodes.BadMonitoredItemFilterInvalid,
        ua.StatusCodes.BadMonitoredItemFilterUnsupported,
        ua.StatusCodes.BadDeadbandFilterInvalid,
    }
)
"""How a server refuses a dead band (OPC 10000-4, 5.12.2.4), for example one in percent without an EURange."""
_COARSER = 1.05


class Monitoring:
    """Which tags of a group the server watches. refused: those that it does not, with its status code, by handle."""

    def __init__(self, *, session: Session, group: GroupSpec, book: AddressBook) -> None:
        self._session = session
        self._group = group
        self._book = book
        self.tags: Mapping[int, TagSpec] = dict(enumerate(group.tags, start=1))
        self._handles = {tag.name: handle for handle, tag in self.tags.items()}
        self._items: dict[int, int] = {}
        self._unfiltered: set[int] = set()
        self._gone: set[int] = set()
        self._revised: dict[int, tuple[float, int]] = {}
        self.refused: dict[int, int] = {}
        self._audit = Audit()

    async def begin(self, subscription: int) -> None:
        """Asks for every tag. Raises DeviceError."""
        await self._create(subscription, list(self.tags))

    def look_at(self, reading: Reading) -> None:
        """Remembers the tags whose nodes went while they were watched: many servers never tell when they are back."""
        for name, quality in reading.quality.items():
            if quality.code in GONE:
                self._gone.add(self._handles[name])

    def hear(self, items: Iterable[Item]) -> None:
        """What the server has told of by itself."""
        self._audit.hear(items)

    @property
    def audits(self) -> int:
        """How many audits it takes until every tag has been asked for."""
        return max(1, math.ceil(len(self._items) / self._session.limits.read))

    async def audit(self) -> Sequence[Item]:
        """Asks for the next of the tags that are watched; what has gone is returned. Raises DeviceError."""
        part = self._audit.next(sorted(self._items), self._session.limits.read)
        nodes = [self._book[self.tags[handle].name] for handle in part]
        answers = [(handle, *item[1:]) for handle, item in zip(part, await self._session.read(nodes), strict=True)]
        filtered = [handle for handle in part if self._deadband(handle) is not None]
        gone, deaf = self._audit.judge(answers, filtered=filtered)
        if deaf:
            names = _listed(self.tags[handle].name for handle in deaf)
            self._session.remark(
                f"group {self._group.name}: the server has ceased to tell of {names}; they are asked for anew"
            )
        self._gone |= {*deaf, *(item[0] for item in gone)}
        return gone

    @property
    def incomplete(self) -> bool:
        """Whether tags are not watched though they ought to be."""
        return bool(self.refused or self._gone)

    async def repair(self, subscription: int) -> None:
        """Asks once more for what is not watched. Raises DeviceError."""
        await self._book.look_again()
        stale = [self._items.pop(handle) for handle in sorted(self._gone) if handle in self._items]
        wanted = sorted({*self.refused, *self._gone})
        self._gone.clear()
        await self._delete(subscription, stale)
        await self._create(subscription, wanted)

    async def _delete(self, subscription: int, items: Sequence[int]) -> None:
        async def ask(part: Sequence[int]) -> Sequence[ua.StatusCode]:
            """One DeleteMonitoredItems (OPC 10000-4, 5.12.6), whose answer has a code for each. Raises UaError."""
            params = ua.DeleteMonitoredItemsParameters()
            params.SubscriptionId = ua.UInt32(subscription)
            params.MonitoredItemIds = [ua.UInt32(item) for item in part]
            return await self._session.client.uaclient.delete_monitored_items(params)

        with device_errors(f"{self._session.url}: monitor"):
            await self._session.limits.in_parts("monitor", items, ask)

    async def _create(self, subscription: int, wanted: Sequence[int]) -> None:
        for handle in wanted:
            self.refused.pop(handle, None)
        unfiltered = await self._ask(subscription, wanted)
        if unfiltered:
            self._unfiltered |= set(unfiltered)
            self._remark_filters(unfiltered)
            await self._ask(subscription, unfiltered)
        self._remark_revisions()
        self._remark_full()

    async def _ask(self, subscription: int, handles: Sequence[int]) -> list[int]:
        """Asks for these; returns those whose dead band the server refuses."""

        async def ask(part: Sequence[int]) -> Sequence[ua.MonitoredItemCreateResult]:
            """One CreateMonitoredItems (OPC 10000-4, 5.12.2), whose answer has a result for each. Raises UaError."""
            params = ua.CreateMonitoredItemsParameters()
            params.SubscriptionId = ua.UInt32(subscription)
            params.TimestampsToReturn = ua.TimestampsToReturn.Both
            params.ItemsToCreate = [self._item(handle) for handle in part]
            return await self._session.client.uaclient.create_monitored_items(params)

        with device_errors(f"{self._session.url}: monitor"):
            results = await self._session.limits.in_parts("monitor", handles, ask)
        unfiltered = []
        for handle, result in zip(handles, results, strict=True):
            code = int(result.StatusCode.value)
            if code in _NO_FILTER and self._deadband(handle) is not None:
                unfiltered.append(handle)
            elif code >> 31:
                self.refused[handle] = code
            else:
                self._items[handle] = int(result.MonitoredItemId)
                self._revised[handle] = (result.RevisedSamplingInterval / 1000, int(result.RevisedQueueSize))
        return unfiltered

    def _deadband(self, handle: int) -> Deadband | None:
        deadband: Deadband | None = self.tags[handle].source.monitor.deadband
        return None if handle in self._unfiltered else deadband

    def _remark_filters(self, handles: Sequence[int]) -> None:
        """Once: the tags are told without their dead band from now on."""
        names = _listed(self.tags[handle].name for handle in handles)
        percent = any(self.tags[handle].source.monitor.deadband.percent for handle in handles)
        why = ", one in percent perhaps because it tells no EURange" if percent else ""
        self._session.remark(
            f"group {self._group.name}: the server refuses the dead band of {names}{why}; every change is taken"
        )

    def _remark_revisions(self) -> None:
        asked_s, queue = self._sampling_s, self._group.options.queue
        slower = [handle for handle, (given_s, _) in self._revised.items() if given_s > asked_s * _COARSER]
        if asked_s and slower:
            given_s = max(self._revised[handle][0] for handle in slower)
            self._session.remark(
                f"group {self._group.name}: the server samples {len(slower)} of {len(self.tags)} variables every "
                f"{given_s:g} s, not every {asked_s:g} s: {_listed(self.tags[handle].name for handle in slower)}"
            )
        shorter = [handle for handle, (_, given) in self._revised.items() if 0 < given < queue]
        if shorter:
            given = min(self._revised[handle][1] for handle in shorter)
            self._session.remark(
                f"group {self._group.name}: the server keeps {given} values of {len(shorter)} of {len(self.tags)} "
                f"variables, not {queue}: {_listed(self.tags[handle].name for handle in shorter)}"
            )

    def _remark_full(self) -> None:
        """That the server watches no more variables is its limit, not a fault of the file: what helps is told."""
        beyond = [handle for handle, code in self.refused.items() if code == ua.StatusCodes.BadTooManyMonitoredItems]
        if beyond:
            self._session.remark(
                f"group {self._group.name}: the server watches no more than {len(self._items)} of {len(self.tags)} "
                f"variables (BadTooManyMonitoredItems); give the others a group with mode: poll: "
                f"{_listed(self.tags[handle].name for handle in beyond)}"
            )

    @property
    def _sampling_s(self) -> float:
        options = self._group.options
        return float(self._group.interval_s if options.sampling is None else options.sampling)

    def _item(self, handle: int) -> ua.MonitoredItemCreateRequest:
        options, tag = self._group.options, self.tags[handle]
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = self._book[tag.name]
        item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        item.MonitoringMode = ua.MonitoringMode.Reporting
        item.RequestedParameters.ClientHandle = handle
        item.RequestedParameters.SamplingInterval = self._sampling_s * 1000
        item.RequestedParameters.QueueSize = options.queue
        item.RequestedParameters.DiscardOldest = True
        deadband = self._deadband(handle)
        if deadband is not None:
            item.RequestedParameters.Filter = _filter(deadband)
        return item


def _filter(deadband: Deadband) -> ua.DataChangeFilter:
    """Status and value count; a source time alone does not (OPC 10000-4, 7.22.2)."""
    kind = ua.DeadbandType.Percent if deadband.percent else ua.DeadbandType.Absolute
    return ua.DataChangeFilter(
        Trigger=ua.DataChangeTrigger.StatusValue, DeadbandType=ua.UInt32(kind), DeadbandValue=ua.Double(deadband.size)
    )


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    held = list(names)
    more = f" and {len(held) - 5} more" if len(held) > 5 else ""
    return ", ".join(held[:5]) + more
