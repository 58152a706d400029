"""An event's life, and that of its job."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from store_svc.domain.event import (
    ASSESSED,
    FAILED,
    PENDING,
    AddedFrame,
    AddedFrames,
    StoredAssessment,
    StoredEvent,
)
from store_svc.domain.evidence import evidence_digest
from store_svc.domain.job import REQUEST_ATTEMPTS, REQUESTED, URGENT, Job, Request, retry_after
from store_svc.domain.queued_event import QueuedEvent
from store_svc.times import moment

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=40)
IDS = [UUID(int=n) for n in range(10)]
FAILURE = UUID(int=61)


def addition(n: int, at: int = 0, urgent: bool = False, label: str = "person") -> AddedFrame:
    return AddedFrame(at, (IDS[n],), frozenset({label}), urgent, True)


def growth(*additions: AddedFrame, zone: str = "UTC") -> AddedFrames:
    return AddedFrames(additions, zone, 3)


def event(*additions: AddedFrame) -> QueuedEvent:
    new = QueuedEvent(StoredEvent(UUID(int=99), "front", 0, 0, (), NOON))
    new.add_frames(growth(*(additions or [addition(0)])), [], NOON)
    return new


def work(of: QueuedEvent) -> Job:
    """Its job, which must be there."""
    assert of.job is not None
    return of.job


def hold(of: QueuedEvent) -> None:
    """A worker leases its job."""
    work(of).lease_id, work(of).leased_until = UUID(int=81), LATER


def held(of: QueuedEvent) -> bool:
    return (work(of).lease_id, work(of).leased_until) != (None, None)


def judgement(of: QueuedEvent, id: int = 1, **changes: object) -> StoredAssessment:
    fields = {"evidence_revision": of.event.evidence_revision, "evidence_digest": of.event.evidence_digest}
    return StoredAssessment(**({"id": UUID(int=id), "severity": 2, "body": b"b", **fields} | changes))  # type: ignore[arg-type]


class TestGrow:
    def test_begins_pending_at_revision_1_and_not_due(self) -> None:
        new = event(addition(0, 5), addition(1, 3, label="car"))
        assert (new.event.status, new.event.revision, new.job, new.event.closed) == (PENDING, 1, None, False)
        assert (new.event.detection_count, new.event.media_count, new.event.labels) == (
            2,
            2,
            frozenset({"person", "car"}),
        )
        assert new.event.evidence_digest == evidence_digest(IDS[:2], (), "UTC")

    def test_counts_one_revision_however_much_joins(self) -> None:
        grown = event()
        grown.add_frames(growth(addition(1, -7), addition(2, 9)), [IDS[0]], LATER)
        assert (grown.event.revision, grown.event.evidence_revision, grown.event.detection_count) == (2, 2, 3)
        assert (grown.event.started_at, grown.event.ended_at, grown.event.last_recorded_at) == (-7, 9, LATER)
        assert grown.event.evidence_digest == evidence_digest(IDS[:3], (), "UTC")

    def test_urgent_makes_due_at_once_and_once_only(self) -> None:
        grown = event(addition(0, urgent=True))
        assert work(grown).due_at == NOON
        grown.apply_assessment(judgement(grown))
        grown.add_frames(growth(addition(1, urgent=True)), IDS[:1], LATER)
        assert grown.job is None

    def test_reopens_and_closing_asks_again(self) -> None:
        grown = event()
        grown.close(LATER)
        grown.apply_assessment(judgement(grown))
        grown.add_frames(growth(addition(1)), IDS[:1], LATER)
        assert (grown.event.closed, grown.job, grown.event.status) == (False, None, ASSESSED)
        grown.close(LATER)
        assert (work(grown).due_at, work(grown).waiting_since) == (LATER, LATER)

    def test_takes_the_time_zone_of_then(self) -> None:
        grown = event()
        grown.add_frames(growth(addition(1), zone="Asia/Tokyo"), IDS[:1], LATER)
        assert grown.event.evidence_digest == evidence_digest(IDS[:2], (), "Asia/Tokyo")

    def test_its_job_goes_with_it(self) -> None:
        grown = QueuedEvent(StoredEvent(UUID(int=99), "front", 9, 9, (), NOON))
        grown.add_frames(growth(addition(0, 9, urgent=True)), [], NOON)
        assert (work(grown).rank_time, work(grown).input_digest) == (moment(9), grown.event.evidence_digest)
        hold(grown)
        grown.add_frames(growth(addition(1, at=-7)), IDS[:1], LATER)
        assert (work(grown).rank_time, work(grown).input_digest) == (moment(-7), grown.event.evidence_digest)
        assert (work(grown).due_at, held(grown)) == (NOON, True)


class TestClose:
    def test_makes_due(self) -> None:
        closed = event()
        closed.close(LATER)
        assert (closed.event.closed, work(closed).due_at, closed.event.revision) == (True, LATER, 2)

    def test_not_where_this_evidence_was_judged(self) -> None:
        closed = event(addition(0, urgent=True))
        closed.apply_assessment(judgement(closed))
        closed.close(LATER)
        assert (closed.event.closed, closed.job) == (True, None)

    def test_leaves_a_judgement_that_is_under_way(self) -> None:
        closed = event(addition(0, urgent=True))
        closed.close(LATER)
        assert work(closed).due_at == NOON


class TestJudge:
    def test_is_taken(self) -> None:
        judged = event()
        judged.close(LATER)
        assert judged.apply_assessment(judgement(judged))
        assert (judged.event.status, judged.event.severity, judged.event.assessment) == (ASSESSED, 2, b"b")
        assert (judged.event.assessment_id, judged.job) == (UUID(int=1), None)

    def test_highest_evidence_revision_wins_in_any_order(self) -> None:
        judged = event()
        old = judgement(judged, 1)
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        new = judgement(judged, 2)
        assert judged.apply_assessment(new)
        assert not judged.apply_assessment(old)
        assert judged.event.assessment_id == new.id

    def test_the_first_of_one_evidence_stays(self) -> None:
        judged = event()
        assert judged.apply_assessment(judgement(judged, 1))
        assert not judged.apply_assessment(judgement(judged, 2))
        assert judged.event.assessment_id == UUID(int=1)

    def test_of_older_evidence_leaves_a_closed_event_due(self) -> None:
        judged = event(addition(0, urgent=True))
        old = judgement(judged)
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        hold(judged)
        assert judged.apply_assessment(old)
        assert (judged.event.status, work(judged).due_at, held(judged)) == (ASSESSED, NOON, False)

    def test_of_older_evidence_forgets_the_failures(self) -> None:
        judged = event(addition(0, urgent=True))
        old = judgement(judged)
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        judged.record_failure(FAILURE, judged.event.evidence_digest, LATER)
        work(judged).hastened = True
        assert (work(judged).failed, work(judged).attempts) == (True, 1)
        judged.apply_assessment(old)
        assert (work(judged).failed, work(judged).attempts, work(judged).hastened) == (False, 0, False)

    def test_of_older_evidence_leaves_an_open_event_to_its_closing(self) -> None:
        judged = event(addition(0, urgent=True))
        old = judgement(judged)
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        judged.apply_assessment(old)
        assert judged.job is None
        judged.close(LATER)
        assert work(judged).due_at == LATER

    def test_of_this_evidence_counts_even_with_a_revision_of_an_earlier_life(self) -> None:
        judged = event()
        judged.apply_assessment(judgement(judged, 1, evidence_digest="older", evidence_revision=9))
        judged.close(LATER)
        assert judged.apply_assessment(judgement(judged, 2, evidence_revision=1))
        assert (judged.event.assessment_id, judged.job, judged.event.assessed_revision) == (
            UUID(int=2),
            None,
            9,
        )


class TestFail:
    def test_waits_longer_each_time(self) -> None:
        failed = event(addition(0, urgent=True))
        for attempts, seconds in ((1, 1), (2, 2), (3, 4)):
            assert failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
            assert (failed.event.status, work(failed).attempts) == (FAILED, attempts)
            assert work(failed).due_at == LATER + timedelta(seconds=seconds)

    def test_has_waited_all_the_while(self) -> None:
        failed = event(addition(0, urgent=True))
        failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
        failed.request_assessment(REQUEST, LATER)
        failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
        failed.give_up_request(FAILURE, REQUEST.id)
        assert work(failed).waiting_since == NOON
        failed.apply_assessment(judgement(failed))
        assert failed.job is None

    def test_only_the_first_is_a_change_that_people_see(self) -> None:
        failed = event(addition(0, urgent=True))
        before = failed.event.revision
        for _ in range(3):
            assert failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
            assert failed.event.revision == before + 1
        failed.apply_assessment(judgement(failed))
        failed.add_frames(growth(addition(1)), IDS[:1], LATER)
        failed.close(LATER)
        before = failed.event.revision
        failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
        assert (failed.event.status, failed.event.revision) == (FAILED, before + 1)

    def test_the_last_one_is_remembered_until_a_success(self) -> None:
        failed = event(addition(0, urgent=True))
        assert failed.event.failure_id is None
        for n in (1, 2):
            failed.record_failure(UUID(int=n), failed.event.evidence_digest, LATER)
            assert failed.event.failure_id == UUID(int=n)
        failed.add_frames(growth(addition(1)), IDS[:1], LATER)
        assert failed.event.failure_id == UUID(int=2)
        failed.apply_assessment(judgement(failed))
        assert failed.event.failure_id is None
        assert not failed.record_failure(UUID(int=3), failed.event.evidence_digest, LATER)
        assert failed.event.failure_id is None

    def test_a_success_ends_it(self) -> None:
        failed = event(addition(0, urgent=True))
        failed.record_failure(FAILURE, failed.event.evidence_digest, LATER)
        work(failed).hastened = True
        failed.apply_assessment(judgement(failed))
        assert (failed.event.status, failed.job) == (ASSESSED, None)

    def test_does_not_matter_after_a_judgement_of_the_same_evidence(self) -> None:
        judged = event(addition(0, urgent=True))
        judged.apply_assessment(judgement(judged))
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        assert not judged.record_failure(FAILURE, judged.event.assessed_digest or "", LATER)
        assert (judged.event.status, work(judged).attempts) == (ASSESSED, 0)

    def test_does_not_matter_where_nothing_is_due(self) -> None:
        idle = event()
        assert not idle.record_failure(FAILURE, idle.event.evidence_digest, LATER)
        assert (idle.event.status, idle.job) == (PENDING, None)

    def test_keeps_the_risk(self) -> None:
        judged = event()
        judged.apply_assessment(judgement(judged))
        judged.add_frames(growth(addition(1)), IDS[:1], LATER)
        judged.close(LATER)
        judged.record_failure(FAILURE, judged.event.evidence_digest, LATER)
        assert (judged.event.status, judged.event.severity, judged.event.assessment) == (FAILED, 2, b"b")


REQUEST = Request(UUID(int=71), "another", "v2")
OTHER = Request(UUID(int=72))


def settled() -> QueuedEvent:
    """Closed and judged (by assessment 1): nothing is due."""
    done = event()
    done.close(NOON)
    done.apply_assessment(judgement(done))
    return done


def answer(of: QueuedEvent, id: int = 2, **changes: object) -> StoredAssessment:
    return judgement(of, id, **({"request_id": REQUEST.id} | changes))


class TestAsk:
    def test_makes_due_before_all_others_and_is_no_change_that_people_see(self) -> None:
        asked = settled()
        revision = asked.event.revision
        asked.request_assessment(REQUEST, LATER)
        assert (work(asked).due_at, work(asked).priority, work(asked).request) == (LATER, REQUESTED, REQUEST)
        assert REQUESTED > URGENT
        assert (asked.event.status, asked.event.revision, asked.event.severity) == (ASSESSED, revision, 2)

    def test_waits_no_longer_for_a_retry(self) -> None:
        asked = event(addition(0, urgent=True))
        asked.record_failure(FAILURE, asked.event.evidence_digest, NOON)
        asked.request_assessment(REQUEST, NOON)
        assert work(asked).due_at == NOON

    def test_the_answer_takes_over_from_a_judgement_of_the_same_evidence(self) -> None:
        asked = settled()
        revision = asked.event.revision
        asked.request_assessment(REQUEST, LATER)
        assert asked.apply_assessment(answer(asked, severity=4))
        assert (asked.event.assessment_id, asked.event.severity, asked.event.revision) == (
            UUID(int=2),
            4,
            revision + 1,
        )
        assert asked.job is None

    def test_once(self) -> None:
        """A worker may tell the same twice, or another one tell it late: that takes over from nobody."""
        asked = settled()
        asked.request_assessment(REQUEST, LATER)
        first = answer(asked)
        asked.apply_assessment(first)
        asked.request_assessment(OTHER, LATER)
        asked.apply_assessment(answer(asked, 3, request_id=OTHER.id))
        for late in (first, answer(asked, 4)):
            assert not asked.apply_assessment(late)
            assert asked.event.assessment_id == UUID(int=3)

    def test_a_late_answer_to_one_before_leaves_the_next_waiting(self) -> None:
        asked = settled()
        asked.request_assessment(OTHER, LATER)
        assert not asked.apply_assessment(answer(asked))
        assert (asked.event.assessment_id, work(asked).request, work(asked).due_at) == (
            UUID(int=1),
            OTHER,
            LATER,
        )

    def test_never_over_newer_evidence_but_it_is_answered(self) -> None:
        asked = event()
        old = answer(asked)
        asked.add_frames(growth(addition(1)), IDS[:1], LATER)
        asked.close(LATER)
        asked.request_assessment(REQUEST, LATER)
        asked.apply_assessment(judgement(asked, 1))
        revision = asked.event.revision
        assert asked.apply_assessment(old)
        assert (asked.event.assessment_id, asked.event.revision) == (UUID(int=1), revision)
        assert asked.job is None

    def test_of_this_evidence_takes_over_whatever_revisions_an_earlier_life_gave(self) -> None:
        asked = settled()
        asked.event.assessed_revision = 9
        asked.request_assessment(REQUEST, LATER)
        asked.apply_assessment(answer(asked))
        assert (asked.event.assessment_id, asked.event.assessed_revision) == (UUID(int=2), 9)

    def test_a_judgement_that_was_under_way_leaves_it_waiting(self) -> None:
        asked = event()
        asked.close(NOON)
        hold(asked)
        asked.request_assessment(REQUEST, LATER)
        assert held(asked)
        assert asked.apply_assessment(judgement(asked))
        assert (asked.event.status, asked.event.assessment_id, held(asked)) == (ASSESSED, UUID(int=1), False)
        assert (work(asked).request, work(asked).due_at, work(asked).priority) == (REQUEST, LATER, REQUESTED)

    def test_rides_on_as_the_event_grows(self) -> None:
        asked = settled()
        asked.request_assessment(REQUEST, LATER)
        asked.add_frames(growth(addition(1, urgent=True)), IDS[:1], LATER)
        assert (work(asked).request, work(asked).priority) == (REQUEST, REQUESTED)
        asked.apply_assessment(answer(asked))
        assert asked.job is None
        asked.close(LATER)
        assert asked.job is None

    def test_an_answer_of_outgrown_evidence_leaves_a_closed_event_due(self) -> None:
        asked = settled()
        asked.request_assessment(REQUEST, LATER)
        old = answer(asked)
        asked.add_frames(growth(addition(1)), IDS[:1], LATER)
        asked.close(LATER)
        asked.apply_assessment(old)
        assert (asked.event.assessment_id, work(asked).request, work(asked).priority) == (
            UUID(int=2),
            None,
            0,
        )
        assert work(asked).due_at == LATER

    def test_a_failed_attempt_is_tried_again_and_the_event_stays_judged(self) -> None:
        asked = settled()
        revision = asked.event.revision
        asked.request_assessment(REQUEST, LATER)
        hold(asked)
        assert asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert (asked.event.status, asked.event.revision, held(asked)) == (ASSESSED, revision, False)
        assert (work(asked).request, work(asked).attempts, work(asked).due_at) == (
            REQUEST,
            1,
            LATER + timedelta(seconds=1),
        )

    def test_replaces_one_that_waits_and_ends_its_lease(self) -> None:
        asked = settled()
        asked.request_assessment(REQUEST, NOON)
        asked.record_failure(FAILURE, asked.event.evidence_digest, NOON)
        hold(asked)
        asked.request_assessment(OTHER, LATER)
        assert (work(asked).request, work(asked).due_at, work(asked).waiting_since) == (OTHER, LATER, NOON)
        assert (work(asked).priority, work(asked).attempts, held(asked)) == (REQUESTED, 0, False)
        assert not asked.apply_assessment(answer(asked))

    @pytest.mark.parametrize("urgent", [True, False])
    def test_nobody_waits_for_what_failed_once(self, urgent: bool) -> None:
        asked = event(addition(0, urgent=urgent))
        asked.close(NOON)
        asked.request_assessment(REQUEST, LATER)
        asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert (work(asked).request, work(asked).priority) == (REQUEST, URGENT if urgent else 0)

    def test_ends_after_some_failed_attempts(self) -> None:
        asked = settled()
        asked.request_assessment(REQUEST, LATER)
        for attempt in range(1, REQUEST_ATTEMPTS):
            asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
            assert (work(asked).request, work(asked).attempts) == (REQUEST, attempt)
        hold(asked)
        assert asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert asked.job is None
        assert (asked.event.status, asked.event.assessment_id) == (ASSESSED, UUID(int=1))

    def test_ends_after_attempts_of_its_own_and_leaves_an_unjudged_event_its_retries(self) -> None:
        asked = event(addition(0, urgent=True))
        for _ in range(REQUEST_ATTEMPTS):
            asked.record_failure(FAILURE, asked.event.evidence_digest, NOON)
        asked.request_assessment(REQUEST, LATER)
        asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert (work(asked).request, work(asked).attempts) == (REQUEST, 1)
        for _ in range(1, REQUEST_ATTEMPTS):
            asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert (work(asked).request, asked.event.status, work(asked).waiting_since) == (None, FAILED, NOON)
        assert work(asked).due_at == LATER + retry_after(REQUEST_ATTEMPTS)

    def test_a_failed_attempt_is_seen_where_nobody_judged_this_evidence(self) -> None:
        asked = event()
        asked.close(NOON)
        asked.request_assessment(REQUEST, LATER)
        asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert (asked.event.status, work(asked).request) == (FAILED, REQUEST)


class TestGiveUp:
    def test_leaves_the_event_as_it_was(self) -> None:
        asked = settled()
        before = (
            asked.event.status,
            asked.event.revision,
            asked.event.assessment_id,
            asked.job,
        )
        asked.request_assessment(REQUEST, LATER)
        asked.record_failure(FAILURE, asked.event.evidence_digest, LATER)
        assert asked.give_up_request(FAILURE, REQUEST.id)
        after = (
            asked.event.status,
            asked.event.revision,
            asked.event.assessment_id,
            asked.job,
        )
        assert after == before
        assert asked.event.failure_id == FAILURE
        asked.request_assessment(OTHER, LATER)
        asked.apply_assessment(answer(asked, request_id=OTHER.id))
        assert asked.event.failure_id is None

    @pytest.mark.parametrize("closed", [True, False])
    def test_leaves_an_unjudged_event_due_if_it_was(self, closed: bool) -> None:
        """By its closing, or by the fast path."""
        asked = event(addition(0, urgent=not closed))
        if closed:
            asked.close(NOON)
        priority = work(asked).priority
        asked.request_assessment(REQUEST, LATER)
        asked.give_up_request(FAILURE, REQUEST.id)
        assert (asked.event.status, work(asked).due_at, work(asked).priority, work(asked).attempts) == (
            PENDING,
            LATER,
            priority,
            0,
        )

    def test_leaves_an_open_event_to_its_closing(self) -> None:
        asked = event()
        asked.request_assessment(REQUEST, LATER)
        asked.give_up_request(FAILURE, REQUEST.id)
        assert (asked.event.status, asked.job) == (PENDING, None)

    def test_of_another_request_is_nothing(self) -> None:
        asked = settled()
        assert not asked.give_up_request(FAILURE, REQUEST.id)
        asked.request_assessment(OTHER, LATER)
        hold(asked)
        assert not asked.give_up_request(FAILURE, REQUEST.id)
        assert (work(asked).request, work(asked).due_at, held(asked)) == (OTHER, LATER, True)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (9, 256), (10, 300), (1_000_000, 300)])
def test_retry_after_doubles_up_to_a_bound(attempts: int, seconds: int) -> None:
    assert retry_after(attempts) == timedelta(seconds=seconds)
