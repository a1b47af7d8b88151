"""`dinrail tags --at`: every tag with value and quality as known at a time."""

import json
from pathlib import Path

import typer
from pydantic import BaseModel

from contracts.acl import VIEWER
from contracts.v1.history import HISTORY_AT, MOST_TAGS, HistoryAt, TagsThen, TagThen
from contracts.v1.message import Value
from services.cli import asking
from services.cli.history import HINT
from services.cli.picture import Row, quality_word
from services.cli.table import console, values
from services.cli.when import micros, time_text


def show_tags_then(folder: Path, pattern: str, at: str, *, recorder: str, as_json: bool) -> int:
    """Prints the tags that match; 1 if none had been recorded by then, else 0. at: a time, as people write it."""
    t = micros(at) or 0
    found: list[TagThen] = []
    later = 0
    question = asking.question(HistoryAt, {"tags": [pattern], "t": max(t, 0), "limit": MOST_TAGS})

    def following(page: TagsThen) -> BaseModel | None:
        """Asks for the next tags."""
        nonlocal later
        found.extend(page.tags)
        later += page.later
        return None if page.next is None else question.model_copy(update={"after": page.next})

    asking.ask_on(folder, HISTORY_AT, question, following, account=VIEWER.name, hint=HINT, id=recorder)
    if as_json:
        tags = [tag.model_dump(mode="json", exclude_none=True) | _shown(tag) for tag in found]
        typer.echo(json.dumps({"at": t, "tags": tags, "later": later}, ensure_ascii=False))
    else:
        typer.echo(f"as of {time_text(t)}")
        if found:
            console().print(values([_row(tag) for tag in found], t // 1000))
        if later:
            typer.echo(f"{later} more had not been recorded by then", err=True)
    return 0 if found else 1


def _row(tag: TagThen) -> Row:
    value: Value = int(str(tag.value)) if tag.big else tag.value
    return Row(tag.device, tag.tag, value, None, tag.q, None, tag.t // 1000)


def _shown(tag: TagThen) -> dict[str, Value]:
    return {"value": tag.value, "quality": quality_word(tag.q)}
