"""Each container of the stack killed and paused in its turn, networks cut, all restarted: nothing may be missing."""

import time

import pytest

from tests.deploy.composed import OURS, Composed, run
from tests.polling import wait_until

PAUSE_S = 12
"""Longer than the broker's patience with a service (1.5 keep-alives), so that its session is taken for lost."""
DEADLINE_S = 60
OTHERS = ("broker", "plant", "victoria-metrics", "prometheus", "grafana")

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("at_length")]


def let_pass(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, 2 * seconds, what="time passes")


def running(stack: Composed, service: str) -> str:
    if service not in stack.services:
        pytest.skip(f"{service} does not run here")
    return service


@pytest.mark.parametrize("service", [*OURS, *OTHERS])
def test_a_killed_container_is_started_again_and_nothing_is_missing(stack: Composed, service: str) -> None:
    before = stack.complete()
    pid = stack.state(running(stack, service))["Pid"]

    stack.kill(service)

    stack.wait_healthy([service], since={service: pid})
    stack.wait_healthy(stack.services)
    stack.complete(beyond=before)


@pytest.mark.parametrize("service", [*OURS, *OTHERS])
def test_a_paused_container_goes_on_and_nothing_is_missing(stack: Composed, service: str) -> None:
    before = stack.complete()
    pid = stack.state(running(stack, service))["Pid"]

    stack.compose("pause", service)
    let_pass(PAUSE_S)
    stack.compose("unpause", service)

    stack.wait_healthy(stack.services)
    assert stack.state(service)["Pid"] == pid, "it was not to be started again"
    stack.complete(beyond=before)


@pytest.mark.parametrize(("service", "network", "alias"), [
    ("gateway", "bus", "gateway"),
    ("gateway", "plant", "gateway"),
    ("recorder", "bus", "recorder"),
    ("victoria-metrics", "history", "history"),
    ("broker", "bus", "broker.bus"),
])  # fmt: skip
def test_a_container_that_was_cut_off_a_network_goes_on_and_nothing_is_missing(
    stack: Composed, service: str, network: str, alias: str
) -> None:
    before = stack.complete()
    name, container = f"{stack.project}_{network}", stack.container(service)

    run("docker", "network", "disconnect", name, container)
    let_pass(PAUSE_S)
    run("docker", "network", "connect", "--alias", alias, "--alias", service, name, container)

    stack.wait_healthy(stack.services)
    stack.complete(beyond=before)


def test_all_containers_restarted_at_once_are_healthy_and_nothing_is_missing(stack: Composed) -> None:
    before = stack.complete()
    started = {service: stack.state(service)["StartedAt"] for service in stack.services}

    stack.compose("restart", "-t", "60")

    stack.wait_healthy(stack.services)
    assert [service for service in stack.services if stack.state(service)["StartedAt"] == started[service]] == []
    stack.complete(beyond=before)


@pytest.mark.parametrize("service", OURS)
def test_a_service_upgraded_in_place_leaves_the_others_running_and_nothing_is_missing(
    stack: Composed, service: str
) -> None:
    before = stack.complete()
    started = {one: stack.state(one)["StartedAt"] for one in stack.services}

    stack.compose("build", service, DINRAIL_REVISION=f"after-{before}")
    stack.compose("up", "-d", "--no-build", "--no-deps", "--wait", service)

    assert {one for one in stack.services if stack.state(one)["StartedAt"] != started[one]} == {service}
    stack.complete(beyond=before)


def test_the_history_has_the_values_that_were_taken_while_the_database_was_away(stack: Composed) -> None:
    """By time: the recorder's own count is what the audit looks at."""

    def times() -> list[int]:
        found = stack.history('{device="filler-plc",tag="tank-level"}')
        return sorted(at for one in found if one["metric"]["__name__"] == "tag_f" for at in one["timestamps"])

    wait_until(times, DEADLINE_S, what="values of tank-level")
    stack.compose("stop", "victoria-metrics")
    begun = time.time() * 1000
    let_pass(PAUSE_S)
    ended = time.time() * 1000
    stack.compose("start", "victoria-metrics")
    stack.wait_healthy(["victoria-metrics"])

    wait_until(lambda: max(times()) > ended, DEADLINE_S, what="values after the outage")
    stack.complete()
    inside = [at for at in times() if begun < at < ended]
    assert len(inside) >= PAUSE_S / 2, f"{len(inside)} values of {PAUSE_S} s"
