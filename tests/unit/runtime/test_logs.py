import json
import logging
from collections.abc import Iterator

import pytest

from services.runtime.logs import configure_logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("dinrail")
    handlers, level, our_level = root.handlers, root.level, ours.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_event_is_one_line_of_json_that_names_its_service(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logs(level="info", form="json", service="gateway", instance="gw-1")

    log.info("frame_made", device="pump", value="two\nlines µs")

    [line] = lines(capsys.readouterr().out)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "frame_made",
        "service": "gateway",
        "instance": "gw-1",
        "device": "pump",
        "value": "two\nlines µs",
    }


def test_a_traceback_stays_inside_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logs(level="info", form="json", service="gateway", instance="gw-1")

    log.error("part_crashed", exc_info=ValueError("broken"))

    [line] = lines(capsys.readouterr().out)
    assert "ValueError: broken" in str(line["exception"])


def test_libraries_speak_in_the_same_form_from_warning_up(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="debug", form="json", service="gateway", instance="gw-1")

    logging.getLogger("paho.mqtt").info("chatter")
    logging.getLogger("paho.mqtt").warning("lost %d", 3)

    [line] = lines(capsys.readouterr().out)
    assert (line["library"], line["event"], line["level"], line["service"]) == (
        "paho.mqtt",
        "lost 3",
        "warning",
        "gateway",
    )


def test_what_is_below_the_level_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logs(level="warning", form="json", service="gateway", instance="gw-1")

    log.info("chatter")
    log.warning("news")

    assert [line["event"] for line in lines(capsys.readouterr().out)] == ["news"]


def test_a_person_reads_the_event_with_its_fields_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logs(level="info", form="console", service="gateway", instance="gw-1")

    log.info("frame_made", device="pump")

    [line] = capsys.readouterr().out.splitlines()
    assert "frame_made" in line
    assert "device=pump" in line


def test_configuring_twice_does_not_say_everything_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", form="json", service="gateway", instance="a")
    log = configure_logs(level="info", form="json", service="gateway", instance="b")

    log.info("once")

    assert len(lines(capsys.readouterr().out)) == 1
