"""The kinds of history, as tests write and read them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import urllib3

from services.recorder.embedded.archive import EmbeddedArchive
from services.recorder.embedded.history import History
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.influxdb.archive import InfluxArchive
from services.recorder.influxdb.server import InfluxServer
from services.recorder.influxdb.store import InfluxStore
from services.recorder.queries.archive import Archive
from services.recorder.spool.store import Store
from services.recorder.summary import Point
from tests.influx_proxy import TOKEN
from tests.recorder_rig import DEVICE, SITE

BUCKET = "history"


class Place(Protocol):
    """A kind of history."""

    def store(self) -> Store: ...

    def read(self, tag: str) -> list[Point]: ...

    def archive(self) -> Archive: ...


@dataclass
class Embedded:
    """The recorder's own database."""

    path: Path

    def store(self) -> Store:
        return EmbeddedStore(batch_bytes=1 << 20, flush_s=0.01, chunk_values=4)

    def read(self, tag: str) -> list[Point]:
        return History(self.path).read(DEVICE, tag, 0, 2**53)

    def archive(self) -> Archive:
        return EmbeddedArchive(self.path)


@dataclass
class Influx:
    """A real InfluxDB, written through the v2 API at `api` and read with InfluxQL at `server`."""

    server: str
    api: str
    token: str = TOKEN
    org: str = ""

    def store(self, *, lines: int = 3, token: str | None = None, bucket: str = BUCKET) -> InfluxStore:
        server = InfluxServer(url=self.api, org=self.org, bucket=bucket, token=token or self.token, timeout_s=10)
        return InfluxStore(server=server, site=SITE, lines=lines, batch_bytes=1 << 20, flush_s=0.01)

    def archive(self) -> Archive:
        return InfluxArchive(url=self.server, bucket=BUCKET, token=self.token, site=SITE)

    def query(self, text: str) -> dict[str, Any]:
        url = f"{self.server}/query?db={BUCKET}&epoch=u"
        answer = urllib3.request("POST", url, fields={"q": text}, headers={"Authorization": f"Token {self.token}"})
        # Whole numbers stay text: -0 is how the server writes the float -0.0.
        return dict(json.loads(answer.data, parse_int=str)["results"][0])

    def write(self, line: str) -> None:
        """Writes as somebody else would, past the recorder."""
        answer = urllib3.request("POST", f"{self.server}/write?db={BUCKET}&precision=u", body=line.encode())
        assert answer.status == 204

    def read(self, tag: str) -> list[Point]:
        fields = ("f", "i", "b", "s", "a")
        asked = ", ".join(f'"{name}"' for name in (*fields, "q"))
        result = self.query(
            f"SELECT {asked} FROM \"tag\" WHERE device = '{DEVICE}' AND \"tag\" = '{tag}' AND site = '{SITE}'"
        )
        return [
            (int(t), typed(dict(zip(fields, values, strict=True))), int(q))
            for series in result.get("series", [])
            for t, *values, q in series["values"]
        ]


def typed(fields: dict[str, Any]) -> Any:
    """The value in the type that its field stands for: JSON from InfluxDB writes 50.0 as 50."""
    kinds = {"f": float, "i": int, "b": bool, "s": str, "a": json.loads}
    found = [kinds[name](value) for name, value in fields.items() if value is not None]
    assert len(found) <= 1
    return found[0] if found else None
