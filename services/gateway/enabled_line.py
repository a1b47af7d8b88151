"""`enabled:` in the text of a device file, changed with as little else as can be: comments and layout stay. Pure."""

import json
import re

from plugins.api.document import Document, DocumentError

_ENABLED = re.compile(r"""^(\ufeff?["']?enabled["']?[ \t]*:[ \t]*)[^\s#]+(.*)$""", re.MULTILINE)
_DEVICE = re.compile(r"""^\ufeff?["']?device["']?[ \t]*:[^\r\n]*(\r?)$""", re.MULTILINE)


def with_enabled(text: str, *, source: str, enabled: bool) -> str:
    """The text of a device file that is enabled, or not.

    source: its name in errors. Raises DocumentError if it is not YAML, or is laid out so that it has to be edited by
    hand.
    """
    before = Document.parse(text, source=source)
    if not isinstance(before.data, dict):
        raise DocumentError([before.fault((), "not a device", "write device, driver, connection and groups")])
    if before.data.get("enabled", True) is enabled:
        return text
    wanted = {**before.data, "enabled": enabled}
    for edited in (_edited(text, enabled=enabled), json.dumps(wanted, indent=2) + "\n" if _is_json(text) else text):
        try:
            if Document.parse(edited, source=source).data == wanted:
                return edited
        except DocumentError:
            continue
    fault = before.fault(("enabled",), "cannot be changed in a file laid out so", f"write `enabled: {_word(enabled)}`")
    raise DocumentError([fault])


def _edited(text: str, *, enabled: bool) -> str:
    if _ENABLED.search(text):
        return _ENABLED.sub(rf"\g<1>{_word(enabled)}\g<2>", text, count=1)
    return _DEVICE.sub(rf"\g<0>\nenabled: {_word(enabled)}\g<1>", text, count=1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _word(enabled: bool) -> str:
    return "true" if enabled else "false"
