"""What the broker holds of one kind of topic, for a command that shows it once."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from contracts.topic import Topic
from plugins.api.document import DocumentError
from services.cli.connection import ConnectionFailed, connected, viewer_access
from services.cli.options import fail
from services.cli.site import Site
from services.cli.viewer import MOST_TOPICS
from services.runtime.bus.bus import Bus, Delivery

P = TypeVar("P", bound=BaseModel)

QUIET_S = 0.3
"""Retained topics come in one go; this long after the last of them all are there."""
TAKE_S = 5.0


def retained(folder: Path, topic: Topic[P], **levels: str) -> list[P]:
    """The topics' present payloads; ends the program if the broker is not to be had."""
    try:
        return asyncio.run(_look(folder, topic, levels))
    except (ConnectionFailed, DocumentError) as error:
        fail(str(error))


async def _look(folder: Path, topic: Topic[P], levels: dict[str, str]) -> list[P]:
    held: dict[str, P] = {}
    more = asyncio.Event()

    async def take(delivery: Delivery[P]) -> None:
        """Keeps the newest; what changes meanwhile is no reason to wait on."""
        held[delivery.topic] = delivery.payload
        if delivery.retained:
            more.set()

    def follow(bus: Bus) -> None:
        """Asks for them."""
        bus.subscribe(topic, take, queue_size=MOST_TOPICS, timeout_s=TAKE_S, **levels)

    async with connected(viewer_access(Site(folder)), follow):
        with suppress(TimeoutError):
            while True:
                more.clear()
                async with asyncio.timeout(QUIET_S):
                    await more.wait()
    return list(held.values())
