"""What watchdog's inotify tells of single folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_svc.watching.watchdog_inotify import FolderInotify
from tests.support.permissions import permissions_apply


@pytest.fixture
def inotify() -> Iterator[FolderInotify]:
    inotify = FolderInotify()
    yield inotify
    inotify.close()


def test_a_folder_that_may_not_be_read_is_refused_and_watched_later(
    inotify: FolderInotify, tmp_path: Path
) -> None:
    with permissions_apply():
        for mode in (0, 0o300):
            tmp_path.chmod(mode)
            with pytest.raises(PermissionError):
                inotify.add(str(tmp_path))
        tmp_path.chmod(0o700)
        watch = inotify.add(str(tmp_path))
    (tmp_path / "one.jpg").touch()
    event = inotify.next_event(90)
    assert event is not None
    assert (event.wd, event.name, event.is_create) == (watch, b"one.jpg", True)


@pytest.mark.parametrize("kind", ["file", "link", "missing"])
def test_only_a_folder_is_watched(inotify: FolderInotify, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "it").touch()
    elif kind == "link":
        (tmp_path / "it").symlink_to(tmp_path)
    with pytest.raises((NotADirectoryError, FileNotFoundError)):
        inotify.add(str(tmp_path / "it"))


def test_the_end_of_a_watch_is_told_and_a_new_folder_gets_a_new_watch(
    inotify: FolderInotify, tmp_path: Path
) -> None:
    folder = tmp_path / "door"
    folder.mkdir()
    watch = inotify.add(str(folder))
    assert inotify.add(str(folder)) == watch
    folder.rmdir()
    while (event := inotify.next_event(90)) is not None and not event.is_ignored:
        assert event.wd == watch
    assert event is not None
    assert event.wd == watch
    folder.mkdir()
    assert inotify.add(str(folder)) != watch


def test_a_watch_that_was_removed_reports_nothing_more(inotify: FolderInotify, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    removed, watch = inotify.add(str(first)), inotify.add(str(second))
    inotify.remove(removed)
    inotify.remove(removed)
    (first / "one").touch()
    (second / "two").touch()
    event = inotify.next_event(90)
    assert event is not None
    assert (event.wd, event.name) == (watch, b"two")
