"""The OPC UA driver against servers that answer wrongly: garbage, other protocols, passwords in clear, no end."""

import asyncio
import dataclasses
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from plugins.api.bench import WallClock
from plugins.api.driver import DeviceError, DeviceSpec
from plugins.api.soundness import expect_device_error
from plugins.drivers.opcua.answers import device_errors
from plugins.drivers.opcua.chunks import refuse_long_chunks
from plugins.drivers.opcua.config import Connection
from plugins.drivers.opcua.driver import DRIVER, OpcUaDevice
from plugins.drivers.opcua.login import LoginClient, endpoints
from plugins.drivers.opcua.session import open_session
from plugins.drivers.opcua.simulator import OpcUaSimulator
from tests.plugins.opcua_bench import ServerThread, device_of, serving, spec_of
from tests.plugins.opcua_readings import first_of, subscribed
from tests.plugins.opcua_tampering import BOTH, SPEED, Change, browsed, fault, tampering


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving(OpcUaSimulator(nodes={"Speed": 1.5, "Load": 0.25})) as server:
        yield server


async def everything(spec: DeviceSpec) -> None:
    """All that can be done with a device."""
    async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
        assert isinstance(device, OpcUaDevice)
        await anext(readings)
        await device.read("all")
        await device.write("speed", 1.5)
        async for _ in device.browse(None, depth=2):
            pass


async def test_whatever_stands_in_an_answer_is_the_devices_error_and_never_another(server: ServerThread) -> None:
    dice = random.Random(7)

    def spoil(body: bytes) -> bytes:
        if dice.random() > 0.2:
            return body
        spoilt = bytearray(body)
        for _ in range(dice.choice((1, 2, 5))):
            place = dice.randrange(len(body))
            spoilt[place] = dice.choice((0, 0xFF, 0x7F, 0x80, dice.randrange(256)))
        return bytes(spoilt)

    refused = 0
    async with tampering(server.simulator.url) as wire:
        wire.spoil = spoil
        for _ in range(60):
            try:
                await everything(device_of(wire, BOTH, timeout="200ms"))
            except DeviceError:
                refused += 1

    assert refused > 20


NEVER, ENDS = b"", None
FLOOD_BYTES = 2 << 20


@asynccontextmanager
async def telling(said: bytes | None, *, once_asked: bool = False) -> AsyncIterator[int]:
    """A server that says this to whoever comes, whatever it is asked; None: it breaks off."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if once_asked:
            await reader.read(1)
        if said is None:
            writer.transport.abort()
        else:
            writer.write(said)
            writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


ACKNOWLEDGE = b"ACKF\x1c\0\0\0" + bytes.fromhex("00000000 00000100 00000100 00000000 00000000")


@pytest.mark.parametrize(
    "said",
    [
        NEVER,
        ENDS,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ACKF\x1c\0\0\0\0\0",
        b"ACKF\xff\xff\xff\xff" + bytes(100_000),
        b"ACKF\0\0\0\0",
        b"ERRF\x10\0\0\0\0\0\x7e\x80\xff\xff\xff\xff",
        ACKNOWLEDGE + b"OPNF\x08\0\0\0",
        ACKNOWLEDGE + b"MSGF\x20\0\0\0" + bytes(24),
        bytes(range(256)) * 100,
    ],
    ids=lambda said: repr(said)[:24],
)
async def test_a_server_that_speaks_no_opc_ua_is_told_in_time_and_once(
    said: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    async with telling(said) as port:
        spec = spec_of(f"opc.tcp://127.0.0.1:{port}", {"all": {"interval": "50ms", "tags": SPEED}}, timeout="300ms")
        async with asyncio.timeout(30):
            error = await expect_device_error(everything(spec))

    assert f"opc.tcp://127.0.0.1:{port}" in str(error)
    assert capfd.readouterr() == ("", ""), "the library's own words come beside ours"


async def opened(connection: Connection) -> None:
    async with open_session(connection):
        pytest.fail("connected")


WIDE_ACKNOWLEDGE = b"ACKF\x1c\0\0\0" + bytes.fromhex("00000000 ffffff7f ffffff7f 00000000 00000000")


@pytest.mark.parametrize("connect", [opened, endpoints])
@pytest.mark.parametrize(
    "announced",
    [b"ACKF\xff\xff\xff\x7f", WIDE_ACKNOWLEDGE + b"OPNF\xff\xff\xff\x7f"],
    ids=["instead of the acknowledge", "after an acknowledge that allows itself as much"],
)
async def test_a_server_that_announces_gigabytes_is_broken_off_before_they_come(
    connect: Callable[[Connection], Awaitable[object]], announced: bytes
) -> None:
    async with telling(announced + bytes(FLOOD_BYTES), once_asked=True) as port:
        url = f"opc.tcp://127.0.0.1:{port}"
        with pytest.raises(DeviceError) as refused, device_errors(url):
            await connect(Connection.model_construct(url=url, timeout=10))

    assert refused.value.lost, "broken off, and not waited for until the deadline"


async def test_nothing_is_kept_of_a_chunk_that_was_broken_off(eventually: Any) -> None:
    said = WIDE_ACKNOWLEDGE + b"OPNF\xff\xff\xff\x7f" + bytes(FLOOD_BYTES)
    async with telling(said, once_asked=True) as port:
        client = LoginClient(f"opc.tcp://127.0.0.1:{port}", timeout=30)
        refuse_long_chunks(client)
        await client.connect_socket()
        protocol = client.uaclient.protocol
        assert protocol is not None
        await client.send_hello()
        await eventually(lambda: protocol.is_closed)

    assert protocol.receive_buffer is None


@pytest.mark.parametrize("connect", [opened, endpoints])
async def test_a_server_is_told_how_long_a_chunk_may_be(connect: Callable[[Connection], Awaitable[object]]) -> None:
    asked: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readexactly(16))
        writer.transport.abort()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        url = f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(DeviceError), device_errors(url):
            await connect(Connection.model_construct(url=url, timeout=10))

    (hello,) = asked
    assert hello[:4] == b"HELF"
    assert int.from_bytes(hello[12:], "little") == 1 << 20, "ReceiveBufferSize"


def with_token(policy: str | None) -> Change:
    """A session whose endpoints take a user by name under this policy."""

    def change(response: Any) -> Any:
        token = ua.UserTokenPolicy(PolicyId="name", TokenType=ua.UserTokenType.UserName, SecurityPolicyUri=policy)
        for endpoint in response.Parameters.ServerEndpoints:
            endpoint.UserIdentityTokens = [token]
        return response

    return change


async def test_a_server_that_would_take_the_password_in_clear_does_not_get_it(
    server: ServerThread, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("geheim")
    sent: list[bytes] = []
    for policy in ("http://opcfoundation.org/UA/SecurityPolicy#None", None, ""):
        async with tampering(server.simulator.url, {ua.CreateSessionResponse: with_token(policy)}) as wire:
            wire.seen = sent.append
            user = {"user": "anna", "password_file": str(tmp_path / "password")}
            spec = spec_of(wire.url, {"all": {"interval": "50ms", "tags": SPEED}}, **user)
            error = await expect_device_error(first_of(spec))
            assert "would be sent in clear" in str(error)

    assert sent
    assert not any(b"geheim" in body for body in sent)


async def test_a_server_that_finds_our_certificate_out_of_date_is_told_with_what_helps(server: ServerThread) -> None:
    def refuse(response: Any) -> Any:
        return fault(response, ua.StatusCodes.BadCertificateTimeInvalid)

    async with tampering(server.simulator.url, {ua.CreateSessionResponse: refuse}) as wire:
        error = await expect_device_error(first_of(device_of(wire, SPEED)))

    assert (error.cause, error.code) == ("config", ua.StatusCodes.BadCertificateTimeInvalid)
    assert "look at its clock" in str(error)


async def test_a_server_that_always_has_more_to_tell_and_tells_nothing_is_not_asked_for_ever(
    server: ServerThread,
) -> None:
    def more(response: Any) -> Any:
        for result in response.Results:
            result.ContinuationPoint, result.References = b"more", []
        return response

    def still_more(refused: Any) -> Any:  # the simulator has no BrowseNext
        header = dataclasses.replace(refused.ResponseHeader, ServiceResult=ua.StatusCode())
        response = ua.BrowseNextResponse(ResponseHeader=header)
        response.Parameters.Results = [ua.BrowseResult(ContinuationPoint=b"more")]
        return response

    async with tampering(server.simulator.url) as wire:
        wire.changes |= {ua.BrowseResponse: more, ua.ServiceFault: still_more}
        async with asyncio.timeout(30):
            error = await expect_device_error(browsed(wire))

    assert "there is more, and gives nothing" in str(error)


async def test_nothing_is_left_of_fifty_connections(server: ServerThread, eventually: Any) -> None:
    def held() -> tuple[int, int]:
        running = server.simulator._running()
        return len(running.bserver.clients), len(running.iserver.subscription_service.subscriptions)

    before = held()
    async with tampering(server.simulator.url) as wire:
        for number in range(50):
            spec = device_of(wire, SPEED, timeout="2s")
            async with DRIVER.open(spec, clock=WallClock()) as device, subscribed(device) as readings:
                await anext(readings)
                if number % 5 == 0:
                    wire.drop()
        ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("opcua")]
        await eventually(lambda: all(writer.is_closing() for writer in wire._writers))

    await eventually(lambda: held()[0] <= before[0])
    assert ours == []


def test_the_library_is_not_touched_before_somebody_connects() -> None:
    code = "import logging, plugins.drivers.opcua.driver; print(logging.getLogger('asyncua').level)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"
