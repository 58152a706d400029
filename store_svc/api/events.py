"""lares.store.v1.EventService."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.event_service_pb2_grpc import EventServiceServicer
from lares.store.v1.events_pb2 import EventChanged
from mesh.feed import Feed
from mesh.problems import Problem
from store_svc.bookmarks import with_bookmarks
from store_svc.database import Database
from store_svc.domain.job import Request
from store_svc.feedback import FeedbackRepository
from store_svc.ids import parse_uuid
from store_svc.queries import assessments, counts, events, failures, feed, labels, raw_answers
from store_svc.queries.evidence import EvidenceReader, get_evidence
from store_svc.reassessments import Reassessments
from store_svc.track_identities import TrackIdentities

Lag = Callable[[], Awaitable[int]]

# Their sum is less than the 30 s within which WatchEvents promises a bookmark.
BOOKMARK_SECONDS, IDLE_SECONDS = 15.0, 10.0


@dataclass(frozen=True)
class TopicLags:
    """How many records of each topic are not in the store yet.

    Each function raises Unavailable if the bus does not answer soon.
    """

    detections: Lag
    rejections: Lag
    assessments: Lag
    renditions: Lag

    async def read(self) -> pb.GetStoreStatusResponse:
        """All of them, or why they are not known."""
        lags = (self.detections(), self.rejections(), self.assessments(), self.renditions())
        try:
            detections, rejections, assessments, renditions = await asyncio.gather(*lags)
        except Problem as problem:
            return pb.GetStoreStatusResponse(problem=problem.message)
        return pb.GetStoreStatusResponse(
            detections_lag=detections,
            rejections_lag=rejections,
            assessments_lag=assessments,
            renditions_lag=renditions,
        )


class EventServicer(EventServiceServicer):
    def __init__(
        self,
        database: Database,
        live: Feed,
        reassessments: Reassessments,
        evidence: EvidenceReader,
        identities: TrackIdentities,
        lags: TopicLags,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._live = live
        self._reassessments = reassessments
        self._evidence = evidence
        self._identities = identities
        self._lags = lags
        self._clock = clock
        self._feedback = FeedbackRepository(database, clock)

    async def GetEvent(self, request: pb.GetEventRequest, context: object) -> pb.GetEventResponse:
        return pb.GetEventResponse(event=await events.get_event(self._database, request.event_id))

    async def ListEvents(self, request: pb.ListEventsRequest, context: object) -> pb.ListEventsResponse:
        filter, size = pb.EventFilter(), request.page_size or 50
        filter.CopyFrom(request.filter)
        filter.labels[:] = await labels.find_labels(self._database, filter.labels)
        return await events.list_events(self._database, filter, size, request.page_token)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: object
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        after = request.after if request.HasField("after") else None
        if not (request.camera_ids or request.min_severity or request.zone_ids):
            async with aclosing(self._live.watch(after)) as changes:
                async for change in changes:
                    yield pb.WatchEventsResponse(change=change)
            return
        wanted = partial(
            _wanted,
            camera_ids=frozenset(request.camera_ids),
            zone_ids=frozenset(request.zone_ids),
            min_severity=request.min_severity,
        )
        async with (
            aclosing(self._live.watch_with_positions(after, IDLE_SECONDS)) as watched,
            aclosing(with_bookmarks(watched, wanted, BOOKMARK_SECONDS)) as contents,
        ):
            async for content in contents:
                yield (
                    pb.WatchEventsResponse(bookmark=content)
                    if isinstance(content, int)
                    else pb.WatchEventsResponse(change=content)
                )

    async def ListChanges(self, request: pb.ListChangesRequest, context: object) -> pb.ListChangesResponse:
        changes, head = await feed.list_changes(self._database, request.after, request.page_size or 200)
        return pb.ListChangesResponse(changes=changes, head=head)

    async def ReassessEvent(
        self, request: pb.ReassessEventRequest, context: object
    ) -> pb.ReassessEventResponse:
        id = parse_uuid(request.request_id) if request.request_id else uuid4()
        reassessment = Request(id, request.model, request.prompt)
        event = await self._reassessments.request(parse_uuid(request.event_id), reassessment)
        return pb.ReassessEventResponse(request_id=str(id), event=event)

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: object) -> pb.GetEvidenceResponse:
        evidence = await get_evidence(self._database, self._evidence, request.event_id)
        return pb.GetEvidenceResponse(evidence=evidence)

    async def ListAssessments(
        self, request: pb.ListAssessmentsRequest, context: object
    ) -> pb.ListAssessmentsResponse:
        size = request.page_size or 20
        return await assessments.list_assessments(self._database, request.event_id, size, request.page_token)

    async def GetRawAnswer(self, request: pb.GetRawAnswerRequest, context: object) -> pb.GetRawAnswerResponse:
        raw_answer = await raw_answers.get_raw_answer(self._database, request.assessment_id)
        return pb.GetRawAnswerResponse(raw_answer=raw_answer)

    async def BatchGetFailures(
        self, request: pb.BatchGetFailuresRequest, context: object
    ) -> pb.BatchGetFailuresResponse:
        return await failures.get_failures(self._database, request.event_ids)

    async def IdentifyTrack(
        self, request: pb.IdentifyTrackRequest, context: object
    ) -> pb.IdentifyTrackResponse:
        event_id = parse_uuid(request.event_id)
        event = await self._identities.identify(event_id, request.track_id, request.person_id)
        return pb.IdentifyTrackResponse(event=event)

    async def SetFeedback(self, request: pb.SetFeedbackRequest, context: object) -> pb.SetFeedbackResponse:
        assessment_id = parse_uuid(request.assessment_id) if request.assessment_id else None
        feedback = await self._feedback.set(
            parse_uuid(request.event_id), assessment_id, request.kind, request.severity, request.note
        )
        return pb.SetFeedbackResponse(feedback=feedback)

    async def BatchGetFeedback(
        self, request: pb.BatchGetFeedbackRequest, context: object
    ) -> pb.BatchGetFeedbackResponse:
        return pb.BatchGetFeedbackResponse(feedback=await self._feedback.batch(request.assessment_ids))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: object) -> pb.ListFeedbackResponse:
        return await self._feedback.page(request.page_size or 50, request.page_token)

    async def GetStoreStatus(
        self, request: pb.GetStoreStatusRequest, context: object
    ) -> pb.GetStoreStatusResponse:
        # The lags are read first, so that a record that is stored in between is counted twice, not omitted.
        response = await self._lags.read()
        response.MergeFrom(await counts.count(self._database, self._clock()))
        return response


def _wanted(
    change: EventChanged,
    camera_ids: frozenset[str],
    zone_ids: frozenset[str],
    min_severity: Severity.ValueType,
) -> bool:
    # A deletion has neither zones nor severity, so all watchers that may have received the event get it.
    event = change.event
    if camera_ids and event.camera_id not in camera_ids:
        return False
    if change.deleted:
        return True
    if zone_ids and zone_ids.isdisjoint(event.zone_ids):
        return False
    return not min_severity or (event.HasField("assessment") and event.assessment.severity >= min_severity)
