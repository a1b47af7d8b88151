"""A version of a pipeline, and how it stands in the database."""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["save", "rollback", "import", "delete"]
Name = tuple[str, str]
"""Scope and pipeline."""


class RepositoryError(Exception):
    """Something that cannot be done with the pipelines as they are."""


class UnknownPipeline(RepositoryError):
    """There is no such pipeline, or no such version of it."""

    def __init__(self, scope: str, pipeline: str, version: int | None = None) -> None:
        what = f"pipeline {pipeline!r}" if version is None else f"version {version} of pipeline {pipeline!r}"
        super().__init__(f"there is no {what} in {scope!r}")


class VersionConflict(RepositoryError):
    """Somebody else has saved since the caller looked. current: the version that there is; 0: none."""

    def __init__(self, pipeline: str, *, expected: int, current: int) -> None:
        super().__init__(f"{pipeline!r} is at version {current}, not {expected}: get it, join both changes, save again")
        self.current = current


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a pipeline.

    version: counts from 1. rev: of the definition's content. text: YAML or JSON as it was saved; None: deleted.
    saved_at: milliseconds since 1970 UTC. saver_since: since when the name saved_by had been its owner's, see Policy.
    shadow: it runs beside the live version and writes nothing.
    """

    scope: str
    pipeline: str
    version: int
    rev: str
    text: str | None
    saved_by: str
    saved_at: int
    origin: Origin
    shadow: bool = False
    saver_since: int | None = None

    @property
    def name(self) -> Name:
        """Scope and pipeline."""
        return self.scope, self.pipeline


@dataclass(frozen=True, slots=True)
class Change:
    """What came of a transaction. new: the version was written by it."""

    version: Version
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A definition that is to be saved, found right by whoever knows. text, rev: see Version."""

    scope: str
    pipeline: str
    text: str
    rev: str

    def version(
        self, number: int, *, by: str, at_ms: int, origin: Origin, shadow: bool = False, since: int | None = None
    ) -> Version:
        """The draft as this version. since: see Version.saver_since."""
        return Version(
            scope=self.scope,
            pipeline=self.pipeline,
            version=number,
            rev=self.rev,
            text=self.text,
            saved_by=by,
            saved_at=at_ms,
            origin=origin,
            shadow=shadow,
            saver_since=since,
        )


def digest_of(text: str) -> str:
    """By which a file is known again: SHA-256 of its text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def read_latest(database: sqlite3.Connection) -> list[Version]:
    """The last live version of each pipeline, which may be its deletion, and its last shadow."""
    rows = database.execute(
        "SELECT * FROM version AS one WHERE version = (SELECT max(version) FROM version AS other"
        " WHERE other.scope = one.scope AND other.pipeline = one.pipeline AND other.shadow = one.shadow)"
    )
    return [_version(row) for row in rows]


def read_version(database: sqlite3.Connection, scope: str, pipeline: str, version: int) -> Version:
    """Raises UnknownPipeline."""
    row = database.execute(
        "SELECT * FROM version WHERE scope = ? AND pipeline = ? AND version = ?", (scope, pipeline, version)
    ).fetchone()
    if row is None:
        raise UnknownPipeline(scope, pipeline, version)
    return _version(row)


def read_history(database: sqlite3.Connection, scope: str, pipeline: str, *, most: int) -> list[Version]:
    """The versions, the newest first, each without its text: `""`, or None as ever for a deletion."""
    rows = database.execute(
        "SELECT scope, pipeline, version, rev, iif(text IS NULL, NULL, ''), saved_by, saved_at, origin, shadow,"
        " saver_since"
        " FROM version WHERE scope = ? AND pipeline = ? ORDER BY version DESC LIMIT ?",
        (scope, pipeline, most),
    )
    return [_version(row) for row in rows]


def read_live(
    database: sqlite3.Connection, scope: str, pipeline: str, *, expect_version: int | None
) -> tuple[int, Version | None]:
    """The number of the last version, and the live one if there is one. Raises VersionConflict."""
    rows = database.execute(
        "SELECT * FROM version WHERE scope = ? AND pipeline = ? AND shadow = 0 ORDER BY version DESC LIMIT 1",
        (scope, pipeline),
    ).fetchall()
    (last,) = database.execute(
        "SELECT coalesce(max(version), 0) FROM version WHERE scope = ? AND pipeline = ?", (scope, pipeline)
    ).fetchone()
    live = next((version for version in map(_version, rows) if version.text is not None), None)
    current = live.version if live else 0
    if expect_version is not None and expect_version != current:
        raise VersionConflict(pipeline, expected=expect_version, current=current)
    return last, live


def write_version(database: sqlite3.Connection, version: Version) -> Change:
    """Raises sqlite3.Error."""
    row = (
        version.scope,
        version.pipeline,
        version.version,
        version.rev,
        version.text,
        version.saved_by,
        version.saved_at,
        version.origin,
        version.shadow,
        version.saver_since,
    )
    database.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    return Change(version, new=True)


def _version(row: Sequence[Any]) -> Version:
    scope, pipeline, version, rev, text, saved_by, saved_at, origin, shadow, since = row
    return Version(
        scope=scope,
        pipeline=pipeline,
        version=version,
        rev=rev,
        text=text,
        saved_by=saved_by,
        saved_at=saved_at,
        origin=origin,
        shadow=bool(shadow),
        saver_since=since,
    )
