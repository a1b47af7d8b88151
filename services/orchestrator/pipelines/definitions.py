"""What the texts of pipelines mean: each text is read once, by whoever is first, for all who want to know."""

import asyncio
from collections import OrderedDict

from contracts.v1.definition import Definition
from plugins.api.document import DocumentError
from services.orchestrator.definition.definition_file import read_definition

MOST = 500
"""Texts that are remembered, those learnt last."""
MOST_CHARACTERS = 16 << 20
"""Of all of them: what a text means takes up to twenty times as much memory as itself."""


def parse_definition(text: str) -> Definition:
    """The definition in this YAML or JSON. Raises DocumentError."""
    file = read_definition(text, source="definition")
    if file.definition is None or file.faults:
        raise DocumentError(file.faults)
    return file.definition


class Definitions:
    """A text of the longest kind takes a second to read: who has the time reads it beside the event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Definition] = OrderedDict()
        self._characters = 0

    def of(self, text: str) -> Definition:
        """The definition in this text. Raises DocumentError."""
        known = self._known.get(text)
        return known if known is not None else self.learn(text, parse_definition(text))

    async def soon(self, text: str) -> Definition:
        """As of(), and holds up nothing else. Raises DocumentError."""
        known = self._known.get(text)
        return known if known is not None else self.learn(text, await asyncio.to_thread(parse_definition, text))

    def learn(self, text: str, definition: Definition) -> Definition:
        """Somebody has read the text, and found this definition."""
        if text not in self._known:
            self._characters += len(text)
        self._known[text] = definition
        self._known.move_to_end(text)
        while len(self._known) > MOST or self._characters > MOST_CHARACTERS:
            self._characters -= len(self._known.popitem(last=False)[0])
        return definition
