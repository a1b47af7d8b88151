"""Tags as a table: what is written is read back, and what is wrong is told by row and column."""

import csv
import io
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from plugins.api.document import Document, DocumentError
from services.cli.site import Site
from services.cli.tag_files import export_tags, import_tags
from services.cli.tag_sheet import Fields, read_sheet, sheet_of

PUMP = """\
# The pump in the cellar.
device: pump
driver: modbus
connection: {host: 127.0.0.1, unit_id: 1}
groups:
  fast:
    interval: 100ms
    tags:
      level: {address: "holding:10", type: float32, range: [0, 100], unit: "%", writable: true}
      running: {address: "coil:1", type: bool}   # by its relay
  slow:
    interval: 5m
    tags:
      total: {address: "holding:20", type: uint64, title: "Total; of all", unit: l}

# Not to be written from afar.
writes: disabled
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "pump.yaml").write_text(PUMP)
    (tmp_path / "dinrail.yaml").write_text("site: test\n")
    return Site(tmp_path)


def imported(site, text, device=None, encoding="utf-8"):
    table = site.folder / "plant.csv"
    table.write_bytes(text.encode(encoding))
    return import_tags(site, table, device=device)


def faults(site, text, device=None):
    with pytest.raises(DocumentError) as caught:
        imported(site, text, device)
    return [(fault.line, fault.field, fault.message) for fault in caught.value.faults]


def mends(site, text):
    with pytest.raises(DocumentError) as caught:
        imported(site, text)
    return [fault.mend for fault in caught.value.faults]


def stored(site):
    return (site.devices / "pump.yaml").read_text()


def test_a_table_has_a_row_per_tag_and_a_column_per_field(site):
    rows = list(csv.DictReader(io.StringIO(export_tags(site, "pump"))))

    assert [(row["device"], row["group"], row["tag"]) for row in rows] == [
        ("pump", "fast", "level"),
        ("pump", "fast", "running"),
        ("pump", "slow", "total"),
    ]
    assert {"type", "deadband", "max_silence", "address", "order", "group.interval"} <= rows[0].keys()
    assert (rows[0]["range"], rows[0]["writable"], rows[2]["group.interval"]) == ("[0, 100]", "true", "5m")


def test_what_was_exported_changes_nothing_when_it_is_imported(site):
    found = imported(site, export_tags(site, "pump"))

    assert found.files == {}
    assert found.summary == ("pump: nothing changed, 3 tags",)


def test_tags_come_change_and_go_and_the_rest_of_the_file_stays(site):
    table = """\
device,group,group.interval,tag,type,address,unit
pump,fast,200ms,level,float32,holding:10,bar
pump,fast,,speed,float32,holding:12,
"""
    found = imported(site, table)
    assert stored(site) == PUMP, "not before store()"
    found.store()

    text = stored(site)
    assert found.summary == ("pump: 1 added, 1 changed, 2 removed, 2 tags; lost: 1 line with comments in its groups",)
    assert yaml.safe_load(text)["groups"] == {
        "fast": {
            "interval": "200ms",
            "tags": {
                "level": {"type": "float32", "address": "holding:10", "unit": "bar"},
                "speed": {"type": "float32", "address": "holding:12"},
            },
        }
    }
    assert text.startswith(PUMP[: PUMP.index("groups:")])
    assert text.endswith("\n# Not to be written from afar.\nwrites: disabled\n")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_what_spreadsheets_make_of_a_table_is_read(site, separator):
    rows = csv.reader(io.StringIO(export_tags(site, "pump")))
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerows(
        [*([*row, "", ""] for row in rows), [""] * 40]
    )

    assert imported(site, out.getvalue(), encoding="utf-8-sig").files == {}
    assert imported(site, f"sep={separator}\r\n{out.getvalue()}", encoding="utf-8-sig").files == {}


def test_rows_without_a_device_are_of_the_one_that_is_named(site):
    assert imported(site, "group,group.interval,tag,type,address\na,1s,b,bool,coil:1\n", device="pump").files


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("pump,fast,1s,level,float23,holding:10,,", (2, "type", "Input should be")),
        ("pump,fast,1s,level,float32,holding:99999,,", (2, "address", "")),
        ("pump,fast,1s,Level 1,float32,holding:10,,", (2, "tag", "'Level 1' cannot be a name")),
        ('pump,fast,1s,level,float32,holding:10,"0,5",', (2, "deadband", "'0,5' has a decimal comma")),
        ("pump,fast,1s,level,float32,holding:10,0,5,%", (2, "", "has 9 cells, the header 8")),
        ("pump,fast,100,level,float32,holding:10,,", (2, "group.interval", "a duration needs its unit")),
        ("fan,fast,1s,level,float32,holding:10,,", (2, "device", "there is no device file of 'fan'")),
        ("pump,,1s,level,float32,holding:10,,", (2, "group", "is empty")),
        ("pump,fast,1s,level,float32," + 5000 * "[" + ",,", (2, "address", "is not complete")),
        ("pump,fast,1s,,float32,holding:10,,", (2, "tag", "is empty")),
        ("pump,fast,,level,float32,holding:10,,", (2, "interval", "is missing")),
        ("pump,fast,1s,level,,holding:10,,", (2, "type", "is missing")),
    ],
)
def test_a_fault_is_told_by_row_and_column_and_nothing_is_changed(site, row, fault):
    header = "device,group,group.interval,tag,type,address,deadband,unit\n"

    line, column, message = faults(site, header + row + "\n")[0]

    assert (line, column) == fault[:2]
    assert fault[2] in message
    assert stored(site) == PUMP


def test_every_faulty_row_is_told_at_once_with_its_mend(site):
    table = """\
device,group,group.interval,tag,type,address
pump,fast,1s,level,float23,holding:10
pump,fast,2s,level,float32,holding:12
pump,fast,2s,speed,float32,holding:12
"""
    assert [(line, column) for line, column, _ in faults(site, table)] == [(3, "tag"), (4, "group.interval")]
    assert "level of the group fast is on row 2 already" in faults(site, table)[0][2]
    assert mends(site, table)[1] == "write the same in every row of the group, or leave it empty but in row 2"


def test_a_tag_that_stands_in_two_groups_is_told_by_the_rows_of_the_table(site):
    table = """\
device,group,group.interval,tag,type,address
pump,fast,1s,level,float32,holding:10
pump,slow,5s,speed,float32,holding:12
pump,slow,,level,float32,holding:14
"""
    assert faults(site, table) == [(4, "tag", "level of the group fast is on row 2 already")]


@pytest.mark.parametrize(
    ("header", "fault", "mend"),
    [
        ("device,group,tag,adress\n", "unknown column", "did you mean 'address'?"),
        ("device,group,tag,tag\n", "stands twice in the header", "remove one"),
        ("device,group,name\n", "there is no such column", "name the columns device, group, tag, type, ..."),
        (
            "devise,group,tag,type\n",
            "there is no such column",
            "name the columns device, group, tag, type, ...; there are",
        ),
    ],
)
def test_a_wrong_header_is_told(site, header, fault, mend):
    table = header + "pump,fast,level,x\n"

    assert faults(site, table)[0][2] == fault
    assert mends(site, table)[0].startswith(mend)


@pytest.mark.parametrize("content", [b"", b"group,tag\n", b"gr\xfcn,tag\n", b'group,"tag' + 200_000 * b"x"])
def test_a_file_that_is_no_table_is_told(site, content):
    table = site.folder / "plant.csv"
    table.write_bytes(content)

    with pytest.raises(DocumentError, match=r"holds no tags|is not UTF-8|is no table"):
        import_tags(site, table, device=None)


class GroupOptions(BaseModel):
    max_gap: int | None = None


class Source(BaseModel):
    address: str
    number: int | float | None = None
    scaling: dict[str, float] | None = None
    orders: list[str] | None = None


FIELDS = Fields.of(GroupOptions.model_fields, Source.model_fields)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
LEVEL = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
OPTIONAL = {
    "title": TEXT,
    "unit": TEXT,
    "range": st.lists(st.integers(), min_size=2, max_size=2),
    "deadband": NUMBER,
    "max_silence": st.sampled_from(["10s", "1m"]),
    "writable": st.booleans(),
    "number": NUMBER | TEXT,
    "scaling": st.dictionaries(st.sampled_from(["low", "high"]), NUMBER, min_size=1),
    "orders": st.lists(TEXT),
}
TAGS = st.dictionaries(
    LEVEL,
    st.fixed_dictionaries({"type": st.just("float32"), "address": TEXT}, optional=OPTIONAL),
    min_size=1,
    max_size=4,
)


def _names(groups: dict[str, Any]) -> list[set[str]]:
    return [set(group["tags"]) for group in groups.values()]


GROUPS = st.dictionaries(
    LEVEL,
    st.fixed_dictionaries({"interval": st.just("1s"), "tags": TAGS}, optional={"max_gap": st.integers(0, 9)}),
    min_size=1,
    max_size=3,
).filter(lambda groups: len(set[str]().union(*_names(groups))) == sum(map(len, _names(groups))))
"""A tag's name is unique in its device, over all groups."""


@settings(max_examples=20, deadline=None)
@given(groups=GROUPS, separator=st.sampled_from(",;\t"))
def test_any_tags_come_back_as_they_were(groups, separator):
    text = sheet_of("pump", groups, FIELDS)
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(csv.reader(io.StringIO(text)))

    sheet = read_sheet(out.getvalue(), source="plant.csv", fields={"pump": FIELDS})

    assert sheet.faults == []
    assert sheet.groups == {"pump": groups}
    assert json.dumps(sheet.groups["pump"], sort_keys=True) == json.dumps(groups, sort_keys=True), "1.0 is not 1"


def test_a_file_in_json_keeps_its_meaning(site):
    data = Document.parse(PUMP, source="").data
    (site.devices / "pump.yaml").write_text(yaml.safe_dump(data, default_flow_style=True))
    table = "group,group.interval,tag,type,address\na,1s,b,bool,coil:1\n"

    imported(site, table, device="pump").store()

    assert {**data, "groups": {"a": {"interval": "1s", "tags": {"b": {"type": "bool", "address": "coil:1"}}}}} == (
        Document.parse(stored(site), source="").data
    )
