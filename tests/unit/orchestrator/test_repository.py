"""Versions of pipelines: written once, kept through anything."""

import asyncio
import contextlib
import random
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.orchestrator.database import FILE, Database
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Draft, UnknownPipeline, VersionConflict
from services.runtime.sqlite_file import DatabaseError
from tests.unit.orchestrator import saving_process
from tests.unit.orchestrator.saving_process import text_of


def draft(text: str = "pipeline: p", pipeline: str = "p", scope: str = "lab") -> Draft:
    return Draft(scope=scope, pipeline=pipeline, text=text, rev=str(hash(text)))


@pytest.fixture
async def database(tmp_path):
    async with Database(tmp_path / FILE) as opened:
        yield opened


@pytest.fixture
async def repository(database):
    opened = Repository(database=database)
    await opened.open()
    return opened


async def reopened(tmp_path, check):
    async with Database(tmp_path / FILE) as database:
        repository = Repository(database=database)
        await repository.open()
        return await check(repository)


async def test_each_save_is_a_version_and_all_stay(repository):
    for number in range(1, 4):
        saved = await repository.save(draft(f"text {number}"), by="anna", at_ms=number)
        assert (saved.version, saved.origin, saved.saved_by) == (number, "save", "anna")

    assert [(one.version, one.text) for one in await repository.versions("lab", "p")] == [(3, ""), (2, ""), (1, "")]
    assert (await repository.get("lab", "p", 2)).text == "text 2"
    assert repository.live("lab", "p").text == "text 3"


async def test_the_same_text_again_is_no_new_version(repository):
    first = await repository.save(draft(), by="anna", at_ms=1)

    assert await repository.save(draft(), by="anna", at_ms=2) == first


async def test_who_saves_the_text_of_another_takes_the_pipeline_over(repository):
    first = await repository.save(draft(), by="anna", at_ms=1)
    second = await repository.save(draft(), by="otto", at_ms=2)

    assert (second.version, second.saved_by, second.rev) == (2, "otto", first.rev)
    assert repository.live("lab", "p") == second


async def test_a_file_with_the_text_of_a_pipeline_leaves_it_to_who_saved_it(repository):
    saved = await repository.save(draft(), by="anna", at_ms=1)

    assert await repository.take_in(draft(), by="files", at_ms=2) is None
    assert repository.live("lab", "p") == saved


async def test_a_save_that_is_given_up_ends_only_when_it_is_written_or_not(repository):
    saving = asyncio.create_task(repository.save(draft(), by="anna", at_ms=1))
    await asyncio.sleep(0)
    saving.cancel()
    await asyncio.wait([saving])

    assert saving.cancelled()
    assert repository.live("lab", "p").version == 1


async def test_who_has_seen_an_older_version_cannot_save_over_a_newer_one(repository):
    await repository.save(draft("one"), by="anna", at_ms=1, expect_version=0)
    await repository.save(draft("two"), by="otto", at_ms=2, expect_version=1)

    with pytest.raises(VersionConflict) as refused:
        await repository.save(draft("three"), by="anna", at_ms=3, expect_version=1)

    assert refused.value.current == 2
    assert repository.live("lab", "p").text == "two"


async def test_of_many_who_save_at_once_expecting_the_same_one_wins(repository):
    saves = [repository.save(draft(f"{n}"), by="anna", at_ms=n, expect_version=0) for n in range(20)]

    outcomes = await asyncio.gather(*saves, return_exceptions=True)

    assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == 19
    assert len(await repository.versions("lab", "p")) == 1


async def test_a_rollback_is_a_new_version_with_the_old_content(repository):
    for number in range(1, 4):
        await repository.save(draft(f"text {number}"), by="anna", at_ms=number)

    back = await repository.rollback("lab", "p", 1, by="otto", at_ms=9)

    assert (back.version, back.text, back.origin, back.saved_by) == (4, "text 1", "rollback", "otto")
    assert repository.live("lab", "p") == back


async def test_what_was_deleted_is_gone_and_can_be_brought_back(repository):
    await repository.save(draft(), by="anna", at_ms=1)
    await repository.delete("lab", "p", by="anna", at_ms=2)

    with pytest.raises(UnknownPipeline):
        repository.live("lab", "p")
    assert repository.all() == []
    with pytest.raises(UnknownPipeline):
        await repository.delete("lab", "p", by="anna", at_ms=3)
    with pytest.raises(UnknownPipeline):
        await repository.rollback("lab", "p", 2, by="anna", at_ms=3)

    assert (await repository.rollback("lab", "p", 1, by="anna", at_ms=3)).version == 3


async def test_a_deleted_pipeline_may_be_made_anew_by_who_expects_none(repository):
    await repository.save(draft(), by="anna", at_ms=1)
    await repository.delete("lab", "p", by="anna", at_ms=2, expect_version=1)

    assert (await repository.save(draft(), by="anna", at_ms=3, expect_version=0)).version == 3


@pytest.mark.parametrize("ask", ["live", "get", "versions", "rollback", "delete"])
async def test_a_pipeline_that_is_not_there_is_told_by_name(repository, ask):
    await repository.save(draft(), by="anna", at_ms=1)
    asked = {
        "live": lambda: asyncio.to_thread(repository.live, "lab", "other"),
        "get": lambda: repository.get("lab", "p", 7),
        "versions": lambda: repository.versions("other", "p"),
        "rollback": lambda: repository.rollback("lab", "p", 7, by="a", at_ms=1),
        "delete": lambda: repository.delete("lab", "other", by="a", at_ms=1),
    }

    with pytest.raises(UnknownPipeline, match=r"there is no (version 7 of )?pipeline '(other|p)' in"):
        await asked[ask]()


async def test_pipelines_of_one_name_in_two_scopes_are_two(repository):
    await repository.save(draft("a", scope="lab"), by="anna", at_ms=1)
    await repository.save(draft("b", scope="hall"), by="anna", at_ms=1)

    assert [one.text for one in repository.all()] == ["b", "a"]
    assert [one.text for one in repository.all("lab")] == ["a"]


async def test_a_shadow_stands_beside_the_live_version_until_that_changes(repository):
    live = await repository.save(draft("one"), by="anna", at_ms=1)
    shadow = await repository.save(draft("two"), by="anna", at_ms=2, shadow=True)

    assert repository.live("lab", "p") == live
    assert repository.shadow("lab", "p") == shadow

    await repository.rollback("lab", "p", shadow.version, by="anna", at_ms=3, expect_version=1)

    assert repository.live("lab", "p").text == "two"
    assert repository.shadow("lab", "p") is None


async def test_all_of_it_is_there_after_a_restart(tmp_path):
    async def fill(repository):
        await repository.save(draft("one"), by="anna", at_ms=1)
        await repository.save(draft("two"), by="anna", at_ms=2, shadow=True)
        await repository.save(draft("gone", pipeline="q"), by="anna", at_ms=1)
        await repository.delete("lab", "q", by="anna", at_ms=2)
        return repository.live("lab", "p"), repository.shadow("lab", "p"), repository.all()

    async def look(repository):
        return repository.live("lab", "p"), repository.shadow("lab", "p"), repository.all()

    assert await reopened(tmp_path, fill) == await reopened(tmp_path, look)


async def test_listeners_hear_each_version_once_it_is_kept_though_nobody_waits_any_more(repository):
    heard = []
    repository.on_change(heard.append)

    saving = asyncio.create_task(repository.save(draft(), by="anna", at_ms=1))
    await asyncio.sleep(0)
    saving.cancel()
    await asyncio.wait([saving])
    again = await repository.save(draft(), by="anna", at_ms=2)
    await repository.delete("lab", "p", by="anna", at_ms=3)

    assert heard[0] == again
    assert [(one.version, one.origin) for one in heard] == [(1, "save"), (2, "delete")]


async def test_a_file_is_taken_in_once_and_again_when_it_changes(repository):
    assert (await repository.take_in(draft("one"), by="files", at_ms=1)).version == 1
    assert await repository.take_in(draft("one"), by="files", at_ms=2) is None
    assert (await repository.take_in(draft("two"), by="files", at_ms=3)).version == 2


async def test_a_file_that_has_not_changed_does_not_undo_what_was_saved_since(repository):
    await repository.take_in(draft("of the file"), by="files", at_ms=1)
    saved = await repository.save(draft("of anna"), by="anna", at_ms=2)

    assert await repository.take_in(draft("of the file"), by="files", at_ms=3) is None
    assert repository.live("lab", "p") == saved


async def test_a_file_that_has_not_changed_does_not_bring_a_deleted_pipeline_back(repository):
    await repository.take_in(draft(), by="files", at_ms=1)
    await repository.delete("lab", "p", by="anna", at_ms=2)

    assert await repository.take_in(draft(), by="files", at_ms=3) is None
    assert repository.all() == []


async def test_no_statement_can_change_or_remove_a_version(repository, database):
    await repository.save(draft(), by="anna", at_ms=1)

    for statement in ("UPDATE version SET text = 'x'", "DELETE FROM version"):
        with pytest.raises(sqlite3.IntegrityError, match="a version is never"):
            await database.transaction(lambda connection, statement=statement: connection.execute(statement))


async def test_two_orchestrators_do_not_share_a_database(database):
    with pytest.raises(DatabaseError, match="another orchestrator"):
        async with Database(database.path):
            pass


async def test_a_file_that_is_no_database_of_ours_is_refused(tmp_path):
    (tmp_path / FILE).write_text("something else, long enough to be no header of SQLite" * 100)

    with pytest.raises(DatabaseError, match="not a database"):
        async with Database(tmp_path / FILE):
            pass


async def test_a_kill_at_any_moment_loses_nothing_that_was_saved_and_leaves_nothing_half(tmp_path):
    promised: dict[int, str] = {}
    chance = random.Random(4)
    for round_ in range(10):
        process = await asyncio.create_subprocess_exec(
            sys.executable, saving_process.__file__, tmp_path / FILE, f"round{round_}", stdout=asyncio.subprocess.PIPE
        )
        told = [await process.stdout.readline()]
        until = asyncio.get_running_loop().time() + chance.uniform(0, 0.05)
        while asyncio.get_running_loop().time() < until:
            told.append(await process.stdout.readline())
        process.kill()
        rest, _ = await process.communicate()
        whole, _, _ = (b"".join(told) + rest).decode().rpartition("\n")
        for line in whole.splitlines():
            version, seed = line.split()
            promised[int(version)] = text_of(seed)

        async def look(repository):
            found = [one.version for one in await repository.versions("lab", "p")]
            live = repository.live("lab", "p")
            return {number: (await repository.get("lab", "p", number)).text for number in found}, live.version

        kept, live = await reopened(tmp_path, look)
        assert set(kept) == set(range(1, live + 1))
        assert promised.items() <= kept.items()
        assert all(text == text_of(text[:-12800]) for text in kept.values())
    assert len(promised) > 10


class Edits(RuleBasedStateMachine):
    """Any sequence of edits against a plain list of what was written."""

    def __init__(self):
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory()
        self._database = Database(Path(self._folder.name) / FILE)
        self._loop.run_until_complete(self._database.__aenter__())
        self.repository = Repository(database=self._database)
        self._loop.run_until_complete(self.repository.open())
        self.log: list[tuple[str | None, bool]] = []

    def do(self, work):
        return self._loop.run_until_complete(work)

    @property
    def live(self):
        return next((text for text, shadow in reversed(self.log) if not shadow), None)

    @rule(text=st.sampled_from("abc"))
    def save(self, text):
        if self.live != text:
            self.log.append((text, False))
        self.do(self.repository.save(draft(text), by="a", at_ms=1))

    @rule(text=st.sampled_from("abc"))
    def shadow(self, text):
        self.log.append((text, True))
        self.do(self.repository.save(draft(text), by="a", at_ms=1, shadow=True))

    @precondition(lambda self: self.live is not None)
    @rule()
    def delete(self):
        self.log.append((None, False))
        self.do(self.repository.delete("lab", "p", by="a", at_ms=1))

    @precondition(lambda self: any(text for text, _ in self.log))
    @rule(data=st.data())
    def rollback(self, data):
        versions = [number for number, (text, _) in enumerate(self.log, 1) if text]
        number = data.draw(st.sampled_from(versions))
        self.log.append((self.log[number - 1][0], False))
        self.do(self.repository.rollback("lab", "p", number, by="a", at_ms=1))

    @rule()
    def restart(self):
        self.repository = Repository(database=self._database)
        self.do(self.repository.open())

    @invariant()
    def as_written(self):
        live = [one.text for one in self.repository.all()]
        assert live == [self.live] * (self.live is not None)
        if self.log:
            listed = self.do(self.repository.versions("lab", "p"))
            found = [self.do(self.repository.get("lab", "p", one.version)) for one in reversed(listed)]
            assert [(one.text, one.shadow) for one in found] == self.log
            assert [one.text is None for one in reversed(listed)] == [text is None for text, _ in self.log]

    def teardown(self):
        self.do(self._database.__aexit__(None, None, None))
        self._loop.close()
        self._folder.cleanup()


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


async def test_a_file_of_the_layout_before_is_taken_over(tmp_path):
    """Layout 2 did not say which of those who had the name saved a version."""
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as sql:
        Database(tmp_path / FILE).make(sql)
        sql.execute("ALTER TABLE version DROP COLUMN saver_since")
        sql.execute("INSERT INTO version VALUES ('lab', 'p', 1, 'r', 'text', 'anna', 1, 'save', 0)")
        sql.execute("PRAGMA user_version = 2")
        sql.commit()

    async def look(repository):
        version = repository.live("lab", "p")
        same = await repository.save(draft("text"), by="anna", at_ms=2)
        another = await repository.save(draft("text"), by="anna", at_ms=3, since=3)
        return version, same, another

    version, same, another = await reopened(tmp_path, look)
    assert (version.text, version.saver_since) == ("text", None)
    assert same.version == 1
    assert (another.version, another.saver_since) == (2, 3)
