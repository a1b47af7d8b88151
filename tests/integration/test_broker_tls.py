"""Bus and intake over TLS: a real mosquitto with a certificate, and an authority that vouches for it or does not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.v1.frame import FRAME
from services.runtime.settings import BrokerSettings, TlsSettings
from tests.integration.clients import make_intake, taking
from tests.plugins.certificates import Authority
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

TOPIC = FRAME.build(site=SITE, device="filler", group="fast")
LONG = b"x" * 200_000
"""More than a TLS record holds, and than a socket takes at once."""


class BrokerWithTls(Broker):
    """A mosquitto that is spoken to over TLS. ca: the authority that its clients believe."""

    ca: Path

    def settings(self, port: int | None = None) -> BrokerSettings:
        """With the authority."""
        return super().settings(port).model_copy(update={"tls": TlsSettings(ca_file=self.ca)})


@pytest.fixture
def tls_broker(tmp_path: Path) -> Iterator[BrokerWithTls]:
    """Its certificate is for 127.0.0.1."""
    authority = Authority(tmp_path)
    pem = authority.issue("127.0.0.1")
    broker = BrokerWithTls(tmp_path / "broker")
    listener = f"listener {broker.port} 127.0.0.1"
    broker.replace = {listener: f"{listener}\ncertfile {pem.certificate}\nkeyfile {pem.key}"}
    broker.ca = authority.ca
    broker.users = None  # no commands here
    broker.start()
    yield broker
    broker.stop()


async def test_over_tls_messages_of_any_length_come_in_order_and_are_answered(tls_broker: BrokerWithTls) -> None:
    inbox, sender, receiver = Inbox(), make_bus(tls_broker, "sender"), make_bus(tls_broker, "receiver")
    receiver.subscribe_raw(FRAME, inbox.handle)
    sent = [LONG if number % 50 == 0 else b"%d" % number for number in range(200)]

    async with running(sender, receiver):
        async with asyncio.timeout(30):
            await asyncio.gather(*(sender.publish_bytes(TOPIC, data, kind="FRAME") for data in sent))
        await inbox.wait(len(sent))

    assert inbox.payloads == sent


async def test_over_tls_the_intake_takes_every_message(tls_broker: BrokerWithTls) -> None:
    intake, bus = make_intake(tls_broker), make_bus(tls_broker, "sender")
    async with running(bus), taking(intake):
        await asyncio.gather(*(bus.publish_bytes(TOPIC, b"%d" % number, kind="FRAME") for number in range(200)))
        taken: list[int] = []
        async with asyncio.timeout(30):
            while len(taken) < 200:
                batch = await intake.batch(most=200)
                taken += [int(message.payload) for message in batch.messages]
                batch.ack()

    assert taken == list(range(200))
