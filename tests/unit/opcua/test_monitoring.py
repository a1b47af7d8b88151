"""What is asked of the server for each tag, within its limits, and what is told of what it makes of it."""

from types import SimpleNamespace
from typing import Any

from asyncua import ua

from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.bench import device_spec
from plugins.api.driver import GroupSpec, Reading
from plugins.drivers.opcua.driver import DRIVER
from plugins.drivers.opcua.limits import CHUNK, Limits
from plugins.drivers.opcua.monitoring import Monitoring
from plugins.drivers.opcua.nodes import AddressBook
from plugins.drivers.opcua.session import Session

SPACE = "urn:plc"
Answer = ua.MonitoredItemCreateResult


class Server:
    """Takes requests for monitored items as a server would. sampling_ms, queue: what it makes of what is asked."""

    def __init__(self, *, sampling_ms: float = 0, queue: int = 100, filters: bool = True) -> None:
        self.missing: set[str] = set()
        self.asked: list[list[ua.MonitoredItemCreateRequest]] = []
        self.deleted: list[int] = []
        self._sampling_ms = sampling_ms
        self._queue = queue
        self._filters = filters
        self._items = 0

    async def create_monitored_items(self, params: ua.CreateMonitoredItemsParameters) -> list[Answer]:
        self.asked.append(list(params.ItemsToCreate))
        return [self._answer(item) for item in params.ItemsToCreate]

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        self.deleted += params.MonitoredItemIds
        return [ua.StatusCode() for _ in params.MonitoredItemIds]

    def _answer(self, item: ua.MonitoredItemCreateRequest) -> Answer:
        asked = item.RequestedParameters
        result = Answer()
        if item.ItemToMonitor.NodeId.Identifier in self.missing:
            result.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadNodeIdUnknown))
        elif isinstance(asked.Filter, ua.DataChangeFilter) and not self._filters:
            result.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadDeadbandFilterInvalid))
        self._items += 1
        result.MonitoredItemId = ua.UInt32(self._items)
        result.RevisedSamplingInterval = max(asked.SamplingInterval, self._sampling_ms)
        result.RevisedQueueSize = ua.UInt32(min(asked.QueueSize, self._queue))
        return result


def group(count: int = 3, **options: Any) -> GroupSpec:
    tags = {f"t{n}": {"node": f"nsu={SPACE};s=n{n}", "type": "float64", **options.pop("tag", {})} for n in range(count)}
    given = {"interval": "100ms", "sampling": "50ms", **options, "tags": tags}
    return device_spec(DRIVER, connection={"url": "opc.tcp://plc:4840"}, groups={"live": given}).groups[0]


def monitoring(server: Server, held: GroupSpec, *, limit: int = CHUNK) -> tuple[Monitoring, dict[str, None]]:
    async def namespaces() -> list[str]:
        return ["http://opcfoundation.org/UA/", SPACE]

    session: Any = SimpleNamespace(
        url="plc", client=SimpleNamespace(uaclient=server), limits=Limits(monitor=limit), remarks={}
    )
    session.remark = lambda line: Session.remark(session, line)
    addresses = {tag.name: tag.source.node for tag in held.tags}
    book = AddressBook(addresses, url="plc", namespaces=["", SPACE], read_namespaces=namespaces)
    return Monitoring(session=session, group=held, book=book), session.remarks


async def test_no_request_asks_for_more_than_the_server_takes() -> None:
    server = Server()
    made, _ = monitoring(server, group(10), limit=4)

    await made.begin(1)

    assert [len(asked) for asked in server.asked] == [4, 4, 2]
    assert not made.incomplete


async def test_what_the_server_makes_coarser_is_told_once_with_how_much() -> None:
    server = Server(sampling_ms=1000, queue=1)
    made, remarks = monitoring(server, group(7))

    await made.begin(1)
    await made.begin(1)

    assert list(remarks) == [
        "group live: the server samples 7 of 7 variables every 1 s, not every 0.05 s: t0, t1, t2, t3, t4 and 2 more",
        "group live: the server keeps 1 values of 7 of 7 variables, not 10: t0, t1, t2, t3, t4 and 2 more",
    ]


async def test_a_server_that_does_as_asked_is_not_remarked_on() -> None:
    made, remarks = monitoring(Server(), group())

    await made.begin(1)

    assert not remarks


async def test_a_dead_band_goes_to_the_server_as_it_stands_in_the_file() -> None:
    server = Server()
    held = group(1, tag={"monitor": {"deadband": "2.5%"}})
    made, _ = monitoring(server, held)

    await made.begin(1)

    ((item,),) = server.asked
    band = item.RequestedParameters.Filter
    assert isinstance(band, ua.DataChangeFilter)
    assert (band.DeadbandType, band.DeadbandValue) == (ua.DeadbandType.Percent, 2.5)
    assert band.Trigger == ua.DataChangeTrigger.StatusValue


async def test_a_refused_dead_band_is_asked_for_no_more() -> None:
    server = Server(filters=False)
    made, remarks = monitoring(server, group(1, tag={"monitor": {"deadband": 0.5}}))

    await made.begin(1)

    bands = [isinstance(asked[0].RequestedParameters.Filter, ua.DataChangeFilter) for asked in server.asked]
    assert bands == [True, False]
    assert not made.incomplete
    assert [line for line in remarks if "refuses the dead band of t0" in line]


async def test_a_node_that_went_is_asked_for_again_and_its_dead_item_removed() -> None:
    server = Server()
    made, _ = monitoring(server, group(3))
    await made.begin(1)

    made.look_at(Reading(1, {"t1": None}, {"t1": QualityStruct(BAD, "config", ua.StatusCodes.BadNodeIdUnknown)}))
    server.missing.add("n1")
    await made.repair(1)
    still_missing = made.incomplete
    server.missing.clear()
    await made.repair(1)

    assert still_missing
    assert not made.incomplete
    assert server.deleted == [2]
    assert [len(asked) for asked in server.asked] == [3, 1, 1]


async def test_another_bad_status_is_not_taken_for_a_node_that_went() -> None:
    made, _ = monitoring(Server(), group(3))
    await made.begin(1)

    made.look_at(Reading(1, {"t1": None}, {"t1": QualityStruct(BAD, "device", ua.StatusCodes.BadSensorFailure)}))

    assert not made.incomplete
