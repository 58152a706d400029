"""Requests for another assessment of an event."""

from datetime import timedelta
from uuid import UUID

import pytest

from store_svc.domain.event import ASSESSED, FAILED, PENDING
from store_svc.domain.job import REQUEST_ATTEMPTS, REQUESTED, URGENT, retry_after
from tests.support.queued_events import (
    FAILURE,
    IDS,
    LATER,
    NOON,
    OTHER,
    REQUEST,
    answer_of,
    assessment_of,
    closed_and_assessed,
    frame,
    frames,
    is_leased,
    job_of,
    lease,
    opened,
)


class TestRequestAssessment:
    def test_is_due_before_all_others_and_no_change_that_clients_see(self) -> None:
        queued = closed_and_assessed()
        revision = queued.event.revision
        queued.request_assessment(REQUEST, LATER)
        assert job_of(queued).due_at == LATER
        assert job_of(queued).priority == REQUESTED
        assert job_of(queued).request == REQUEST
        assert REQUESTED > URGENT
        assert queued.event.status == ASSESSED
        assert queued.event.revision == revision
        assert queued.event.severity == 2

    def test_ends_the_pause_of_the_job(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.record_failure(FAILURE, queued.event.evidence_digest, NOON)
        queued.request_assessment(REQUEST, NOON)
        assert job_of(queued).due_at == NOON

    def test_its_answer_replaces_an_assessment_of_the_same_evidence(self) -> None:
        queued = closed_and_assessed()
        revision = queued.event.revision
        queued.request_assessment(REQUEST, LATER)
        assert queued.apply_assessment(answer_of(queued, severity=4))
        assert queued.event.assessment_id == UUID(int=2)
        assert queued.event.severity == 4
        assert queued.event.revision == revision + 1
        assert queued.job is None

    def test_is_answered_once(self) -> None:
        """A worker may publish its answer twice, and another worker may publish one late."""
        queued = closed_and_assessed()
        queued.request_assessment(REQUEST, LATER)
        first = answer_of(queued)
        queued.apply_assessment(first)
        queued.request_assessment(OTHER, LATER)
        queued.apply_assessment(answer_of(queued, 3, request_id=OTHER.id))
        for late in (first, answer_of(queued, 4)):
            assert not queued.apply_assessment(late)
            assert queued.event.assessment_id == UUID(int=3)

    def test_keeps_waiting_after_a_late_answer_to_the_request_before(self) -> None:
        queued = closed_and_assessed()
        queued.request_assessment(OTHER, LATER)
        assert not queued.apply_assessment(answer_of(queued))
        assert queued.event.assessment_id == UUID(int=1)
        assert job_of(queued).request == OTHER
        assert job_of(queued).due_at == LATER

    def test_is_ended_by_an_answer_of_older_evidence_which_does_not_become_current(self) -> None:
        queued = opened()
        old = answer_of(queued)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        queued.request_assessment(REQUEST, LATER)
        queued.apply_assessment(assessment_of(queued, 1))
        revision = queued.event.revision
        assert queued.apply_assessment(old)
        assert (queued.event.assessment_id, queued.event.revision) == (UUID(int=1), revision)
        assert queued.job is None

    def test_its_answer_of_this_evidence_wins_over_a_higher_revision_of_an_earlier_database(self) -> None:
        queued = closed_and_assessed()
        queued.event.assessed_revision = 9
        queued.request_assessment(REQUEST, LATER)
        queued.apply_assessment(answer_of(queued))
        assert (queued.event.assessment_id, queued.event.assessed_revision) == (UUID(int=2), 9)

    def test_keeps_waiting_after_an_assessment_that_was_under_way(self) -> None:
        queued = opened()
        queued.close(NOON)
        lease(queued)
        queued.request_assessment(REQUEST, LATER)
        assert is_leased(queued)
        assert queued.apply_assessment(assessment_of(queued))
        assert queued.event.status == ASSESSED
        assert queued.event.assessment_id == UUID(int=1)
        assert not is_leased(queued)
        assert job_of(queued).request == REQUEST
        assert job_of(queued).due_at == LATER
        assert job_of(queued).priority == REQUESTED

    def test_keeps_waiting_while_frames_join(self) -> None:
        queued = closed_and_assessed()
        queued.request_assessment(REQUEST, LATER)
        queued.add_frames(frames(frame(1, urgent=True)), IDS[:1], LATER)
        assert (job_of(queued).request, job_of(queued).priority) == (REQUEST, REQUESTED)
        queued.apply_assessment(answer_of(queued))
        assert queued.job is None
        queued.close(LATER)
        assert queued.job is None

    def test_its_answer_of_older_evidence_keeps_the_job_of_a_closed_event(self) -> None:
        queued = closed_and_assessed()
        queued.request_assessment(REQUEST, LATER)
        old = answer_of(queued)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        queued.apply_assessment(old)
        assert queued.event.assessment_id == UUID(int=2)
        assert job_of(queued).request is None
        assert job_of(queued).priority == 0
        assert job_of(queued).due_at == LATER

    def test_a_failed_attempt_is_retried_and_the_event_stays_assessed(self) -> None:
        queued = closed_and_assessed()
        revision = queued.event.revision
        queued.request_assessment(REQUEST, LATER)
        lease(queued)
        assert queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert queued.event.status == ASSESSED
        assert queued.event.revision == revision
        assert not is_leased(queued)
        assert job_of(queued).request == REQUEST
        assert job_of(queued).attempts == 1
        assert job_of(queued).due_at == LATER + timedelta(seconds=1)

    def test_replaces_a_waiting_request_and_ends_its_lease(self) -> None:
        queued = closed_and_assessed()
        queued.request_assessment(REQUEST, NOON)
        queued.record_failure(FAILURE, queued.event.evidence_digest, NOON)
        lease(queued)
        queued.request_assessment(OTHER, LATER)
        assert job_of(queued).request == OTHER
        assert job_of(queued).due_at == LATER
        assert job_of(queued).waiting_since == NOON
        assert job_of(queued).priority == REQUESTED
        assert job_of(queued).attempts == 0
        assert not is_leased(queued)
        assert not queued.apply_assessment(answer_of(queued))

    @pytest.mark.parametrize("urgent", [True, False])
    def test_has_no_priority_after_a_failed_attempt(self, urgent: bool) -> None:
        queued = opened(frame(0, urgent=urgent))
        queued.close(NOON)
        queued.request_assessment(REQUEST, LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert (job_of(queued).request, job_of(queued).priority) == (REQUEST, URGENT if urgent else 0)

    def test_is_given_up_after_some_failed_attempts(self) -> None:
        queued = closed_and_assessed()
        queued.request_assessment(REQUEST, LATER)
        for attempt in range(1, REQUEST_ATTEMPTS):
            queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
            assert (job_of(queued).request, job_of(queued).attempts) == (REQUEST, attempt)
        lease(queued)
        assert queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert queued.job is None
        assert (queued.event.status, queued.event.assessment_id) == (ASSESSED, UUID(int=1))

    def test_counts_its_own_attempts_and_leaves_an_event_without_assessment_its_retries(self) -> None:
        queued = opened(frame(0, urgent=True))
        for _ in range(REQUEST_ATTEMPTS):
            queued.record_failure(FAILURE, queued.event.evidence_digest, NOON)
        queued.request_assessment(REQUEST, LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert (job_of(queued).request, job_of(queued).attempts) == (REQUEST, 1)
        for _ in range(1, REQUEST_ATTEMPTS):
            queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert job_of(queued).request is None
        assert queued.event.status == FAILED
        assert job_of(queued).waiting_since == NOON
        assert job_of(queued).due_at == LATER + retry_after(REQUEST_ATTEMPTS)

    def test_a_failed_attempt_is_visible_if_this_evidence_is_not_assessed(self) -> None:
        queued = opened()
        queued.close(NOON)
        queued.request_assessment(REQUEST, LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert (queued.event.status, job_of(queued).request) == (FAILED, REQUEST)


class TestGiveUpRequest:
    def test_leaves_an_assessed_event_unchanged(self) -> None:
        queued = closed_and_assessed()
        before = (
            queued.event.status,
            queued.event.revision,
            queued.event.assessment_id,
            queued.job,
        )
        queued.request_assessment(REQUEST, LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert queued.give_up_request(FAILURE, REQUEST.id)
        after = (
            queued.event.status,
            queued.event.revision,
            queued.event.assessment_id,
            queued.job,
        )
        assert after == before
        assert queued.event.failure_id == FAILURE
        queued.request_assessment(OTHER, LATER)
        queued.apply_assessment(answer_of(queued, request_id=OTHER.id))
        assert queued.event.failure_id is None

    @pytest.mark.parametrize("closed", [True, False])
    def test_leaves_an_event_without_assessment_due(self, closed: bool) -> None:
        """It is due by its closing or by the fast path."""
        queued = opened(frame(0, urgent=not closed))
        if closed:
            queued.close(NOON)
        priority = job_of(queued).priority
        queued.request_assessment(REQUEST, LATER)
        queued.give_up_request(FAILURE, REQUEST.id)
        assert queued.event.status == PENDING
        assert job_of(queued).due_at == LATER
        assert job_of(queued).priority == priority
        assert job_of(queued).attempts == 0

    def test_leaves_an_open_event_without_a_job(self) -> None:
        queued = opened()
        queued.request_assessment(REQUEST, LATER)
        queued.give_up_request(FAILURE, REQUEST.id)
        assert (queued.event.status, queued.job) == (PENDING, None)

    def test_ignores_a_request_that_does_not_wait(self) -> None:
        queued = closed_and_assessed()
        assert not queued.give_up_request(FAILURE, REQUEST.id)
        queued.request_assessment(OTHER, LATER)
        lease(queued)
        assert not queued.give_up_request(FAILURE, REQUEST.id)
        assert job_of(queued).request == OTHER
        assert job_of(queued).due_at == LATER
        assert is_leased(queued)
