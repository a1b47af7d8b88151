"""A plant, and an orchestrator in it."""

import pytest

from tests.integration.orchestrator_site import running_orchestrator
from tests.integration.triggers.plant import plant_of


@pytest.fixture
async def plant(broker):
    async with plant_of(broker) as standing:
        yield standing


@pytest.fixture
async def orchestrator(broker, tmp_path, plant):
    async with running_orchestrator(broker, tmp_path) as started:
        yield started
