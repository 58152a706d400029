"""The state machine alone, with times made up."""

import pytest

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.completion import CompletionTracker
from ingest_svc.watching.file_events import FileEventType


def state(size: int, mtime: int = 1) -> Fingerprint:
    return Fingerprint("a.jpg", size, mtime)


def paths(settling: CompletionTracker) -> list[str]:
    return [entry.path for entry in settling.complete()]


def test_closed_or_renamed_is_complete_at_once_in_that_order() -> None:
    settling = CompletionTracker(0.25)
    settling.record("b.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("a.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(settling) == ["b.jpg", "a.jpg"]
    assert settling.pause(1.2) == 0.0


def test_completed_again_takes_its_new_turn() -> None:
    settling = CompletionTracker(0.25)
    for path in ("a.jpg", "b.jpg", "a.jpg"):
        settling.record(path, FileEventType.COMPLETE, 1.0)
    assert paths(settling) == ["b.jpg", "a.jpg"]


def test_a_found_file_is_complete_when_its_size_stood_still() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.FOUND, 1.0)
    settling.update("a.jpg", state(10), False, 1.0)
    assert settling.due(1.2) == []
    settling.update("a.jpg", state(20), False, 1.25)
    settling.update("a.jpg", state(20), False, 1.49)
    assert paths(settling) == []
    settling.update("a.jpg", state(20), False, 1.5)
    assert paths(settling) == ["a.jpg"]


def test_a_changed_mtime_is_no_standstill() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.FOUND, 1.0)
    settling.update("a.jpg", state(10, mtime=1), False, 1.0)
    settling.update("a.jpg", state(10, mtime=2), False, 1.3)
    assert paths(settling) == []


def test_who_writes_must_close() -> None:
    settling = CompletionTracker(0.25, patience=30)
    settling.record("a.jpg", FileEventType.WRITTEN, 1.0)
    settling.update("a.jpg", state(10), False, 1.25)
    settling.update("a.jpg", state(10), False, 9.0)
    assert paths(settling) == []
    settling.record("a.jpg", FileEventType.COMPLETE, 9.1)
    assert paths(settling) == ["a.jpg"]


def test_an_open_file_is_waited_for_until_patience_ends() -> None:
    settling = CompletionTracker(0.25, patience=30)
    settling.record("a.jpg", FileEventType.FOUND, 0.0)
    settling.update("a.jpg", state(10), True, 0.0)
    settling.update("a.jpg", state(10), True, 29.9)
    assert paths(settling) == []
    settling.update("a.jpg", state(10), True, 30.0)
    assert paths(settling) == ["a.jpg"]


def test_a_complete_file_that_is_written_again_is_not_complete() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("a.jpg", FileEventType.WRITTEN, 1.1)
    assert paths(settling) == []
    assert len(settling) == 1


def test_attributes_do_not_undo_completion() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("a.jpg", FileEventType.FOUND, 1.1)
    assert paths(settling) == ["a.jpg"]


def test_it_counts_until_it_is_taken_or_gone() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("b.jpg", FileEventType.FOUND, 1.0)
    assert len(settling) == 2
    settling.remove(settling.complete()[0])
    assert len(settling) == 1
    settling.update("b.jpg", None, False, 1.1)
    assert len(settling) == 0
    assert settling.pause(1.1) is None


def test_taking_an_old_completion_leaves_the_new_one() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.COMPLETE, 1.0)
    (old,) = settling.complete()
    settling.record("a.jpg", FileEventType.COMPLETE, 2.0)
    settling.remove(old)
    assert paths(settling) == ["a.jpg"]


def test_the_pause_is_until_the_next_look() -> None:
    settling = CompletionTracker(0.25)
    settling.record("a.jpg", FileEventType.FOUND, 1.0)
    settling.update("a.jpg", state(10), False, 1.0)
    assert settling.pause(1.05) == pytest.approx(0.2)


def test_a_complete_file_does_not_overtake_one_that_only_needs_to_stand_still() -> None:
    settling = CompletionTracker(0.25)
    turn = settling.next_position()  # a folder came, and can be fingerprint_in_real_folder only later
    settling.record("door/second.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("door/new/first.jpg", FileEventType.FOUND, 1.1, turn)
    settling.record("garage/other.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(settling) == ["garage/other.jpg"]
    settling.remove(settling.complete()[0])
    settling.update("door/new/first.jpg", state(10), False, 1.1)
    assert settling.pause(1.2) == pytest.approx(0.15)
    settling.update("door/new/first.jpg", state(10), False, 1.35)
    assert set(paths(settling)) == {"door/second.jpg", "door/new/first.jpg"}


@pytest.mark.parametrize("sign", [FileEventType.FOUND, FileEventType.WRITTEN])
def test_a_complete_file_waits_for_no_writer(sign: FileEventType) -> None:
    settling = CompletionTracker(0.25, patience=30)
    settling.record("door/slow.jpg", sign, 1.0)
    settling.update("door/slow.jpg", state(10), True, 1.0)
    settling.record("door/quick.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(settling) == ["door/quick.jpg"]


def test_a_complete_file_waits_for_none_that_came_later() -> None:
    settling = CompletionTracker(0.25)
    settling.record("door/first.jpg", FileEventType.COMPLETE, 1.0)
    settling.record("door/new/second.jpg", FileEventType.FOUND, 1.0)
    assert paths(settling) == ["door/first.jpg"]
