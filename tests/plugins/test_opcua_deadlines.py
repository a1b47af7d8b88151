"""However a deadline and an answer of the server meet, the outcome is a connection or a DeviceError."""

import asyncio

import pytest
import uvloop
from asyncua.client.ua_client import UASocketProtocol

from plugins.api.driver import DeviceError
from plugins.drivers.opcua.answers import within
from plugins.drivers.opcua.config import Connection
from plugins.drivers.opcua.session import open_session
from plugins.drivers.opcua.simulator import OpcUaSimulator


class CancelledBySomebodyElsesClass(asyncio.CancelledError):
    """As wait_for2, which asyncua uses, raises it where a result and a cancellation meet."""


async def test_a_deadline_is_a_timeout_though_the_library_cancels_with_a_class_of_its_own():
    async def ask() -> None:
        async with within(0.01):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise CancelledBySomebodyElsesClass from None

    with pytest.raises(TimeoutError):
        await ask()


async def test_a_cancellation_from_outside_still_passes_through_a_deadline():
    async def work() -> None:
        async with within(10):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connecting_with_deadlines_of_all_lengths_ends_in_a_connection_or_a_device_error():
    outcomes = []
    async with OpcUaSimulator(nodes={"a": 1.0}) as simulator:
        for timeout_ms in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 30, 2000):
            try:
                async with open_session(Connection.model_construct(url=simulator.url, timeout=timeout_ms / 1000)):
                    outcomes.append("connected")
            except DeviceError:
                outcomes.append("refused")

    # How many of the short ones are too short depends on the machine; what must not happen is any other ending.
    assert len(outcomes) == 16
    assert outcomes[-1] == "connected"


def test_connecting_that_is_cancelled_just_then_ends_in_that(monkeypatch: pytest.MonkeyPatch):
    made = UASocketProtocol.connection_made

    async def connect() -> None:
        def connected(protocol: UASocketProtocol, transport: asyncio.BaseTransport) -> None:
            made(protocol, transport)  # type: ignore[arg-type]
            connecting.cancel()

        async def opened() -> None:
            async with open_session(Connection.model_construct(url=simulator.url, timeout=30)):
                pytest.fail("connected")

        monkeypatch.setattr(UASocketProtocol, "connection_made", connected)
        async with OpcUaSimulator(nodes={"a": 1.0}) as simulator:
            connecting = asyncio.create_task(opened())
            with pytest.raises(asyncio.CancelledError):
                await connecting

    uvloop.run(connect())  # as a service does; it closes such a socket in its own way
