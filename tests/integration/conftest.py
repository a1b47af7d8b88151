"""An InfluxDB for the tests of a module, and its database, empty, for each of them."""

from collections.abc import Iterator

import pytest

from tests.histories import BUCKET, Influx
from tests.influx_proxy import influx_proxy
from tests.servers import influxd


@pytest.fixture(scope="module")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with influxd(tmp_path_factory.mktemp("influxd")) as url:
        yield url


@pytest.fixture
def influx(influx_server: str) -> Iterator[Influx]:
    with influx_proxy(influx_server) as api:
        place = Influx(influx_server, api)
        place.query(f"DROP DATABASE {BUCKET}")
        place.query(f"CREATE DATABASE {BUCKET}")
        yield place
