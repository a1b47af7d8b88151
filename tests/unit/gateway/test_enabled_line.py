"""The one line of a device file that commands change, whatever the file looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api.document import Document, DocumentError
from services.gateway.enabled_line import with_enabled

REST = "driver: modbus\ngroups: {}\n"


@pytest.mark.parametrize(
    ("text", "disabled"),
    [
        ("device: pump\n" + REST, "device: pump\nenabled: false\n" + REST),
        ("enabled: true   # since May\ndevice: pump\n", "enabled: false   # since May\ndevice: pump\n"),
        ("'enabled': true\ndevice: pump\n", "'enabled': false\ndevice: pump\n"),
        ("\ufeffdevice: pump\r\n", "\ufeffdevice: pump\r\nenabled: false\r\n"),
        ("\ufeffenabled: true\ndevice: pump\n", "\ufeffenabled: false\ndevice: pump\n"),
        ("device: pump\r\ntitle: a\r\n", "device: pump\r\nenabled: false\r\ntitle: a\r\n"),
        ('{"device": "pump"}', '{\n  "device": "pump",\n  "enabled": false\n}\n'),
        ("device: pump\ntitle: |\n  enabled: true\n", "device: pump\nenabled: false\ntitle: |\n  enabled: true\n"),
    ],
)
def test_a_device_is_disabled_by_one_line(text, disabled):
    assert with_enabled(text, source="pump.yaml", enabled=False) == disabled


def test_what_is_as_wanted_stays_as_it_is():
    assert with_enabled("device: pump\n", source="pump.yaml", enabled=True) == "device: pump\n"


def test_a_layout_that_cannot_be_edited_is_said_with_its_mend():
    with pytest.raises(DocumentError, match="write `enabled: false`"):
        with_enabled("{device: pump,\n driver: modbus}", source="pump.yaml", enabled=False)


@given(
    lines=st.permutations(["device: pump", "driver: modbus  # a", "enabled: true", "groups: {}", "# enabled: true"]),
    enabled=st.booleans(),
)
def test_everything_else_stays_whatever_the_order(lines, enabled):
    text = "\n".join(lines) + "\n"

    edited = with_enabled(text, source="pump.yaml", enabled=enabled)

    assert Document.parse(edited, source="").data == {**Document.parse(text, source="").data, "enabled": enabled}
    assert [line for line in edited.splitlines() if not line.startswith("enabled")] == [
        line for line in text.splitlines() if not line.startswith("enabled")
    ]
