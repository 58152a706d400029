"""The class archives in a cache that several checkouts share, with a fake Java."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.embedded import class_archive as archives
from deploy.embedded.class_archive import UNUSED_SECONDS, class_archive
from deploy.embedded.java import Java

OPTION = "-XX:SharedArchiveFile="


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the archives that were made, in order."""
    made: list[str] = []

    async def dump(command: Sequence[str], **_: object) -> None:
        (path,) = (word.removeprefix(OPTION) for word in command if word.startswith(OPTION))
        Path(path).write_bytes(b"classes")
        made.append(path)

    async def train(*_: object) -> None:
        return None

    monkeypatch.setattr(archives, "run_command", dump)
    monkeypatch.setattr(archives, "_train", train)
    return made


def java(folder: Path) -> Java:
    """The Java of a new checkout."""
    folder.mkdir()
    (folder / "java").touch()
    return Java(folder / "java", 25, folder)


def used(cache: Path, name: str, seconds_ago: float) -> Path:
    path = cache / f"kafka-{name}.jsa"
    path.write_bytes(b"classes")
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


async def test_checkouts_with_a_shared_cache_keep_each_others_archives(
    tmp_path: Path, made: list[str]
) -> None:
    checkouts = [java(tmp_path / f"checkout-{number}") for number in range(4)]
    options = [await class_archive(checkout, tmp_path) for checkout in checkouts]
    assert [await class_archive(checkout, tmp_path) for checkout in checkouts] == options
    assert len(set(options)) == len(made) == 4


async def test_an_archive_that_was_not_used_for_long_is_removed(tmp_path: Path, made: list[str]) -> None:
    stale = used(tmp_path, "stale", UNUSED_SECONDS + 3600)
    fresh = used(tmp_path, "fresh", UNUSED_SECONDS - 3600)
    assert await class_archive(java(tmp_path / "checkout"), tmp_path)
    assert (stale.exists(), fresh.exists()) == (False, True)


async def test_using_an_archive_keeps_it(tmp_path: Path, made: list[str]) -> None:
    mine = java(tmp_path / "mine")
    path = Path((await class_archive(mine, tmp_path))[0].removeprefix(OPTION))
    os.utime(path, (time.time() - UNUSED_SECONDS - 3600,) * 2)
    await class_archive(mine, tmp_path)
    await class_archive(java(tmp_path / "theirs"), tmp_path)
    assert path.exists()


async def test_an_archive_of_another_user_is_used(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = java(tmp_path / "mine")
    options = await class_archive(mine, tmp_path)
    (tmp_path / "archive.lock").unlink()
    (tmp_path / "archive.lock").mkdir()  # cannot be opened, even by root

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.utime", refuse)
    assert await class_archive(mine, tmp_path) == options
    assert await class_archive(java(tmp_path / "theirs"), tmp_path) == ()
