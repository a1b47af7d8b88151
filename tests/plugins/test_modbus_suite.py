"""The Modbus driver keeps the promises of every driver, on every transport."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from plugins.api.suite import DriverSuite
from tests.plugins.certificates import Authority
from tests.plugins.modbus_bench import ModbusBench, modbus_bench, rtu_bench, serial_bench


class TestModbusOverTcp(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self) -> AsyncIterator[ModbusBench]:
        async with modbus_bench() as bench:
            yield bench


class TestModbusOverTcpWithRequestsAhead(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self) -> AsyncIterator[ModbusBench]:
        async with modbus_bench(more={"in_flight": 4, "max_registers": 8, "max_gap": 0}) as bench:
            yield bench


class TestModbusOverTls(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[ModbusBench]:
        authority = Authority(tmp_path)
        tls = authority.server_context("127.0.0.1")
        async with modbus_bench(tls=tls, more={"transport": "tls", "tls": {"ca": authority.ca}}) as bench:
            yield bench


class TestModbusRtuOverTcp(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self) -> AsyncIterator[ModbusBench]:
        async with rtu_bench() as bench:
            yield bench


class TestModbusOnASerialLine(DriverSuite):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[ModbusBench]:
        async with serial_bench(tmp_path) as bench:
            yield bench
