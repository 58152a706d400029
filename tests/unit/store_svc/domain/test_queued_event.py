"""Frames that join an event, and its closing, with what they do to its job."""

from uuid import UUID

from store_svc.domain.event import ASSESSED, PENDING, AddedFrame, StoredEvent
from store_svc.domain.evidence import digest_v1
from store_svc.domain.queued_event import QueuedEvent
from store_svc.times import moment
from tests.support.queued_events import (
    IDS,
    LATER,
    NOON,
    assessment_of,
    frame,
    frames,
    is_leased,
    job_of,
    lease,
    opened,
)


class TestAddFrames:
    def test_a_new_event_is_pending_at_revision_1_and_not_due(self) -> None:
        new = opened(frame(0, 5), frame(1, 3, label="car"))
        assert (new.event.status, new.event.revision, new.job, new.event.closed) == (PENDING, 1, None, False)
        assert new.event.detection_count == 2
        assert new.event.media_count == 2
        assert new.event.labels == frozenset({"person", "car"})
        assert new.event.evidence_digest == digest_v1(IDS[:2], (), "UTC")

    def test_is_one_revision_for_any_number_of_frames(self) -> None:
        queued = opened()
        queued.add_frames(frames(frame(1, -7), frame(2, 9)), [IDS[0]], LATER)
        assert queued.event.revision == 2
        assert queued.event.evidence_revision == 2
        assert queued.event.detection_count == 3
        assert queued.event.started_at == -7
        assert queued.event.ended_at == 9
        assert queued.event.last_recorded_at == LATER
        assert queued.event.evidence_digest == digest_v1(IDS[:3], (), "UTC")

    def test_people_do_not_see_a_clip_that_goes_on_in_an_assessed_event(self) -> None:
        """They see it if it shows something else, or more at once, or if the event was closed."""
        queued = opened(frame(0))
        queued.apply_assessment(assessment_of(queued))

        def add(*added: AddedFrame) -> bool:
            before = queued.event.revision
            queued.add_frames(frames(*added), IDS[: queued.event.detection_count], LATER)
            assert queued.event.evidence_revision == queued.event.revision == before + 1
            return queued.seen_change

        assert not add(frame(1, of_clip=True), frame(2, of_clip=True))
        assert queued.event.detection_count == 3
        assert add(frame(3))  # a photo
        assert add(frame(4, label="car", of_clip=True))
        assert add(AddedFrame(0, tuple(IDS[5:7]), frozenset({"person"}), False, True, of_clip=True))
        assert not add(AddedFrame(0, tuple(IDS[7:9]), frozenset({"person"}), False, True, of_clip=True))
        assert add(frame(8, of_clip=True)._replace(zones=frozenset({"porch"})))
        queued.close(LATER)
        assert add(frame(9, of_clip=True)._replace(zones=frozenset({"porch"})))

    def test_people_see_all_that_joins_before_the_first_assessment(self) -> None:
        queued = opened(frame(0))
        queued.add_frames(frames(frame(1, of_clip=True)), IDS[:1], LATER)
        assert queued.seen_change

    def test_the_fast_path_makes_it_due_at_once_but_only_once(self) -> None:
        queued = opened(frame(0, urgent=True))
        assert job_of(queued).due_at == NOON
        queued.apply_assessment(assessment_of(queued))
        queued.add_frames(frames(frame(1, urgent=True)), IDS[:1], LATER)
        assert queued.job is None

    def test_reopens_a_closed_event_which_is_due_again_when_it_closes(self) -> None:
        queued = opened()
        queued.close(LATER)
        queued.apply_assessment(assessment_of(queued))
        queued.add_frames(frames(frame(1)), IDS[:1], LATER)
        assert (queued.event.closed, queued.job, queued.event.status) == (False, None, ASSESSED)
        queued.close(LATER)
        assert (job_of(queued).due_at, job_of(queued).waiting_since) == (LATER, LATER)

    def test_updates_the_time_zone(self) -> None:
        queued = opened()
        queued.add_frames(frames(frame(1), zone="Asia/Tokyo"), IDS[:1], LATER)
        assert queued.event.evidence_digest == digest_v1(IDS[:2], (), "Asia/Tokyo")

    def test_updates_the_rank_and_the_input_of_the_job_and_keeps_its_lease(self) -> None:
        queued = QueuedEvent(StoredEvent(UUID(int=99), "front", 9, 9, (), NOON))
        queued.add_frames(frames(frame(0, 9, urgent=True)), [], NOON)
        assert job_of(queued).rank_time == moment(9)
        assert job_of(queued).input_digest == queued.event.evidence_digest
        lease(queued)
        queued.add_frames(frames(frame(1, at=-7)), IDS[:1], LATER)
        assert job_of(queued).rank_time == moment(-7)
        assert job_of(queued).input_digest == queued.event.evidence_digest
        assert (job_of(queued).due_at, is_leased(queued)) == (NOON, True)


class TestClose:
    def test_creates_the_job(self) -> None:
        queued = opened()
        queued.close(LATER)
        assert (queued.event.closed, job_of(queued).due_at, queued.event.revision) == (True, LATER, 2)

    def test_creates_no_job_if_this_evidence_was_assessed(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.apply_assessment(assessment_of(queued))
        queued.close(LATER)
        assert (queued.event.closed, queued.job) == (True, None)

    def test_keeps_a_job_that_is_due_already(self) -> None:
        queued = opened(frame(0, urgent=True))
        queued.close(LATER)
        assert job_of(queued).due_at == NOON
