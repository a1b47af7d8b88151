"""What the tests of the runtime share: a clock that is set by hand, metrics of their own, a log that is kept."""

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from services.runtime.logs import Log
from services.runtime.metrics import Metrics
from tests.unit.runtime.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def captured() -> LogCapture:
    """`captured.entries`: every event logged through the `log` fixture, in order."""
    return LogCapture()


@pytest.fixture
def log(captured: LogCapture) -> Log:
    bound: Log = structlog.wrap_logger(
        structlog.testing.CapturingLogger(), processors=[captured], wrapper_class=Log
    ).bind()
    return bound
