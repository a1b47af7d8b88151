"""Functions that are edited while a compute service runs."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contracts.v1.command import RELOAD, ErrorCode, Reload
from services.orchestrator.errors import NodeFailed
from services.orchestrator.functions import dispatch
from tests.conftest import Eventually
from tests.integration.compute_site import Site, asking, begun, multiple, serving
from tests.real_broker import Broker

WAIT = """
import os, time
from pathlib import Path


def times(x):
    folder = Path("{folder}")
    (folder / f"a.{{os.getpid()}}.begun").touch()
    while not (folder / "a.end").exists():
        time.sleep(0.005)  # see `wait` of the unruly functions
    return {{"y": 100 * x}}


FUNCTIONS = {{"times": times}}
"""


SLOW_TO_LOAD = """
import time
from pathlib import Path

folder = Path("{folder}")
if (folder / "probed").exists():
    (folder / "loading").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)  # see `wait` of the unruly functions
(folder / "probed").touch()
FUNCTIONS = {{"times": lambda x: {{"y": 3 * x}}}}
"""


async def reload(site: Site, plugin: str | None = None, *, timeout_s: float = 30) -> tuple[ErrorCode | None, str]:
    """What comes of the command: the code and the text of its error, or the version."""
    outcome = await site.bus.request(RELOAD, Reload(plugin=plugin), user="engineer", id="compute", timeout_s=timeout_s)
    if outcome.error is not None:
        return outcome.error.code, outcome.error.message
    assert outcome.result is not None
    return None, outcome.result.plugins["multiple"]


def told(site: Site) -> tuple[str, str | None]:
    """The version and the error that are told of the plugin."""
    return next(((info.version, info.error) for info in site.functions.plugins() if info.id == "multiple"), ("", None))


async def test_a_function_that_is_edited_is_computed_anew_and_what_runs_ends_as_it_began(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    folder = multiple(tmp_path, 1, code=WAIT.format(folder=tmp_path))
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent, reload_plugins=True):
        running = asyncio.create_task(site.call("times", x=1.0))
        await eventually(lambda: begun(tmp_path, "a"))

        multiple(tmp_path, 2)
        await eventually(lambda: told(site) == ("2.0.0", None))

        assert await site.call("times", x=1.0) == {"y": 2.0}
        (tmp_path / "a.end").touch()
        assert await running == {"y": 100.0}


async def test_a_result_of_the_version_before_is_not_given_for_the_new_one(broker: Broker, tmp_path: Path) -> None:
    folder = multiple(tmp_path, 2)
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent):
        assert await site.call("times", x=1.0) == {"y": 2.0}
        multiple(tmp_path, 3)

        assert await reload(site, "multiple") == (None, "3.0.0")

        assert await site.call("times", x=1.0) == {"y": 3.0}


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_and_says_why(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    folder = multiple(tmp_path, 2)
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent, workers=1):
        multiple(tmp_path, 3, code="1 / 0\n")

        code, message = await reload(site)

        assert code is ErrorCode.INVALID
        assert message.startswith(f"{folder}/function.py:1: function:FUNCTIONS cannot be loaded: ZeroDivisionError")
        await eventually(lambda: told(site) == ("2.0.0", message))
        assert await site.call("times", x=5.0) == {"y": 10.0}


async def test_a_worker_that_is_replaced_after_a_bad_edit_computes_the_version_that_runs(
    broker: Broker, tmp_path: Path
) -> None:
    folder = multiple(
        tmp_path,
        2,
        code="import os\nFUNCTIONS = {'times': lambda x: os._exit(1) if x else {'y': 2 * x}}\n",
    )
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent):
        multiple(tmp_path, 3, code="1 / 0\n")
        died = await asyncio.gather(site.call("times", x=1.0), return_exceptions=True)

        assert "ended with exit code 1" in str(died[0])
        assert await site.call("times", x=0.0) == {"y": 0.0}


async def test_a_function_that_was_refused_for_killing_workers_is_tried_again_once_reloaded(
    broker: Broker, tmp_path: Path
) -> None:
    folder = multiple(tmp_path, 2, code="import os\nFUNCTIONS = {'times': lambda x: os._exit(1)}\n")
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent):
        for _ in range(4):
            last = await asyncio.gather(site.call("times", x=1.0), return_exceptions=True)
        assert "it is refused until its plugin is changed or reloaded" in str(last[0])
        multiple(tmp_path, 3)

        await reload(site)

        assert await site.call("times", x=1.0) == {"y": 3.0}


async def test_a_plugin_that_cannot_be_loaded_at_the_start_costs_the_others_nothing(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    multiple(tmp_path, 2)
    bad = tmp_path / "functions/bad"
    bad.mkdir()
    (bad / "plugin.yaml").write_text("id: bad\nkind: function\n")
    async with asking(broker) as site, serving(broker, tmp_path, folder=bad.parent):
        assert await site.call("times", x=1.0) == {"y": 2.0}
        await eventually(lambda: "bad/plugin.yaml" in (site.states["compute"].problem or ""))


async def test_a_function_of_two_plugins_is_the_first_ones(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    folder = multiple(tmp_path, 2)
    other = folder.parent / "other"
    other.mkdir()
    (other / "plugin.yaml").write_text((folder / "plugin.yaml").read_text().replace("id: multiple", "id: other"))
    (other / "function.py").write_text((folder / "function.py").read_text().replace("2 *", "3 *"))
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent):
        assert await site.call("times", x=1.0) == {"y": 2.0}
        await eventually(lambda: "the function 'times' is taken by" in (site.states["compute"].problem or ""))


async def test_a_plugin_that_is_removed_takes_its_functions_along(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    folder = multiple(tmp_path, 2)
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent, reload_plugins=True) as service:
        await site.call("times", x=1.0)
        for path in sorted(folder.iterdir()):
            path.unlink()
        folder.rmdir()

        await eventually(lambda: "times" not in service.compute.workshop.library.functions)


async def test_a_reload_that_takes_longer_than_its_command_still_takes_over_wholly(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    folder = multiple(tmp_path, 2)
    async with asking(broker) as site, serving(broker, tmp_path, folder=folder.parent, workers=1):
        multiple(tmp_path, 3, code=SLOW_TO_LOAD.format(folder=tmp_path))

        code, _ = await reload(site, "multiple", timeout_s=4)
        assert code is ErrorCode.TIMEOUT
        await eventually((tmp_path / "loading").exists)
        (tmp_path / "go").touch()

        await eventually(lambda: told(site) == ("3.0.0", None))
        assert await site.call("times", x=1.0) == {"y": 3.0}


async def test_what_one_service_has_refused_is_computed_by_the_other(broker: Broker, tmp_path: Path) -> None:
    good = multiple(tmp_path / "good", 2).parent
    bad = multiple(tmp_path / "bad", 2, code="raise RuntimeError('not on this machine')\n").parent
    async with (
        asking(broker) as site,
        serving(broker, tmp_path, "one", folder=good),
        serving(broker, tmp_path, "two", folder=bad),
    ):
        await site.until_known("times")

        for number in range(4):  # of which the broker gives half to each
            assert await site.call("times", x=float(number)) == {"y": 2.0 * number}


async def test_a_task_waits_for_the_busy_service_though_the_other_lacks_its_function(
    broker: Broker, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "NOBODY_S", 0.0)  # the second of two services in a row that lack it is the end
    good = multiple(tmp_path / "good", 2, code=WAIT.format(folder=tmp_path)).parent
    bad = multiple(tmp_path / "bad", 2, code="raise RuntimeError('not on this machine')\n").parent
    async with (
        asking(broker) as site,
        serving(broker, tmp_path, "one", folder=good, wait="50ms") as one,
        serving(broker, tmp_path, "two", folder=bad) as two,
    ):
        await site.until_known("times")
        await eventually(lambda: site.is_online("one") and site.is_online("two"))
        busy = asyncio.create_task(site.call("times", x=1.0))
        await eventually(lambda: begun(tmp_path, "a"))
        other = asyncio.create_task(site.call("times", x=2.0))
        await eventually(lambda: one.metric("compute_pool_tasks_total", status="unavailable") >= 2)
        await eventually(lambda: two.metric("compute_pool_tasks_total", status="failed") >= 2)

        (tmp_path / "a.end").touch()

        assert (await busy, await other) == ({"y": 100.0}, {"y": 200.0})


async def test_what_the_only_service_lacks_is_not_asked_for_again(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path, folder=multiple(tmp_path, 2).parent):
        await site.until_known("times")

        with capture_logs() as told, pytest.raises(NodeFailed) as failed:
            await site.dispatcher.run("times", {"x": 1.0}, timeout_s=30, version="9.0.0")

    assert failed.value.failure.code is ErrorCode.NOT_FOUND
    assert not [one for one in told if one["event"] == "task_again"]
