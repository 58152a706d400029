"""An event's life."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from store_svc.event import ASSESSED, FAILED, PENDING, Addition, Growth, Judgement, StoredEvent, retry_after
from store_svc.evidence import digest

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=40)
IDS = [UUID(int=n) for n in range(10)]


def addition(n: int, at: int = 0, urgent: bool = False, label: str = "person") -> Addition:
    return Addition(at, (IDS[n],), frozenset({label}), urgent, True)


def growth(*additions: Addition, zone: str = "UTC") -> Growth:
    return Growth(additions, zone, 3)


def event(*additions: Addition) -> StoredEvent:
    new = StoredEvent(UUID(int=99), "front", 0, 0, (), NOON)
    new.grow(growth(*(additions or [addition(0)])), [], NOON)
    return new


def judgement(of: StoredEvent, id: int = 1, **changes: object) -> Judgement:
    fields = {"evidence_revision": of.evidence_revision, "evidence_digest": of.evidence_digest}
    return Judgement(**({"id": UUID(int=id), "severity": 2, "body": b"b", **fields} | changes))  # type: ignore[arg-type]


class TestGrow:
    def test_begins_pending_at_revision_1_and_not_due(self) -> None:
        new = event(addition(0, 5), addition(1, 3, label="car"))
        assert (new.status, new.revision, new.due_at, new.closed) == (PENDING, 1, None, False)
        assert (new.detection_count, new.media_count, new.labels) == (2, 2, frozenset({"person", "car"}))
        assert new.evidence_digest == digest(IDS[:2], (), "UTC")

    def test_counts_one_revision_however_much_joins(self) -> None:
        grown = event()
        grown.grow(growth(addition(1, -7), addition(2, 9)), [IDS[0]], LATER)
        assert (grown.revision, grown.evidence_revision, grown.detection_count) == (2, 2, 3)
        assert (grown.started_at, grown.ended_at, grown.last_recorded_at) == (-7, 9, LATER)
        assert grown.evidence_digest == digest(IDS[:3], (), "UTC")

    def test_urgent_makes_due_at_once_and_once_only(self) -> None:
        grown = event(addition(0, urgent=True))
        assert grown.due_at == NOON
        grown.judge(judgement(grown))
        grown.grow(growth(addition(1, urgent=True)), IDS[:1], LATER)
        assert grown.due_at is None

    def test_reopens_and_closing_asks_again(self) -> None:
        grown = event()
        grown.close(LATER)
        grown.judge(judgement(grown))
        grown.grow(growth(addition(1)), IDS[:1], LATER)
        assert (grown.closed, grown.due_at, grown.status) == (False, None, ASSESSED)
        grown.close(LATER)
        assert grown.due_at == LATER

    def test_takes_the_time_zone_of_then(self) -> None:
        grown = event()
        grown.grow(growth(addition(1), zone="Asia/Tokyo"), IDS[:1], LATER)
        assert grown.evidence_digest == digest(IDS[:2], (), "Asia/Tokyo")


class TestClose:
    def test_makes_due(self) -> None:
        closed = event()
        closed.close(LATER)
        assert (closed.closed, closed.due_at, closed.revision) == (True, LATER, 2)

    def test_not_where_this_evidence_was_judged(self) -> None:
        closed = event(addition(0, urgent=True))
        closed.judge(judgement(closed))
        closed.close(LATER)
        assert (closed.closed, closed.due_at) == (True, None)

    def test_leaves_a_judgement_that_is_under_way(self) -> None:
        closed = event(addition(0, urgent=True))
        closed.close(LATER)
        assert closed.due_at == NOON


class TestJudge:
    def test_is_taken(self) -> None:
        judged = event()
        judged.close(LATER)
        assert judged.judge(judgement(judged))
        assert (judged.status, judged.severity, judged.assessment) == (ASSESSED, 2, b"b")
        assert (judged.assessment_id, judged.due_at, judged.released) == (UUID(int=1), None, True)

    def test_highest_evidence_revision_wins_in_any_order(self) -> None:
        judged = event()
        old = judgement(judged, 1)
        judged.grow(growth(addition(1)), IDS[:1], LATER)
        new = judgement(judged, 2)
        assert judged.judge(new)
        assert not judged.judge(old)
        assert judged.assessment_id == new.id

    def test_the_first_of_one_evidence_stays(self) -> None:
        judged = event()
        assert judged.judge(judgement(judged, 1))
        assert not judged.judge(judgement(judged, 2))
        assert judged.assessment_id == UUID(int=1)

    def test_of_older_evidence_leaves_a_closed_event_due(self) -> None:
        judged = event(addition(0, urgent=True))
        old = judgement(judged)
        judged.grow(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        assert judged.judge(old)
        assert (judged.status, judged.due_at, judged.released) == (ASSESSED, NOON, True)

    def test_of_older_evidence_leaves_an_open_event_to_its_closing(self) -> None:
        judged = event(addition(0, urgent=True))
        old = judgement(judged)
        judged.grow(growth(addition(1)), IDS[:1], LATER)
        judged.judge(old)
        assert judged.due_at is None
        judged.close(LATER)
        assert judged.due_at == LATER

    def test_of_this_evidence_counts_even_with_a_revision_of_an_earlier_life(self) -> None:
        judged = event()
        judged.judge(judgement(judged, 1, evidence_digest="older", evidence_revision=9))
        judged.close(LATER)
        assert judged.judge(judgement(judged, 2, evidence_revision=1))
        assert (judged.assessment_id, judged.due_at, judged.assessed_revision) == (UUID(int=2), None, 9)


class TestFail:
    def test_waits_longer_each_time(self) -> None:
        failed = event(addition(0, urgent=True))
        for attempts, seconds in ((1, 1), (2, 2), (3, 4)):
            assert failed.fail(failed.evidence_digest, LATER)
            assert (failed.status, failed.attempts) == (FAILED, attempts)
            assert failed.due_at == LATER + timedelta(seconds=seconds)

    def test_a_success_ends_it(self) -> None:
        failed = event(addition(0, urgent=True))
        failed.fail(failed.evidence_digest, LATER)
        failed.judge(judgement(failed))
        assert (failed.status, failed.attempts, failed.due_at) == (ASSESSED, 0, None)

    def test_does_not_matter_after_a_judgement_of_the_same_evidence(self) -> None:
        judged = event(addition(0, urgent=True))
        judged.judge(judgement(judged))
        judged.grow(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        assert not judged.fail(judged.assessed_digest or "", LATER)
        assert (judged.status, judged.attempts) == (ASSESSED, 0)

    def test_does_not_matter_where_nothing_is_due(self) -> None:
        idle = event()
        assert not idle.fail(idle.evidence_digest, LATER)
        assert (idle.status, idle.due_at) == (PENDING, None)

    def test_keeps_the_risk(self) -> None:
        judged = event()
        judged.judge(judgement(judged))
        judged.grow(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        judged.fail(judged.evidence_digest, LATER)
        assert (judged.status, judged.severity, judged.assessment) == (FAILED, 2, b"b")


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (9, 256), (10, 300), (1_000_000, 300)])
def test_retry_after_doubles_up_to_a_bound(attempts: int, seconds: int) -> None:
    assert retry_after(attempts) == timedelta(seconds=seconds)
