"""The broker as `dinrail init` sets it up: its ports over TLS, and what a client is told that gets something wrong."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from services.cli.connection import Access, ConnectionFailed, connected
from services.runtime.bus.bus import Bus
from services.runtime.clock import SystemClock
from services.runtime.intake import Intake
from services.runtime.metrics import Metrics
from services.runtime.settings import BrokerSettings, TlsSettings
from tests.conftest import Eventually
from tests.e2e.stack import SITE, Stack
from tests.integration.tls_site import over_tls, password, spoil
from tests.polling import until
from tests.ports import listens

PORTS = ("broker_tls", "broker_websockets")
HELD_S = 10.0


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A site with its broker."""
    stack = Stack.make(tmp_path / "site", example=None)
    await stack.start("broker")
    await until(lambda: listens(stack.ports.broker_websockets), 30, what="the broker listens for WebSockets")
    yield stack
    await stack.close()


def shake_hands(stack: Stack, port: str, *, version: ssl.TLSVersion | None = None) -> asyncio.Task[bytes]:
    """The certificate that this port shows. version: the only one that we offer."""
    context = ssl.create_default_context(cafile=stack.site.certificates.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do by themselves
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that old it is
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")  # else our side would refuse it already

    async def shown() -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", getattr(stack.ports, port), ssl=context)
        try:
            return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.close()

    return asyncio.create_task(shown())


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_versions_of_tls_before_1_2_are_refused(stack: Stack, port: str, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        await shake_hands(stack, port, version=version)


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_of_tls_from_1_2_on_are_taken(stack: Stack, port: str, version: ssl.TLSVersion) -> None:
    assert await shake_hands(stack, port, version=version)


async def test_over_tls_the_command_line_reads_the_site(stack: Stack) -> None:
    async with connected(Access(SITE, over_tls(stack), password(stack))) as bus:
        assert bus.connected


def test_a_tool_speaks_websockets_over_tls(stack: Stack) -> None:
    codes: list[bool] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, transport="websockets")
    client.username_pw_set("viewer", password(stack))
    client.tls_set_context(ssl.create_default_context(cafile=stack.site.certificates.authority))
    client.on_connect = lambda _client, _data, _flags, reason, _properties: codes.append(reason.is_failure)
    client.connect("127.0.0.1", stack.ports.broker_websockets)
    while not codes:
        assert client.loop(timeout=HELD_S) == mqtt.MQTT_ERR_SUCCESS
    client.disconnect()

    assert codes == [False]


async def test_plain_mqtt_is_open_on_the_loopback_only(stack: Stack) -> None:
    text = (stack.site.broker / "mosquitto.conf").read_text()

    assert f"listener {stack.ports.broker} 127.0.0.1\n" in text
    assert text.count("listener ") == text.count("certfile ") + 1 == 3


@dataclass(frozen=True)
class Fault:
    """What is wrong: at the broker, at the client. told: parts of the sentence that names the place and the mend."""

    told: tuple[str, ...]
    spoil: Callable[[Stack], None] = field(default=lambda _stack: None)
    settings: Callable[[Stack], BrokerSettings] = over_tls
    password: str | None = None


def plain_to_tls(stack: Stack) -> BrokerSettings:
    return over_tls(stack).model_copy(update={"tls": None})


def tls_to_plain(stack: Stack) -> BrokerSettings:
    return over_tls(stack).model_copy(update={"port": stack.ports.broker})


def no_ca_file(stack: Stack) -> BrokerSettings:
    return over_tls(stack).model_copy(update={"tls": TlsSettings(ca_file=Path("nowhere.pem"))})


def empty_ca_file(stack: Stack) -> BrokerSettings:
    empty = stack.site.folder / "empty.pem"
    empty.touch()
    return over_tls(stack).model_copy(update={"tls": TlsSettings(ca_file=empty)})


FAULTS = {
    "plain text to the TLS port": Fault(
        ("before it answered the login", "set broker.tls.ca_file"), settings=plain_to_tls
    ),
    "TLS to the plain port": Fault(("does not answer the TLS handshake", "set broker.port"), settings=tls_to_plain),
    "another authority": Fault(
        ("was not signed by the authority in", "copy certs/broker/authority.pem"), lambda one: spoil(one, foreign=True)
    ),
    "an expired certificate": Fault(("has expired", "dinrail init"), lambda one: spoil(one, days_ago=1000)),
    "a clock that is behind": Fault(("not valid yet", "set the clock"), lambda one: spoil(one, days_ago=-10)),
    "another name": Fault(
        ("is not for 127.0.0.1", "--host 127.0.0.1"), lambda one: spoil(one, hosts=("elsewhere", "192.0.2.7"))
    ),
    "no file of the authority": Fault(("nowhere.pem: No such file", "copy certs/broker/"), settings=no_ca_file),
    "an empty file": Fault(("empty.pem: it holds no certificate", "copy certs/broker/"), settings=empty_ca_file),
    "a wrong password": Fault(("Not authorized", "password file"), password="wrong"),
}


@pytest.fixture(params=FAULTS.values(), ids=FAULTS.keys())
async def fault(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Fault, Stack]]:
    """A broker with the fault."""
    fault: Fault = request.param
    stack = Stack.make(tmp_path / "site", example=None)
    fault.spoil(stack)
    await stack.start("broker")
    yield fault, stack
    await stack.close()


def assert_told(text: str, fault: Fault, stack: Stack) -> None:
    assert not [part for part in fault.told if part not in text], text
    assert password(stack) not in text


async def test_the_command_line_says_what_is_wrong_and_what_to_do(fault: tuple[Fault, Stack]) -> None:
    fault_, stack = fault
    with pytest.raises(ConnectionFailed) as failed:
        async with connected(Access(SITE, fault_.settings(stack), fault_.password or password(stack))):
            pass

    assert_told(str(failed.value), fault_, stack)


async def test_the_log_of_a_service_says_what_is_wrong_and_what_to_do(
    fault: tuple[Fault, Stack], eventually: Eventually
) -> None:
    fault_, stack = fault
    secret = fault_.password or password(stack)
    logs = (CapturingLogger(), CapturingLogger())
    wrapped = [structlog.wrap_logger(log, processors=[], wrapper_class=structlog.stdlib.BoundLogger) for log in logs]
    metrics = Metrics(CollectorRegistry())
    broker = fault_.settings(stack)
    bus = Bus(
        broker=broker,
        site=SITE,
        client_id="viewer-bus",
        username="viewer",
        password=lambda: secret,
        presence=None,
        metrics=metrics,
        clock=SystemClock(),
        log=wrapped[0],
    )
    intake = Intake(
        broker=broker,
        client_id="viewer-intake",
        username="viewer",
        password=lambda: secret,
        filters=["dinrail/#"],
        metrics=metrics,
        log=wrapped[1],
    )
    async with asyncio.TaskGroup() as group:
        for part in (bus, intake):
            group.create_task(part.run())
        await eventually(lambda: all(log.calls for log in logs))
        for part in (bus, intake):
            await part.stop()

    for log in logs:
        assert_told(" ".join(map(str, log.calls[0].kwargs.values())), fault_, stack)
