"""What `dinrail up` says into a file or a pipe, where it shows no table."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from contracts.v1.alarm import AlarmStatus
from contracts.v1.tag import TagValue
from services.cli import up
from services.cli.picture import Picture
from tests.conftest import Eventually
from tests.unit.cli.conftest import alarm, info


@asynccontextmanager
async def running(show: up.Show) -> AsyncIterator[None]:
    """Fails if it ends by itself."""
    task = asyncio.create_task(show.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_device_that_is_removed_after_its_value_changed_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(up, "LINE_S", 0.001)
    out, picture = io.StringIO(), Picture()
    show = up.Show(console=Console(file=out), picture=picture, started=0.0)
    value = TagValue(value=1.5, ts=1, q=192, seen=1)
    picture.devices["plc"] = info("level")
    picture.values["plc", "level"] = value
    show.on_value("plc", "level", value)
    show.on_value("gone", "level", value)

    async with running(show):
        await eventually(lambda: "1 tag, 1 good, 2 changes: plc/level 1.5" in out.getvalue())


async def test_a_long_array_takes_one_short_place_in_the_line(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(up, "LINE_S", 0.001)
    out, picture = io.StringIO(), Picture()
    show = up.Show(console=Console(file=out), picture=picture, started=0.0)
    value = TagValue(value=[0.25] * 1024, ts=1, q=192, seen=1)
    picture.devices["plc"] = info("acceleration")
    picture.values["plc", "acceleration"] = value
    show.on_value("plc", "acceleration", value)

    async with running(show):
        await eventually(lambda: "1 change: plc/acceleration [0.25, 0.25" in out.getvalue())

    assert max(map(len, out.getvalue().splitlines())) < 120


async def test_the_first_good_value_and_each_change_of_an_alarm_are_told() -> None:
    out, picture = io.StringIO(), Picture()
    show = up.Show(console=Console(file=out, width=200), picture=picture, started=0.0)

    show.on_value("plc", "level", TagValue(value=None, ts=1, q=0, cause="comm", seen=1))
    assert not show.values.is_set()
    show.on_value("plc", "level", TagValue(value=1.5, ts=1, q=192, seen=1))
    assert show.values.is_set()
    for state in (AlarmStatus.NORMAL, AlarmStatus.ACTIVE_UNACKED, AlarmStatus.ACTIVE_UNACKED, AlarmStatus.NORMAL):
        show.on_alarm(alarm("too-hot", state))

    told = [line.split("  ", 1)[1] for line in out.getvalue().splitlines()]
    assert told[0].startswith("first live value after ")
    assert told[1:] == ["alarm too-hot is active unacked: Pump too hot", "alarm too-hot is normal: Pump too hot"]
