"""What `dinrail doctor` says of an audit that was not answered, or not by everybody."""

from pathlib import Path

import pytest

from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from services.cli.audit import Answers
from services.cli.doctor import completeness
from services.cli.doctor.completeness import Completeness
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.sight import Seen, Sight
from services.cli.site import Site
from services.runtime.mqtt.delivery import PublishRefused

RECORDER = ServiceState(state=ServiceStatus.ONLINE, since=1, version="1", instance="recorder", sid="1")


def found(monkeypatch: pytest.MonkeyPatch, answer: Answers | Exception) -> list[Finding]:
    async def ask(*_: object) -> Answers:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(completeness, "ask_audit", ask)
    levels = {"service": "recorder", "instance": "recorder"}
    seen = Seen(SERVICE.name, levels, RECORDER.model_dump_json(exclude_none=True).encode(), 1, live=False)
    return list(Completeness(Site(Path("site")), Sight(1, {"recorder": seen})).findings())


def test_who_may_not_ask_is_told_so_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = found(monkeypatch, PublishRefused("topic", 0x87, "Not authorized"))

    assert one.state is State.WARN
    assert "this account may not ask every service" in one.text
    assert "ask without --as" in one.text


def test_a_service_that_does_not_tell_what_it_has_is_named_and_nothing_is_called_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (one,) = found(monkeypatch, Answers(silent={"gateway": "does not answer"}))

    assert one.state is State.WARN
    assert "(gateway: does not answer)" in one.text


def test_where_everybody_answers_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = found(monkeypatch, Answers())

    assert one.state is State.OK
