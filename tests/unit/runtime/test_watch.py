"""Files that change, as a watch on their folder sees them."""

import asyncio
import os

import pytest

from services.runtime.watch import Watch, marks


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pump.yaml").write_text("one")
    (tmp_path / "fan.yaml").write_text("one")
    return tmp_path


@pytest.fixture
async def watch(folder):
    watch = Watch(lambda: marks(folder.iterdir()), every_s=0.005)
    await watch.begin()
    return watch


def rewrite(folder):
    (folder / "pump.yaml").write_text("two, and longer")


def replace(folder):
    """Another file of the same length and time."""
    stat = (folder / "pump.yaml").stat()
    (folder / "new").write_text("two")
    os.utime(folder / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "new").replace(folder / "pump.yaml")


def rewrite_in_the_past(folder):
    stat = (folder / "pump.yaml").stat()
    (folder / "pump.yaml").write_text("two")
    os.utime(folder / "pump.yaml", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def remove(folder):
    (folder / "pump.yaml").unlink()


@pytest.mark.parametrize("change", [rewrite, replace, rewrite_in_the_past, remove])
async def test_whatever_happens_to_a_file_is_seen(folder, watch, change):
    change(folder)

    async with asyncio.timeout(30):
        assert {path.name for path in await watch.changed()} == {"pump.yaml"}


async def test_a_new_file_is_seen(folder, watch):
    (folder / "press.yaml").write_text("one")

    async with asyncio.timeout(30):
        assert await watch.changed() == {folder / "press.yaml"}


async def test_what_changed_between_two_calls_is_not_missed(folder, watch):
    async with asyncio.timeout(30):
        rewrite(folder)
        await watch.changed()
        remove(folder)
        assert await watch.changed() == {folder / "pump.yaml"}


async def test_a_file_counts_once_it_rests(folder):
    sizes = iter([(3,), (4,), (5,), (6,), (6,)])
    watch = Watch(lambda: {folder: (*next(sizes), 0, 0, 0)}, every_s=0)
    await watch.begin()

    assert await watch.changed() == {folder}
    assert next(sizes, None) is None
