"""What the recorder is told: where it keeps its data, and which history it feeds."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, model_validator

from contracts.v1.message import Level
from plugins.api.duration import Seconds
from services.runtime.settings import JournalSettings, SettingsSection

SECTION = "recorder"

Bytes = Annotated[int, Field(ge=1 << 16)]

DAY_S = 86_400.0
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]"})


class EmbeddedSettings(SettingsSection):
    """The history in the recorder's own database.

    flush: a batch of values is packed once it is that old, or batch_bytes of messages long. They are on disk and can
    be read before that: longer means denser chunks and less wear of a memory card. keep: for so long raw values stay;
    keep_minutes: and for so long what each of their minutes amounts to.
    """

    kind: Literal["embedded"] = "embedded"
    flush: Annotated[Seconds, Field(gt=0)] = 300.0
    batch_bytes: Bytes = 8 << 20
    chunk_values: Annotated[int, Field(ge=1, le=100_000)] = 1000
    keep: Annotated[Seconds, Field(ge=3600)] = 90 * DAY_S
    keep_minutes: Annotated[Seconds, Field(ge=3600)] = 730 * DAY_S

    @model_validator(mode="after")
    def _minutes_stay_longer(self) -> Self:
        if self.keep_minutes < self.keep:
            raise ValueError("keep_minutes is shorter than keep: the roll-up stays at least as long as raw values")
        return self


class InfluxSettings(SettingsSection):
    """A server that speaks InfluxDB's v2 write API.

    token_file: holds the token. flush: a batch is written once it is that old, or batch_bytes of messages long.
    lines: the most in one request. gzip: requests are compressed; null: unless the server is on this machine.
    quality: goes with every value, or is left out where it says nothing new (see InfluxStore).
    """

    kind: Literal["influxdb"]
    url: AnyHttpUrl
    org: str = ""
    bucket: Annotated[str, Field(min_length=1)]
    token_file: Path | None = None
    flush: Annotated[Seconds, Field(gt=0)] = 0.5
    batch_bytes: Bytes = 1 << 20
    lines: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    gzip: bool | None = None
    quality: Literal["every", "changed"] = "every"
    timeout: Annotated[Seconds, Field(gt=0)] = 10.0

    @property
    def compress(self) -> bool:
        """Whether requests are compressed."""
        return self.url.host not in _THIS_MACHINE if self.gzip is None else self.gzip


StoreSettings = Annotated[EmbeddedSettings | InfluxSettings, Field(discriminator="kind")]


class RecorderSettings(JournalSettings):
    """The `recorder` section.

    data: folder of the database, and of the journal of its own events. spool_bytes: messages that may wait for the
    history; beyond it the recorder takes nothing more from the broker until the history has caught up. commit_linger:
    how long a commit waits for company. events_keep: so long after their arrival events are removed; null: never.
    events_max_bytes: beyond about so much the oldest events are removed though they are younger; null: none.
    anchors: file that gets the end of the chain of events once a day; null: none.
    answers_queries: answers what is asked of the stored events and values; of several recorders exactly one does.
    """

    instance: Level = SECTION
    data: Path = Path("data/recorder")
    store: StoreSettings = EmbeddedSettings()
    spool_bytes: Bytes = 1 << 30
    commit_linger: Seconds = 0.05
    answers_queries: bool = True
    anchors: Path | None = None
    events_keep: Annotated[Seconds, Field(ge=86_400)] | None = 730 * 86_400.0
    events_max_bytes: Annotated[int, Field(ge=16 << 20)] | None = 16 << 30
