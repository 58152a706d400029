"""One piece of evidence in, one assessment out: what the servicer and the worker share."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration

from lares.reason.v1 import assessment_pb2, evidence_pb2
from lares.store.internal.v1.job_service_pb2 import ReassessmentRequest
from mesh.identity import assessment_id
from reason_svc.messages import evidence_of, factor_message, stamp
from reason_svc.reasoner import Reasoner, Wish
from reason_svc.severity import Thresholds


class Assessed(NamedTuple):
    """`raw_answer` is what the model said, empty for rules."""

    assessment: assessment_pb2.Assessment
    raw_answer: str


class Judge:
    """A reasoner with the words for its scores. `clock` (aware, UTC) only says when it was judged."""

    def __init__(self, reasoner: Reasoner, thresholds: Thresholds, clock: Callable[[], datetime]) -> None:
        self.reasoner, self.thresholds, self.clock = reasoner, thresholds, clock
        self._under_way = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For one `assess`: as many at once as the reasoner has slots, in the order in which they came."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._under_way < self.reasoner.slots)
            self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            async with self._freed:
                self._freed.notify_all()

    async def assess(
        self, evidence: evidence_pb2.Evidence, request: ReassessmentRequest | None = None
    ) -> Assessed:
        """`request` is that of somebody who asked again. Raises Invalid for evidence that cannot be judged,
        and what the reasoner raises."""
        began = time.monotonic_ns()
        request = request or ReassessmentRequest()
        verdict = await self.reasoner.judge(evidence_of(evidence), Wish(request.model, request.prompt))
        # Rules have no model: their name and version stand for it, so that newer rules give another id.
        model = verdict.model or verdict.reasoner
        severity = self.thresholds.severity(verdict.score)
        duration = Duration()
        duration.FromNanoseconds(time.monotonic_ns() - began)
        assessment = assessment_pb2.Assessment(
            id=assessment_id(
                evidence.event_id, evidence.digest, model, verdict.prompt_hash, request.request_id
            ),
            event_id=evidence.event_id,
            evidence_revision=evidence.revision,
            evidence_digest=evidence.digest,
            score=verdict.score,
            severity=assessment_pb2.Severity.Value(f"SEVERITY_{severity}"),
            summary=verdict.summary,
            factors=map(factor_message, verdict.factors),
            reasoner=verdict.reasoner,
            model=verdict.model,
            prompt_hash=verdict.prompt_hash,
            request_id=request.request_id,
            duration=duration,
            assessed_at=stamp(self.clock()),
            rules_score=verdict.rules_score,
            prompt_tokens=verdict.tokens.prompt,
            cached_tokens=verdict.tokens.cached,
            completion_tokens=verdict.tokens.completion,
        )
        return Assessed(assessment, verdict.raw_answer)
