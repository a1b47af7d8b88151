"""The sessions at the broker that triggers have: noted before they are opened, so that none is left behind there.

The broker keeps what comes for a session that nobody opens, for days: one that is not wanted any more is ended.
"""

import sqlite3
from collections.abc import Callable, Collection
from functools import partial

from plugins.api.clock import Clock
from services.orchestrator.pipelines.version import Name
from services.runtime.logs import Log
from services.runtime.mqtt.connection import Connection
from services.runtime.mqtt.delivery import BusError, Delivery, Login
from services.runtime.settings import BrokerSettings
from services.runtime.sqlite_file import SqliteFile

_UNKNOWN = ""
"""The owner of a session that was noted by a release that did not say."""


class Sessions:
    """login: as whom to connect under a client id. Raises sqlite3.Error, DatabaseError where it writes."""

    def __init__(
        self, *, database: SqliteFile, broker: BrokerSettings, login: Callable[[str], Login], clock: Clock, log: Log
    ) -> None:
        self._database = database
        self._broker = broker
        self._login = login
        self._clock = clock
        self._log = log

    async def begun(self, client: str, owner: Name) -> int:
        """When the session was noted first, in microseconds since 1970 UTC; now, if it is new. owner: its pipeline."""
        now_us = self._clock.now_us()

        def work(database: sqlite3.Connection) -> int:
            """Microseconds since 1970 UTC."""
            unknown = "DELETE FROM progress WHERE key = ? AND key NOT IN (SELECT client FROM session)"
            database.execute(unknown, (client,))
            database.execute("INSERT OR IGNORE INTO session VALUES (?, ?, ?, ?)", (client, now_us, *owner))
            database.execute("UPDATE session SET scope = ?, pipeline = ? WHERE client = ?", (*owner, client))
            (begun,) = database.execute("SELECT begun FROM session WHERE client = ?", (client,)).fetchone()
            return int(begun)

        return await self._database.transaction(work)

    async def end_others(self, wanted: Collection[str], *, undecided: Collection[Name]) -> None:
        """Ends all sessions but these, and but those of pipelines of which it is not known what they want.

        What the broker cannot be told now is for the next call.
        """
        rows = await self._database.transaction(
            lambda database: database.execute("SELECT client, scope, pipeline FROM session").fetchall()
        )
        for client, *owner in rows:
            kept = client in wanted or tuple(owner) in undecided or (undecided and owner == [_UNKNOWN, _UNKNOWN])
            if not kept and await self._end(client):
                await self._database.transaction(partial(_forget, client))

    async def _end(self, client: str) -> bool:
        """A connection under its client id that begins anew discards it (MQTT 5.0, 3.1.2.4)."""
        connection = Connection(
            self._broker, login=self._login(client), will=None, deliver=_drop, now_s=self._clock.monotonic
        )
        try:
            async with connection.open():
                return True
        except BusError as error:
            self._log.warning("session_not_ended", client_id=client, error=str(error))
            return False


def _forget(client: str, database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM session WHERE client = ?", (client,))
    database.execute("DELETE FROM progress WHERE key = ?", (client,))


def _drop(_: list[int], __: Delivery[bytes]) -> None:
    """Nothing is subscribed to."""
