"""What all services are fitted out with: their session at the broker, under a name that nobody else has."""

import asyncio
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from contracts.v1.service import SERVICE
from services.runtime.bus.bus import InstanceTaken
from services.runtime.clock import SystemClock
from services.runtime.metrics import Metrics
from services.runtime.outfit import Outfit
from services.runtime.process import Means
from services.runtime.settings import LogSettings, ServiceSettings, Settings
from tests.real_broker import SITE, Broker
from tests.real_bus import Inbox, make_bus, running

NAME = "of-this-name"


def outfit(broker: Broker, service: str, data: Path) -> Outfit:
    """A service's, with the account that it has in production."""
    assert broker.accounts is not None
    means = Means(
        password=lambda: broker.accounts[service],
        clock=SystemClock(),
        metrics=Metrics(CollectorRegistry()),
        log=structlog.wrap_logger(CapturingLogger(), processors=[], wrapper_class=structlog.stdlib.BoundLogger),
        random=Random(1),
    )
    own = ServiceSettings(instance=NAME)
    settings = Settings(site=SITE, broker=broker.settings(), logs=LogSettings(), service=own)
    return Outfit(settings, service=service, means=means, data=data)


@pytest.mark.parametrize("service", ["gateway", "orchestrator", "compute"])
async def test_a_second_service_of_one_name_gives_up_and_the_first_stays_connected(
    service, broker_with_accounts, tmp_path, eventually
):
    first = outfit(broker_with_accounts, service, tmp_path / "first")
    viewer, said = make_bus(broker_with_accounts, "viewer", account="viewer"), Inbox()
    viewer.subscribe(SERVICE, said.handle, service=service)
    async with running(viewer, first.bus):
        await said.wait(1)
        second = outfit(broker_with_accounts, service, tmp_path / "second")
        with pytest.raises(InstanceTaken, match=f"another {service} named '{NAME}' lives"):
            async with asyncio.timeout(30):
                await second.bus.run()

        await eventually(
            lambda: [sid for sid, _ in groupby(said.payloads, lambda state: state.sid)][1:] == [second.sid, first.sid]
        )
        assert first.bus.connected
