"""Turns evidence into assessments, for both the servicer and the worker."""

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
from reason_svc.messages import evidence_of, factor_message, timestamp
from reason_svc.reasoner import ModelChoice, Reasoner, ReasonerResult
from reason_svc.severity import SeverityThresholds


class Assessed(NamedTuple):
    """An assessment with the raw answer of the model that made it, which is empty for rules."""

    assessment: assessment_pb2.Assessment
    raw_answer: str


class Assessor:
    """A reasoner and the severities of its scores. `clock` returns aware UTC times for assessed_at."""

    def __init__(
        self, reasoner: Reasoner, thresholds: SeverityThresholds, clock: Callable[[], datetime]
    ) -> None:
        self.reasoner, self.thresholds, self.clock = reasoner, thresholds, clock
        self._slots_in_use = 0
        self._slot_freed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for one of the reasoner's slots, in order of arrival, and holds it until the block ends."""
        async with self._slot_freed:
            await self._slot_freed.wait_for(lambda: self._slots_in_use < self.reasoner.slots)
            self._slots_in_use += 1
        try:
            yield
        finally:
            self._slots_in_use -= 1
            async with self._slot_freed:
                self._slot_freed.notify_all()

    async def assess(
        self, evidence: evidence_pb2.Evidence, request: ReassessmentRequest | None = None
    ) -> Assessed:
        """Makes an assessment. `request` is the one that asked for a reassessment, if any.

        Raises Invalid if the evidence is malformed, and whatever the reasoner raises.
        """
        began = time.monotonic_ns()
        request = request or ReassessmentRequest()
        choice = ModelChoice(request.model, request.prompt)
        result = await self.reasoner.assess(evidence_of(evidence), choice)
        # Rules have no model. The id contains their name instead, so that newer rules lead to another id.
        model = result.model or result.reasoner
        severity = self.thresholds.severity(result.score)
        duration = Duration()
        duration.FromNanoseconds(time.monotonic_ns() - began)
        assessment = assessment_pb2.Assessment(
            id=assessment_id(
                evidence.event_id, evidence.digest, model, result.prompt_hash, request.request_id
            ),
            event_id=evidence.event_id,
            evidence_revision=evidence.revision,
            evidence_digest=evidence.digest,
            score=result.score,
            severity=assessment_pb2.Severity.Value(f"SEVERITY_{severity}"),
            summary=result.summary,
            factors=map(factor_message, result.factors),
            reasoner=result.reasoner,
            model=result.model,
            prompt_hash=result.prompt_hash,
            request_id=request.request_id,
            duration=duration,
            assessed_at=timestamp(self.clock()),
            rules_score=result.rules_score,
            disagreement=self._disagreement(result),
            prompt_tokens=result.tokens.prompt,
            cached_tokens=result.tokens.cached,
            completion_tokens=result.tokens.completion,
        )
        return Assessed(assessment, result.raw_answer)

    def _disagreement(self, result: ReasonerResult) -> assessment_pb2.Disagreement.ValueType:
        if result.model_score is None:
            return assessment_pb2.DISAGREEMENT_UNSPECIFIED
        steps = abs(self.thresholds.steps(result.rules_score, result.model_score))
        return (
            assessment_pb2.DISAGREEMENT_NONE,
            assessment_pb2.DISAGREEMENT_SMALL,
            assessment_pb2.DISAGREEMENT_LARGE,
        )[min(steps, 2)]
