"""`dinrail tags`: every last value of a site, once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from services.cli.connection import Access, connected
from services.cli.picture import Picture, Row, quality_word
from services.cli.table import now_ms, states, values
from services.cli.viewer import Viewer

QUIET_S = 0.3
WHOLE_S = 5.0


async def show_tags(*, access: Access, pattern: str, as_json: bool, console: Console) -> int:
    """Prints the retained values that match; 1 if the picture is not whole or nothing matches, else 0.

    Raises ConnectionFailed.
    """
    picture = Picture()
    async with connected(access, lambda bus: Viewer(bus=bus, picture=picture)):
        await settle(picture)
    rows, missing = picture.rows(pattern), picture.missing()
    if as_json:
        console.print_json(_json(access.site, picture, rows, missing))
    else:
        _print(console, picture, rows, missing)
    return 0 if rows and not missing else 1


async def settle(picture: Picture) -> None:
    """Returns once nothing new comes and every announced tag is there, or at the deadline.

    A broker marks no end of its retained messages. The descriptions come first and say how many tags there are; what
    they cannot say is that one more description is on its way, which is why it has to be quiet for a moment as well.
    """
    try:
        async with asyncio.timeout(WHOLE_S):
            size = -1
            while size != picture.size or picture.missing() or not picture.devices:
                size = picture.size
                await asyncio.sleep(QUIET_S)
    except TimeoutError:
        return


def _print(console: Console, picture: Picture, rows: Sequence[Row], missing: Sequence[str]) -> None:
    now = now_ms()
    console.print(states(picture, now))
    console.print()
    if rows:
        console.print(values(rows, now))
    elif picture.devices:
        console.print("no tag matches; `dinrail tags` without a pattern shows all", style="yellow")
    else:
        console.print(
            "no device has announced itself: is the gateway running, and are there device files?", style="red"
        )
    for line in missing:
        console.print(f"missing: {line}", style="yellow", highlight=False)


def _json(site: str, picture: Picture, rows: Sequence[Row], missing: Sequence[str]) -> str:
    services = [
        {"service": service, **presence.model_dump(mode="json")}
        for (service, _), presence in sorted(picture.services.items())
    ]
    devices = [{"device": name, **state.model_dump(mode="json")} for name, state in sorted(picture.states.items())]
    tags = [asdict(row) | {"quality": quality_word(row.q)} for row in rows]
    return json.dumps({"site": site, "services": services, "devices": devices, "tags": tags, "missing": missing})
