"""`dinrail events verify --file` of a file that is no database any more."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.recorder.embedded.store import EmbeddedStore
from tests.recorder_rig import event_message, rig

SCHEMA = b"CREATE INDEX event_type"


async def _store(path: Path) -> None:
    async with rig(path, EmbeddedStore(batch_bytes=1 << 20, flush_s=60, chunk_values=10)) as one:
        await one.commit(event_message(1, "online"))


@pytest.mark.parametrize("damage", [b"CREATE INDEX \xb7vent_type", b"CREATE IN\xb7EX event_type", bytes(len(SCHEMA))])
def test_a_database_whose_schema_is_damaged_is_told_as_such(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "recorder.db"
    asyncio.run(_store(path))
    whole = path.read_bytes()
    assert SCHEMA in whole
    path.write_bytes(whole.replace(SCHEMA, damage))

    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["events", "verify", "--file", str(path)])

    assert (result.exit_code, f"{path}: " in result.output, "damaged" in result.output) == (2, True, True)
