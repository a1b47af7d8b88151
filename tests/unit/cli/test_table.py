import pytest
from rich.console import Console

from contracts.v1.alarm import AlarmStatus
from contracts.v1.command import ErrorCode, Failure
from contracts.v1.message import Value
from contracts.v1.run import RunStatus
from contracts.v1.tag import TagValue
from services.cli.account import Terms
from services.cli.audit import audit_table
from services.cli.picture import Picture, Row
from services.cli.table import age_text, filled, screen, value_text, values
from tests.unit.cli.conftest import alarm, info, pipeline, run


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (0.1, "0.1"),
        (50.20000076293945, "50.2"),
        (1e-9, "1e-09"),
        ("idle", "idle"),
        ("ready\n\x1b[2J\x9b5mü", r"ready\n\x1b[2J\x9b5mü"),
        ([1, 2.5], "[1, 2.5]"),
    ],
)
def test_a_value_reads_as_people_write_it(value: Value, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("age_ms", "text"),
    [
        (0, "0 ms"),
        (-500, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_900, "59.9 s"),
        (60_000, "1 min"),
        (7_200_000, "2 h"),
        (3 * 86_400_000, "3 d"),
    ],
)
def test_an_age_stands_in_its_largest_unit_and_is_never_negative(age_ms: int, text: str) -> None:
    assert age_text(1_000_000, 1_000_000 + age_ms) == text


def shown(of: Picture, height: int, width: int = 120) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(screen(of, height=height))
    return capture.get().rstrip("\n").splitlines()


def test_the_screen_shows_services_devices_and_values(picture: Picture) -> None:
    text = "\n".join(shown(picture, height=40))

    for word in ("gateway gateway", "device plc", "online", "level", "1.5", "bar", "good"):
        assert word in text


def test_on_a_narrow_screen_each_tag_has_one_line_with_its_whole_name(picture: Picture) -> None:
    picture.devices["energy-meter"] = info("pump-motor-temperature", "spectrum", device="energy-meter")
    picture.values["energy-meter", "spectrum"] = TagValue(value=[1.25] * 50, ts=0, q=192, seen=0)

    lines = shown(picture, height=40, width=80)

    tags = [line.split()[:2] for line in lines[lines.index("") + 2 :]]
    names = ("energy-meter", "pump-motor-temperature"), ("energy-meter", "spectrum"), ("plc", "level"), ("plc", "speed")
    assert tags == [[*name] for name in names]


def test_on_80_columns_no_number_of_an_audit_is_cut() -> None:
    terms = Terms(produced=12_345_678, written=11_000_000, spooled=1_234_567, missing=111)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(audit_table({("frame", "energy-meter-of-hall-2", "counters"): terms}, terms))

    lines = [line.split() for line in capture.get().splitlines()]
    assert lines[-1] == ["total", "12345678", "11000000", "1234567", "0", "0", "0", "0", "111"]
    assert "…" not in capture.get()


def test_a_table_has_no_column_in_which_nothing_stands() -> None:
    table = filled(("run", "error", "by"), [("r1", "", "anna"), ("r2", "", "")])

    assert [column.header for column in table.columns] == ["run", "by"]
    assert [[*column.cells] for column in table.columns] == [["r1", "r2"], ["anna", ""]]


def test_values_of_which_none_has_a_unit_have_no_column_for_it() -> None:
    level, count = Row("plc", "level", 1.5, "bar", 192, None, 0), Row("plc", "count", 3, None, 192, None, 0)

    assert [column.header for column in values([count], 0).columns] == ["device", "tag", "value", "quality", "age"]
    assert [[*column.cells] for column in values([level, count], 0).columns if column.header == "unit"] == [["bar", ""]]


def test_a_low_screen_shows_something_of_each_device(picture: Picture) -> None:
    for device in ("axis", "oven"):
        picture.devices[device] = info(*(f"tag-{number}" for number in range(50)), device=device)

    text = "\n".join(shown(picture, height=12))

    for device in ("axis", "oven", "plc"):
        assert f"\n{device} " in text


def test_a_low_screen_says_how_many_values_it_leaves_out(picture: Picture) -> None:
    lines = shown(picture, height=7)

    assert "1 more" in lines[-1]
    assert len(lines) <= 7


def test_the_screen_shows_how_the_latest_run_of_each_pipeline_went_and_what_is_wrong_in_the_plant(
    picture: Picture,
) -> None:
    for name in ("control", "batch", "recipe"):
        picture.pipelines["main", name] = pipeline(name)
    picture.pipelines["main", "watch"] = pipeline("watch", problem="there is no group plc/fast")
    picture.see_run(run("control", "r2", RunStatus.DONE))
    picture.see_run(run("control", "r1", RunStatus.FAILED))  # told late
    picture.see_run(run("control", "r3", RunStatus.FAILED, shadow=True))
    failure = Failure(code=ErrorCode.TIMEOUT, message="the servo did not move")
    picture.see_run(run("recipe", "r4", RunStatus.FAILED, error=failure))
    for one in (
        alarm("too-hot", AlarmStatus.CLEARED_UNACKED),
        alarm("too-cold", AlarmStatus.ACTIVE_UNACKED, priority=1),
        alarm("at-rest", AlarmStatus.NORMAL),
        alarm("put-aside", AlarmStatus.ACTIVE_UNACKED, shelved_until=2000),
    ):
        picture.alarms["main", one.alarm] = one

    lines = [line.split() for line in shown(picture, height=40)]
    assert [line[:3] for line in lines if line[:1] == ["pipeline"]] == [
        ["pipeline", "recipe", "failed"],
        ["pipeline", "watch", "enabled"],
        ["pipeline", "batch", "enabled"],
        ["pipeline", "control", "done"],
    ]
    assert "the servo did not move" in " ".join(lines[2])
    assert "there is no group plc/fast" in " ".join(lines[3])
    assert [line[1:4] for line in lines if line[:1] == ["alarm"]] == [
        ["too-cold", "active", "unacked"],
        ["too-hot", "cleared", "unacked"],
    ]


def test_many_pipelines_and_long_texts_leave_room_for_values(picture: Picture) -> None:
    for number in range(30):
        picture.pipelines["main", f"p{number:02}"] = pipeline(f"p{number:02}")
    picture.alarms["main", "hot"] = alarm("hot", AlarmStatus.ACTIVE_UNACKED, text="much too hot " * 30)

    lines = shown(picture, height=18)

    assert len(lines) <= 18
    assert any("22 more" in line and "pipeline list" in line for line in lines)
    assert any("level" in line for line in lines)
