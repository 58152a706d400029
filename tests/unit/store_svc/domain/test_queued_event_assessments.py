"""Assessments of an event and failed attempts, with what they do to its job."""

from datetime import timedelta
from uuid import UUID

from store_svc.domain.event import ASSESSED, FAILED, PENDING
from tests.support.queued_events import (
    FAILURE,
    IDS,
    LATER,
    NOON,
    REQUEST,
    assessment_of,
    frame,
    frames,
    is_leased,
    job_of,
    lease,
    opened,
)


class TestApplyAssessment:
    def test_becomes_the_current_one_and_ends_the_job(self) -> None:
        queued = opened()
        queued.close(LATER)
        assert queued.apply_assessment(assessment_of(queued))
        assert queued.event.status == ASSESSED
        assert queued.event.severity == 2
        assert queued.event.assessment == b"b"
        assert (queued.event.assessment_id, queued.job) == (UUID(int=1), None)

    def test_highest_evidence_revision_wins_in_any_order(self) -> None:
        queued = opened()
        old = assessment_of(queued, 1)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        new = assessment_of(queued, 2)
        assert queued.apply_assessment(new)
        assert not queued.apply_assessment(old)
        assert queued.event.assessment_id == new.id

    def test_the_first_of_one_evidence_stays(self) -> None:
        queued = opened()
        assert queued.apply_assessment(assessment_of(queued, 1))
        assert not queued.apply_assessment(assessment_of(queued, 2))
        assert queued.event.assessment_id == UUID(int=1)

    def test_of_older_evidence_keeps_the_job_of_a_closed_event(self) -> None:
        queued = opened(frame(0, urgent=True))
        old = assessment_of(queued)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        lease(queued)
        assert queued.apply_assessment(old)
        assert queued.event.status == ASSESSED
        assert job_of(queued).due_at == NOON
        assert not is_leased(queued)

    def test_of_older_evidence_clears_the_failures(self) -> None:
        queued = opened(frame(0, urgent=True))
        old = assessment_of(queued)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        job_of(queued).hastened = True
        assert (job_of(queued).failed, job_of(queued).attempts) == (True, 1)
        queued.apply_assessment(old)
        assert not job_of(queued).failed
        assert job_of(queued).attempts == 0
        assert not job_of(queued).hastened

    def test_of_older_evidence_ends_the_job_of_an_open_event_until_it_closes(self) -> None:
        queued = opened(frame(0, urgent=True))
        old = assessment_of(queued)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.apply_assessment(old)
        assert queued.job is None
        queued.close(LATER)
        assert job_of(queued).due_at == LATER

    def test_of_this_evidence_wins_over_a_higher_revision_of_an_earlier_database(self) -> None:
        queued = opened()
        queued.apply_assessment(assessment_of(queued, 1, evidence_digest="older", evidence_revision=9))
        queued.close(LATER)
        assert queued.apply_assessment(assessment_of(queued, 2, evidence_revision=1))
        assert queued.event.assessment_id == UUID(int=2)
        assert queued.job is None
        assert queued.event.assessed_revision == 9


class TestRecordFailure:
    def test_pauses_longer_each_time(self) -> None:
        queued = opened(frame(0, urgent=True))
        for attempts, seconds in ((1, 1), (2, 2), (3, 4)):
            assert queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
            assert (queued.event.status, job_of(queued).attempts) == (FAILED, attempts)
            assert job_of(queued).due_at == LATER + timedelta(seconds=seconds)

    def test_does_not_change_since_when_the_job_waits(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        queued.request_assessment(REQUEST, LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        queued.give_up_request(FAILURE, REQUEST.id)
        assert job_of(queued).waiting_since == NOON
        queued.apply_assessment(assessment_of(queued))
        assert queued.job is None

    def test_only_the_first_is_a_change_that_clients_see(self) -> None:
        queued = opened(frame(0, urgent=True))
        before = queued.event.revision
        for _ in range(3):
            assert queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
            assert queued.event.revision == before + 1
        queued.apply_assessment(assessment_of(queued))
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        before = queued.event.revision
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert (queued.event.status, queued.event.revision) == (FAILED, before + 1)

    def test_the_last_one_is_remembered_until_a_success(self) -> None:
        queued = opened(frame(0, urgent=True))
        assert queued.event.failure_id is None
        for n in (1, 2):
            queued.record_failure(UUID(int=n), queued.event.evidence_digest, LATER)
            assert queued.event.failure_id == UUID(int=n)
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        assert queued.event.failure_id == UUID(int=2)
        queued.apply_assessment(assessment_of(queued))
        assert queued.event.failure_id is None
        assert not queued.record_failure(UUID(int=3), queued.event.evidence_digest, LATER)
        assert queued.event.failure_id is None

    def test_ends_with_a_success(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        job_of(queued).hastened = True
        queued.apply_assessment(assessment_of(queued))
        assert (queued.event.status, queued.job) == (ASSESSED, None)

    def test_is_ignored_after_an_assessment_of_the_same_evidence(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.apply_assessment(assessment_of(queued))
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        assert not queued.record_failure(FAILURE, queued.event.assessed_digest or "", LATER)
        assert (queued.event.status, job_of(queued).attempts) == (ASSESSED, 0)

    def test_is_ignored_if_nothing_is_due(self) -> None:
        queued = opened()
        assert not queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert (queued.event.status, queued.job) == (PENDING, None)

    def test_keeps_the_current_assessment(self) -> None:
        queued = opened()
        queued.apply_assessment(assessment_of(queued))
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        queued.close(LATER)
        queued.record_failure(FAILURE, queued.event.evidence_digest, LATER)
        assert queued.event.status == FAILED
        assert queued.event.severity == 2
        assert queued.event.assessment == b"b"
