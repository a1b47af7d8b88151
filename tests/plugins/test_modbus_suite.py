"""The Modbus driver keeps the promises of every driver."""

from collections.abc import AsyncIterator

import pytest_asyncio

from plugins.api.suite import DriverSuite
from tests.plugins.modbus_bench import ModbusBench, modbus_bench


class TestModbus(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self) -> AsyncIterator[ModbusBench]:
        async with modbus_bench() as bench:
            yield bench
