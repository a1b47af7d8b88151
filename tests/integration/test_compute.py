"""Tasks through a real broker, to compute services with real workers."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts.v1.command import ErrorCode
from contracts.v1.plugin import PLUGIN
from contracts.v1.task import CANCEL_TASK, TASK, CancelTask, Task
from services.orchestrator.errors import NodeFailed
from services.orchestrator.functions.dispatch import Computed
from tests.conftest import Eventually
from tests.integration.clients import ROOT
from tests.integration.compute_site import asking, begun, is_gone, process, serving
from tests.real_broker import Broker


async def failure_of(call: Awaitable[Any]) -> tuple[ErrorCode, str]:
    with pytest.raises(NodeFailed) as caught:
        await call
    return caught.value.failure.code, str(caught.value)


async def test_a_function_is_computed_and_its_ports_are_told(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        await site.until_known("echo")

        assert await site.call("echo", x=1.5) == {"x": 1.5}

        info = site.functions.info("echo")
        assert info is not None
        assert info.inputs["x"].type == "number"
        assert service.metric("compute_pool_tasks_total", status="done") == 1
        assert service.metric("compute_pool_task_duration_seconds_count") == 1


async def test_the_accounts_of_both_sides_have_the_rights_they_need(
    broker_with_accounts: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker_with_accounts) as site, serving(broker_with_accounts, tmp_path):
        await site.until_known("echo")
        assert await site.call("echo", x=1.5) == {"x": 1.5}

        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: is_gone(begun(tmp_path, "a")[0]))


@pytest.mark.parametrize(
    ("function", "inputs", "code", "told"),
    [
        ("echo", {"x": "1"}, ErrorCode.INVALID, "echo: input 'x': '1' is not of type number"),
        ("nonsense", {}, ErrorCode.NOT_FOUND, "no function 'nonsense'; there are: broken, brood, chat"),
        ("picky", {}, ErrorCode.INVALID, "picky: there is nothing to compute it of"),
        ("broken", {}, ErrorCode.COMPUTE_FAILED, "unruly/function.py:57: KeyError"),
        ("liar", {}, ErrorCode.COMPUTE_FAILED, "it does not keep its promises: there is no output 'z'"),
        ("hog", {"mb": 500}, ErrorCode.COMPUTE_FAILED, "it took more than 64 MiB of memory"),
        ("die", {"with-signal": 11}, ErrorCode.COMPUTE_FAILED, "killed by SIGSEGV; it last said: these are my last"),
        ("spin", {}, ErrorCode.TIMEOUT, "spin: it was not done within 0.3 s"),
    ],
)
async def test_a_function_that_fails_is_answered_with_the_reason(
    broker: Broker, tmp_path: Path, function: str, inputs: dict[str, Any], code: ErrorCode, told: str
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        got, message = await failure_of(site.dispatcher.run(function, inputs, timeout_s=30))

        assert got is code
        assert told in message


async def test_inputs_are_checked_on_the_asking_side_once_the_ports_are_known(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        await site.until_known("echo")

        code, message = await failure_of(site.call("echo"))

        assert (code, message) == (ErrorCode.INVALID, "echo: the input 'x' is missing")
        assert service.metric("compute_pool_tasks_total", status="failed") == 0


async def test_outputs_are_checked_on_the_asking_side_too(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        await site.until_known("echo")
        (plugin,) = site.functions.plugins()
        assert plugin.functions is not None
        echo = plugin.functions["echo"]
        promised = echo.model_copy(update={"outputs": {"x": echo.outputs["x"].model_copy(update={"type": "string"})}})
        other = plugin.model_copy(update={"instance": "two", "functions": {**plugin.functions, "echo": promised}})
        site.bus.retain(PLUGIN, other, kind="function", id=plugin.id, instance="two")
        await eventually(lambda: site.functions.info("echo") == promised)

        code, message = await failure_of(site.call("echo", x=1.5))

        assert (code, message) == (ErrorCode.COMPUTE_FAILED, "echo: output 'x': 1.5 is not of type string")


async def test_a_task_that_is_not_done_by_its_deadline_is_ended(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        code, _ = await failure_of(site.call("wait", folder=str(tmp_path), name="a", timeout_s=3))

        assert code is ErrorCode.TIMEOUT
        await eventually(lambda: is_gone(begun(tmp_path, "a")[0]))


async def test_without_a_compute_service_it_fails_as_unavailable(broker: Broker) -> None:
    async with asking(broker) as site:
        assert await failure_of(site.call("echo", x=1.0, timeout_s=0.3)) == (
            ErrorCode.UNAVAILABLE,
            "there is no compute service",
        )


async def test_a_service_that_comes_late_gets_the_task(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site:
        task = asyncio.create_task(site.call("echo", x=1.0))
        async with serving(broker, tmp_path):
            assert await task == {"x": 1.0}


async def test_a_worker_that_is_busy_for_long_blocks_nobody(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path, "one"), serving(broker, tmp_path, "two"):
        busy = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))

        for number in range(6):  # of which the broker gives half to the busy one
            assert await site.call("echo", x=float(number)) == {"x": float(number)}

        assert not busy.done()
        (tmp_path / "a.end").touch()
        await busy


async def test_a_task_waits_while_all_are_busy_and_is_done_when_one_is_free(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path, wait="50ms") as service:
        busy = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))
        other = asyncio.create_task(site.call("echo", x=1.0))
        await eventually(lambda: service.metric("compute_pool_tasks_total", status="unavailable") >= 2)

        (tmp_path / "a.end").touch()

        assert await other == {"x": 1.0}
        await busy


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_task_of_a_killed_service_is_done_by_another_and_its_worker_ends_with_it(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with (
        asking(broker) as site,
        process(broker, tmp_path, "one", site) as one,
        process(broker, tmp_path, "two", site) as two,
    ):
        await site.until_known("wait")
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a", timeout_s=60.0))
        await eventually(lambda: begun(tmp_path, "a"))
        first = begun(tmp_path, "a")[0]
        taker = {one.process.pid: one, two.process.pid: two}[parent_of(first)]
        taker.kill()

        await eventually(lambda: is_gone(first))
        await eventually(lambda: len(begun(tmp_path, "a")) == 2, 30)
        (tmp_path / "a.end").touch()
        assert await task == {"pid": next(pid for pid in begun(tmp_path, "a") if pid != first)}


async def test_a_second_service_with_the_same_folder_ends_at_once_and_the_first_notices_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    async with asking(broker) as site, process(broker, tmp_path, "one", site):
        await site.until_known("echo")
        command = [sys.executable, "-m", "services.compute", "--config", str(tmp_path / "one.yaml")]
        second = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(30):
                _, said = await second.communicate()
        finally:
            if second.returncode is None:
                second.kill()
                await second.wait()

        assert second.returncode == 1
        assert said.decode() == f"{tmp_path / 'one'}: another process works with this folder; stop it first\n"
        assert site.is_online("one")
        assert [path.name for path in (tmp_path / "one/functions").iterdir()]


async def test_what_a_function_has_begun_ends_when_its_service_is_killed(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, process(broker, tmp_path, "one", site) as one:
        task = asyncio.create_task(site.call("nest", folder=str(tmp_path)))
        pid = tmp_path / "nest.pid"
        await eventually(lambda: pid.exists() and pid.read_text())

        one.kill()

        await eventually(lambda: is_gone(int(pid.read_text())))
        task.cancel()
        await asyncio.wait([task])


async def test_a_task_of_a_killed_service_fails_if_the_function_is_not_pure(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, process(broker, tmp_path, "one", site) as one:
        await site.until_known("wait-once")
        task = asyncio.create_task(site.call("wait-once", folder=str(tmp_path), name="a", timeout_s=30.0))
        await eventually(lambda: begun(tmp_path, "a"))
        await asyncio.sleep(0)
        async with serving(broker, tmp_path, "two"):
            one.kill()

            code, message = await failure_of(task)

            assert code is ErrorCode.UNAVAILABLE
            assert "it is not pure, so it is not done again" in message
            assert len(begun(tmp_path, "a")) == 1


async def test_a_service_that_hangs_costs_a_second_and_no_task(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, process(broker, tmp_path, "one", site) as one, serving(broker, tmp_path, "two"):
        await site.until_known("echo")
        one.pause()

        done = await asyncio.gather(*(site.dispatcher.compute("echo", {"x": float(n)}, timeout_s=30) for n in range(4)))

        assert [one.outputs["x"] for one in done] == [0.0, 1.0, 2.0, 3.0]
        assert {one.instance for one in done} == {"two"}
        assert max(one.attempts for one in done) > 1


async def test_a_cancelled_task_frees_its_worker(broker: Broker, tmp_path: Path, eventually: Eventually) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await eventually(lambda: is_gone(begun(tmp_path, "a")[0]))
        assert await site.call("echo", x=1.0) == {"x": 1.0}
        assert service.metric("compute_pool_tasks_total", status="cancelled") == 1


async def test_a_task_that_is_cancelled_while_it_is_published_is_ended(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        await site.call("echo", x=1.0)
        broker.pause()
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await asyncio.sleep(0)  # it is on its way to a broker that does not answer
        task.cancel()
        await asyncio.sleep(0)
        broker.resume()
        await asyncio.wait([task])

        await eventually(lambda: service.metric("compute_pool_tasks_total", status="cancelled") == 1)
        await eventually(lambda: all(is_gone(pid) for pid in begun(tmp_path, "a")))


async def test_a_cancellation_that_comes_before_its_task_is_kept_for_it(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        received = partial(service.metric, "databus_messages_total", direction="received")
        await site.bus.publish(CANCEL_TASK, CancelTask(), user="orchestrator", id="t1")
        await eventually(lambda: received(**{"class": "CANCEL_TASK"}) == 1)
        deadline = int(time.time() * 1000) + 10_000
        task = Task(task="t1", function="echo", inputs={"x": 1.0}, attempt=1, deadline=deadline)
        async with site.bus.exchange.converse(TASK, task, user="orchestrator", expiry_s=10, function="echo") as replies:
            reply = await replies.next()

        assert reply.error is not None
        assert reply.error.code is ErrorCode.CANCELLED


async def test_a_result_that_is_ready_while_the_broker_is_away_is_told_when_it_is_back(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a", timeout_s=25.0))
        await eventually(lambda: begun(tmp_path, "a"))
        worker = begun(tmp_path, "a")[0]
        await site.bus.settled()
        broker.kill()
        (tmp_path / "a.end").touch()
        await eventually(lambda: not site.bus.connected)
        broker.start()

        assert await task == {"pid": worker}


async def test_three_services_share_the_tasks_and_lose_none_when_one_is_killed(broker: Broker, tmp_path: Path) -> None:
    async with (
        asking(broker) as site,
        process(broker, tmp_path, "one", site) as one,
        serving(broker, tmp_path, "two"),
        serving(broker, tmp_path, "three"),
    ):
        await site.until_known("echo")

        async def echo(number: int) -> Computed:
            return await site.dispatcher.compute("echo", {"x": float(number)}, timeout_s=20)

        shared = await asyncio.gather(*map(echo, range(30)))
        later = [asyncio.create_task(echo(number)) for number in range(100, 130)]
        await asyncio.wait(later, return_when=asyncio.FIRST_COMPLETED)
        one.kill()
        done = await asyncio.gather(*later)

        assert {computed.instance for computed in shared} == {"one", "two", "three"}
        assert [computed.outputs["x"] for computed in done] == [float(number) for number in range(100, 130)]


async def test_outputs_that_are_too_long_for_a_message_fail_and_are_told(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        code, message = await failure_of(site.call("thirds", count=100_000))

        assert code is ErrorCode.COMPUTE_FAILED
        assert "its outputs cannot be sent" in message
        assert "over the bound of" in message


async def test_a_result_is_kept_for_who_asks_the_same_again(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path, cache_ttl="30s"):
        compute: Callable[..., Any] = site.dispatcher.compute
        first = await compute("echo", {"x": 1.0}, timeout_s=30)
        again = await compute("echo", {"x": 1}, timeout_s=30)
        other = await compute("echo", {"x": 2.0}, timeout_s=30)
        fresh = await compute("echo", {"x": 1.0}, timeout_s=30, cache_s=1e-9)

        assert [one.cached for one in (first, again, other, fresh)] == [False, True, False, False]
        assert again.outputs == first.outputs


async def test_what_is_not_pure_is_computed_each_time(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        for _ in range(2):
            assert not (await site.dispatcher.compute("worker", {}, timeout_s=30)).cached


async def test_equal_tasks_at_the_same_time_are_computed_once(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path, workers=2) as service:
        tasks = [asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a")) for _ in range(3)]
        received = partial(service.metric, "databus_messages_total", direction="received", **{"class": "TASK"})
        await eventually(lambda: begun(tmp_path, "a") and received() == 3)

        tasks[0].cancel()  # who asked first goes; the others still wait
        await asyncio.wait([tasks[0]])
        (tmp_path / "a.end").touch()

        assert await tasks[1] == await tasks[2]
        assert len(begun(tmp_path, "a")) == 1


async def test_a_service_that_stops_ends_what_it_has_begun(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        task = asyncio.create_task(site.call("wait", folder=str(tmp_path), name="a"))
        await eventually(lambda: begun(tmp_path, "a"))

        stopping = asyncio.create_task(service.stop())
        await eventually(lambda: site.states["compute"].state.value == "draining")
        (tmp_path / "a.end").touch()

        assert (await task).keys() == {"pid"}
        await stopping


async def test_a_function_that_takes_too_much_memory_again_and_again_is_refused(broker: Broker, tmp_path: Path) -> None:
    async with asking(broker) as site, serving(broker, tmp_path):
        for _ in range(3):
            await failure_of(site.dispatcher.run("hog", {"mb": 500}, timeout_s=30))

        code, message = await failure_of(site.dispatcher.run("hog", {"mb": 1}, timeout_s=30))

        assert code is ErrorCode.COMPUTE_FAILED
        assert "hog has killed 3 workers within 600 s, the last so: it took more than 64 MiB of memory" in message


async def test_a_function_that_kills_workers_again_and_again_is_refused(
    broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    async with asking(broker) as site, serving(broker, tmp_path) as service:
        for _ in range(3):
            await failure_of(site.dispatcher.run("die", {"with-signal": 9}, timeout_s=30))

        code, message = await failure_of(site.dispatcher.run("die", {"with-signal": 9}, timeout_s=30))

        assert code is ErrorCode.COMPUTE_FAILED
        assert "die has killed 3 workers within 600 s, the last so: its process was killed by SIGKILL" in message
        assert service.metric("compute_workers_replaced_total") == 3
        assert await site.call("echo", x=1.0) == {"x": 1.0}
        await eventually(lambda: any("die has killed" in (plugin.error or "") for plugin in site.functions.plugins()))
