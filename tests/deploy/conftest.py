"""One stack for all modules that ask for it: it takes a minute to build and half a minute to start."""

import os
from collections.abc import Iterator

import pytest

from tests.deploy.composed import Composed, missing_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    reason = missing_stack()
    if reason:
        pytest.skip(f"the composed stack was not run: {reason}")
    composed = Composed(tmp_path_factory.mktemp("clone"))
    try:
        composed.bring_up()
        yield composed
    finally:
        composed.tear_down()


@pytest.fixture(scope="session")
def at_length() -> None:
    """Asked for by tests of `make deploy-test` alone. DINRAIL_... is for settings: an unknown one is refused."""
    if os.environ.get("DEPLOY_TEST") != "long":
        pytest.skip("each container killed and paused in its turn: `make deploy-test` does that")
