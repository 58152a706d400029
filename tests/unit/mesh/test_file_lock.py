"""Locks on files."""

from pathlib import Path
from threading import Thread

import pytest

from mesh.file_lock import lock, lock_within, try_lock


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_only_shared_locks_are_held_together(tmp_path: Path, first: bool, second: bool, free: bool) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as one, path.open("ab") as other:
        lock(one, shared=first)
        assert try_lock(other, shared=second) is free


def test_a_closed_file_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as one:
        assert try_lock(one)
    with path.open("ab") as other:
        assert try_lock(other)


def test_a_lock_is_waited_for_with_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as other:
        with path.open("ab") as one:
            lock(one)
            assert not lock_within(other, 0.0)
            waiting = Thread(target=lambda: results.append(lock_within(other, 90.0)))
            results = list[bool]()
            waiting.start()
        waiting.join()
        assert results == [True]
        with path.open("ab") as another:
            assert not try_lock(another)
