"""The state machine alone, with made-up times."""

import pytest

from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.completion import (
    LEARN_SECONDS,
    RESTLESS_SECONDS,
    CompleteFile,
    CompletionTracker,
)
from ingest_svc.watching.file_events import FileEventType


def state(size: int, mtime: int = 1) -> Fingerprint:
    return Fingerprint("a.jpg", size, mtime)


def paths(tracker: CompletionTracker) -> list[str]:
    return [entry.path for entry in tracker.complete()]


def test_closed_or_renamed_is_complete_at_once_in_that_order() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("b.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("a.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(tracker) == ["b.jpg", "a.jpg"]
    assert tracker.pause(1.2) == 0.0


def test_a_file_that_is_completed_again_moves_to_the_end() -> None:
    tracker = CompletionTracker(0.25)
    for path in ("a.jpg", "b.jpg", "a.jpg"):
        tracker.record(path, FileEventType.COMPLETE, 1.0)
    assert paths(tracker) == ["b.jpg", "a.jpg"]


def test_a_found_file_is_complete_when_its_size_has_settled() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.FOUND, 1.0)
    tracker.update("a.jpg", state(10), False, 1.0)
    assert tracker.due(1.2, 100) == []
    tracker.update("a.jpg", state(20), False, 1.25)
    tracker.update("a.jpg", state(20), False, 1.49)
    assert paths(tracker) == []
    tracker.update("a.jpg", state(20), False, 1.5)
    assert paths(tracker) == ["a.jpg"]


def test_a_changed_mtime_means_that_the_file_has_not_settled() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.FOUND, 1.0)
    tracker.update("a.jpg", state(10, mtime=1), False, 1.0)
    tracker.update("a.jpg", state(10, mtime=2), False, 1.3)
    assert paths(tracker) == []


def test_a_file_that_is_written_is_complete_only_when_closed() -> None:
    tracker = CompletionTracker(0.25, patience=30)
    tracker.record("a.jpg", FileEventType.WRITTEN, 1.0)
    tracker.update("a.jpg", state(10), False, 1.25)
    tracker.update("a.jpg", state(10), False, 9.0)
    assert paths(tracker) == []
    tracker.record("a.jpg", FileEventType.COMPLETE, 9.1)
    assert paths(tracker) == ["a.jpg"]


def test_an_open_file_is_complete_when_patience_ends() -> None:
    tracker = CompletionTracker(0.25, patience=30)
    tracker.record("a.jpg", FileEventType.FOUND, 0.0)
    tracker.update("a.jpg", state(10), True, 0.0)
    tracker.update("a.jpg", state(10), True, 29.9)
    assert paths(tracker) == []
    tracker.update("a.jpg", state(10), True, 30.0)
    assert paths(tracker) == ["a.jpg"]


def test_a_complete_file_that_is_written_again_is_not_complete() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("a.jpg", FileEventType.WRITTEN, 1.1)
    assert paths(tracker) == []
    assert len(tracker) == 1


def test_attributes_do_not_undo_completion() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("a.jpg", FileEventType.FOUND, 1.1)
    assert paths(tracker) == ["a.jpg"]


def test_a_file_counts_until_it_is_removed_or_gone() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("b.jpg", FileEventType.FOUND, 1.0)
    assert len(tracker) == 2
    tracker.remove(tracker.complete()[0])
    assert len(tracker) == 1
    tracker.update("b.jpg", None, False, 1.1)
    assert len(tracker) == 0
    assert tracker.pause(1.1) is None


def test_removing_an_old_completion_leaves_the_new_one() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.COMPLETE, 1.0)
    (old,) = tracker.complete()
    tracker.record("a.jpg", FileEventType.COMPLETE, 2.0)
    tracker.remove(old)
    assert paths(tracker) == ["a.jpg"]


def test_the_pause_is_until_the_next_check() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.FOUND, 1.0)
    tracker.update("a.jpg", state(10), False, 1.0)
    assert tracker.pause(1.05) == pytest.approx(0.2)


def test_a_complete_file_does_not_overtake_one_that_only_has_to_settle() -> None:
    tracker = CompletionTracker(0.25)
    position = tracker.next_position()  # of a folder that appeared and is listed only later
    tracker.record("door/second.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("door/new/first.jpg", FileEventType.FOUND, 1.1, position)
    tracker.record("garage/other.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(tracker) == ["garage/other.jpg"]
    tracker.remove(tracker.complete()[0])
    tracker.update("door/new/first.jpg", state(10), False, 1.1)
    assert tracker.pause(1.2) == pytest.approx(0.15)
    tracker.update("door/new/first.jpg", state(10), False, 1.35)
    assert set(paths(tracker)) == {"door/second.jpg", "door/new/first.jpg"}


@pytest.mark.parametrize("event", [FileEventType.FOUND, FileEventType.WRITTEN])
def test_a_complete_file_does_not_wait_for_one_that_is_being_written(event: FileEventType) -> None:
    tracker = CompletionTracker(0.25, patience=30)
    tracker.record("door/slow.jpg", event, 1.0)
    tracker.update("door/slow.jpg", state(10), True, 1.0)
    tracker.record("door/quick.jpg", FileEventType.COMPLETE, 1.1)
    assert paths(tracker) == ["door/quick.jpg"]


def test_a_complete_file_does_not_wait_for_one_that_appeared_later() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("door/first.jpg", FileEventType.COMPLETE, 1.0)
    tracker.record("door/new/second.jpg", FileEventType.FOUND, 1.0)
    assert paths(tracker) == ["door/first.jpg"]


FLOOD = [f"a/{number}.jpg" for number in range(5)]


def found_and_checked(tracker: CompletionTracker, now: float) -> list[str]:
    """Checks three files, in which nothing has changed."""
    due = tracker.due(now, 3)
    for path in due:
        tracker.update(path, state(10), False, now)
    return due


def test_only_so_many_files_are_checked_at_a_time_of_all_cameras_in_turn() -> None:
    tracker = CompletionTracker(0.25)
    for path in [*FLOOD, "b/0.jpg"]:
        tracker.record(path, FileEventType.FOUND, 0.0)
    assert found_and_checked(tracker, 0.0) == [FLOOD[0], "b/0.jpg", FLOOD[1]]
    assert found_and_checked(tracker, 0.3) == [
        FLOOD[2],
        "b/0.jpg",
        FLOOD[3],
    ]  # the one that is due the longest
    assert paths(tracker) == ["b/0.jpg"]
    assert set(found_and_checked(tracker, 0.4)) == {FLOOD[4], FLOOD[0], FLOOD[1]}


def test_files_that_are_not_all_checked_at_once_are_complete_together() -> None:
    tracker = CompletionTracker(0.25)
    for path in FLOOD:
        tracker.record(path, FileEventType.FOUND, 0.0)
    found_and_checked(tracker, 0.0)
    found_and_checked(tracker, 0.1)
    assert found_and_checked(tracker, 0.3) == FLOOD[:3]
    assert paths(tracker) == []
    for path in ("a/later.jpg", "b/0.jpg"):
        tracker.record(path, FileEventType.FOUND, 0.15)
        tracker.update(path, state(10), False, 0.15)
        tracker.update(path, state(10), False, 0.45)
    assert paths(tracker) == ["a/later.jpg", "b/0.jpg"]
    assert found_and_checked(tracker, 0.5) == FLOOD[3:]
    assert sorted(paths(tracker)) == sorted([*FLOOD, "a/later.jpg", "b/0.jpg"])


def test_a_flood_is_not_held_back_by_a_file_that_is_being_written_or_by_what_arrives_later() -> None:
    """Though there are always more files than are checked."""
    tracker = CompletionTracker(0.25)
    for path in FLOOD:
        tracker.record(path, FileEventType.FOUND, 0.0)
    for now in (0.0, 0.1, 0.3, 0.4):
        tracker.record(f"a/at {now}.jpg", FileEventType.FOUND, now)
        due = tracker.due(now, 3)
        assert len(due) == 3
        for path in due:
            tracker.update(path, state(10), path == FLOOD[0], now)
    for path in ("a/at 0.0.jpg", *FLOOD):
        tracker.update(path, state(10), path == FLOOD[0], 0.5)
    assert set(FLOOD[1:]) <= set(paths(tracker))


def quiet_moments(
    tracker: CompletionTracker, pauses: tuple[float, ...], sizes: tuple[int, ...]
) -> list[float]:
    """How long a file had been unchanged whenever it was complete for the moment. It changes after each of
    the `pauses` in turn, to each of the `sizes` in turn."""
    tracker.record("a.jpg", FileEventType.WRITTEN, 0.0)
    now, changed, changes, moments = 0.0, 0.0, 0, list[float]()
    while now < RESTLESS_SECONDS + LEARN_SECONDS + 20 * sum(pauses):
        now = round(now + 0.02, 2)
        if now - changed >= pauses[changes % len(pauses)]:
            changed, changes = now, changes + 1
        if tracker.due(now, 100):
            tracker.update("a.jpg", state(sizes[changes % len(sizes)], changes), True, now)
        for entry in tracker.complete():
            assert entry.moment is not None
            assert entry.moment.state[1] == changes
            moments.append(now - changed)
            tracker.remove(entry)
            tracker.retry("a.jpg", now)
    return moments


def test_an_overwritten_file_is_complete_in_the_longer_of_its_pauses() -> None:
    moments = quiet_moments(CompletionTracker(0.25), (0.04, 0.04, 0.2), (10,))
    assert moments
    assert min(moments) > 0.04


def test_a_file_that_only_grows_is_not_complete_for_a_moment() -> None:
    """For example one that is uploaded slowly, in the place of an older one."""
    sizes = (9000, 9000, 9000, *range(1000))
    assert quiet_moments(CompletionTracker(0.25), (0.1,), sizes) == []


def test_a_file_that_was_taken_in_does_not_wait_for_what_it_waited_for_before() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.FOUND, 0.0)
    tracker.update("a.jpg", state(0), True, 0.25)
    tracker.wait("a.jpg", 30.0, 0.25)
    assert tracker.due(1.0, 100) == []
    tracker.forget("a.jpg")
    assert tracker.due(1.0, 100) == ["a.jpg"]


def test_a_fast_file_is_complete_at_any_moment_and_only_once_until_it_was_tried() -> None:
    tracker = CompletionTracker(0.25)
    tracker.record("a.jpg", FileEventType.WRITTEN, 0.0)
    times, offers = [round(step * 0.02, 2) for step in range(300)], list[CompleteFile]()
    for change, now in enumerate(times):
        if tracker.due(now, 100):
            tracker.update("a.jpg", state(10, change), True, now)
        for entry in tracker.complete():
            offers.append(entry)
            tracker.remove(entry)
    assert len(offers) == 1
    assert offers[0].moment is not None
    assert offers[0].moment.pause < 0.1
    tracker.retry("a.jpg", times[-1])
    tracker.update("a.jpg", state(10, -1), True, times[-1] + 1.0)
    assert len(tracker.complete()) == 1
    tracker.record("a.jpg", FileEventType.WRITTEN, times[-1] + 2.0)  # before anybody has tried it
    assert tracker.complete() == []
    tracker.update("a.jpg", state(10, -2), True, times[-1] + 2.0)
    assert len(tracker.complete()) == 1


def test_a_restless_file_may_be_away_for_a_moment() -> None:
    """As one that is deleted and made anew."""
    tracker = CompletionTracker(0.25)
    assert quiet_moments(tracker, (0.2,), (10,))
    tracker.update("a.jpg", None, False, 100.0)
    assert len(tracker) == 1
    tracker.update("a.jpg", None, False, 100.02)
    assert len(tracker) == 0


def test_a_file_that_was_taken_in_settles_as_any_other() -> None:
    tracker = CompletionTracker(0.25)
    assert quiet_moments(tracker, (0.2,), (10,))
    tracker.forget("a.jpg")
    tracker.record("a.jpg", FileEventType.COMPLETE, 100.0)
    assert [entry.moment for entry in tracker.complete()] == [None]
