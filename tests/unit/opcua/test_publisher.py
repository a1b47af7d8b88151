"""A subscription's mailbox holds every publication in order, or says why it cannot."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api.bench import WallClock, device_spec
from plugins.api.driver import DeviceError, DeviceSpec, Reading
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.driver import DRIVER
from plugins.drivers.opcua.publisher import Mailbox
from plugins.drivers.opcua.subscription import Subscription
from plugins.drivers.opcua.wire import Item, Publication

VALUE: list[Item] = [(1, 2.5, 0, None)]
LAST = 2**32 - 1


def told(sequence: int, *, items: list[Item] = VALUE, ended: int | None = None) -> Publication:
    return Publication(7, sequence, False, items, ended)


def box(size: int = 10) -> Mailbox:
    return Mailbox(name="plc: live", size=size)


async def test_publications_come_in_order_and_keep_alives_with_them() -> None:
    given_ones = [told(1), told(2, items=[]), told(2), told(3)]
    mailbox = box()
    for one in given_ones:
        mailbox.put(one)

    assert [await mailbox.next(1) for _ in given_ones] == given_ones


async def test_the_first_number_may_be_any_and_after_the_last_comes_one() -> None:
    mailbox = box()
    for sequence in (LAST - 1, LAST, 1):
        mailbox.put(told(sequence))

    assert [(await mailbox.next(1)).sequence for _ in range(3)] == [LAST - 1, LAST, 1]


@pytest.mark.parametrize("after", [1, 2, 4, LAST])
async def test_a_publication_that_is_missing_or_repeated_ends_the_subscription(after: int) -> None:
    mailbox = box()
    mailbox.put(told(2))
    mailbox.put(told(after))

    assert (await mailbox.next(1)).sequence == 2
    error = await expect_device_error(mailbox.next(1))
    assert "lost" in str(error)


@given(st.integers(1, 20), st.integers(1, 20))
def test_what_does_not_fit_ends_it_after_what_does(size: int, beyond: int) -> None:
    async def take() -> tuple[list[int], str]:
        mailbox = box(size)
        for sequence in range(1, size + beyond + 1):
            mailbox.put(told(sequence))
        taken = [(await mailbox.next(1)).sequence for _ in range(size)]
        return taken, (await expect_device_error(mailbox.next(1))).cause

    assert asyncio.run(take()) == (list(range(1, size + 1)), "overflow")


async def test_silence_ends_the_waiting() -> None:
    error = await expect_device_error(box().next(0.01))

    assert error.cause == "comm"
    assert "no publication" in str(error)


async def test_a_reader_who_waits_is_told_of_the_end_at_once() -> None:
    mailbox = box()
    waiting = asyncio.create_task(mailbox.next(10))
    await asyncio.sleep(0)
    mailbox.fail(DeviceError("connection lost"))
    mailbox.fail(DeviceError("and once more"))

    async with asyncio.timeout(30):
        error = await expect_device_error(waiting)
    assert str(error) == "connection lost"


def spec(interval_s: float = 1.0, **group: object) -> DeviceSpec:
    tags = {"speed": {"node": "nsu=urn:plc;s=Speed", "type": "float64"}}
    device = device_spec(DRIVER, connection={"url": "opc.tcp://plc"}, groups={"live": {**group, "tags": tags}})
    return replace(device, groups=(replace(device.groups[0], interval_s=interval_s),))


@pytest.mark.parametrize(
    ("group", "field", "mend"),
    [
        ({"interval_s": 0}, "interval", "mode: poll"),
        ({"sampling": "10ms"}, "queue", "queue: 102"),
        ({"interval_s": 0.1, "sampling": "10ms", "queue": 9}, "queue", "queue: 12"),
        ({"mode": "poll", "sampling": "10ms"}, "sampling", "remove"),
        ({"mode": "poll", "queue": 5}, "queue", "remove"),
    ],
)
def test_a_group_that_cannot_do_what_it_says_is_told_so(group: dict[str, object], field: str, mend: str) -> None:
    (complaint,) = DRIVER.check(spec(**group))  # type: ignore[arg-type]

    assert complaint.path == ("groups", "live", field)
    assert mend in complaint.mend


@pytest.mark.parametrize(
    "group",
    [
        {},
        {"mode": "poll"},
        {"sampling": "0s"},
        {"sampling": "10ms", "queue": 1},
        {"interval_s": 0.1, "sampling": "10ms"},
    ],
)
def test_a_group_that_can_draws_no_complaint(group: dict[str, object]) -> None:
    assert list(DRIVER.check(spec(**group))) == []  # type: ignore[arg-type]


async def unasked() -> Reading:
    raise AssertionError("nobody polls here")


async def test_what_the_server_splits_into_several_messages_is_one_reading() -> None:
    device = spec()
    session: Any = SimpleNamespace(url="plc", timeout_s=1.0)
    book: Any = {}
    subscription = Subscription(
        session=session, group=device.groups[0], book=book, clock=WallClock(), retry_s=60, audit_s=60, read=unasked
    )
    parts = [told(1)._replace(more=True), told(2, items=[])._replace(more=True), told(2, items=[(2, 3.5, 0, None)])]
    for part in [*parts, told(3)]:
        subscription._box.put(part)

    assert await subscription._changes() == [(1, 2.5, 0, None), (2, 3.5, 0, None)]
    assert await subscription._changes() == VALUE
