"""The OPC UA driver keeps the promises of every driver."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from plugins.api.suite import DriverSuite
from tests.plugins.opcua_bench import OpcUaBench, ServerThread, bench_simulator, opcua_bench, serving


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(bench_simulator()) as server:
        yield server


class TestOpcUa(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self, server: ServerThread) -> AsyncIterator[OpcUaBench]:
        async with opcua_bench(server) as bench:
            yield bench
