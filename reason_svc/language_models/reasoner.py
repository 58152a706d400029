"""A reasoner that asks a language model behind an OpenAI-compatible server."""

import asyncio
from dataclasses import replace

from mesh.problems import Internal, Invalid, Problem
from reason_svc.evidence import Evidence
from reason_svc.language_models.answer_formats import AnswerFormats
from reason_svc.language_models.client import LlmClient
from reason_svc.language_models.health import LlmHealth
from reason_svc.language_models.model_families import family_of
from reason_svc.language_models.prompts import Prompt
from reason_svc.language_models.servers import DEFAULT_SLOTS
from reason_svc.language_models.session import LlmSession, SessionOutcome
from reason_svc.language_models.url import LlmEndpoint, LlmServerKind
from reason_svc.reasoner import (
    MAX_DETECTION_IDS,
    UNKNOWN_MODEL,
    UNKNOWN_PROMPT,
    ModelChoice,
    ReasonerReport,
    ReasonerResult,
    ScoreFactor,
    TokenUsage,
)
from reason_svc.rules.reasoner import RulesReasoner
from reason_svc.severity import SeverityThresholds

# The rules' floors are scores, whatever severity the settings give them.
FLOOR_LEVELS = SeverityThresholds()
MAX_RAW_ANSWER_BYTES = 8 * 2**10


class LlmReasoner:
    """A Reasoner. `version` names the one of `prompts` that is used unless a ModelChoice names another;
    `seconds` is the deadline of one assessment, including all its requests. If it is `repeatable`, it has one
    slot: what a server computes depends on what else it computes at the same time."""

    def __init__(
        self,
        client: LlmClient,
        endpoint: LlmEndpoint,
        health: LlmHealth,
        prompts: dict[str, Prompt],
        version: str,
        seconds: float,
        *,
        repeatable: bool = False,
    ) -> None:
        self._client, self._endpoint, self._health = client, endpoint, health
        self._prompts, self._version = prompts, version
        self._seconds, self._repeatable = seconds, repeatable
        self._tokens = TokenUsage()
        self._formats = AnswerFormats()
        self._rules = RulesReasoner()

    @property
    def name(self) -> str:
        server = self._health.last_seen
        return server.kind if server else self._endpoint.kind or LlmServerKind.OPENAI

    @property
    def slots(self) -> int:
        if self._repeatable:
            return 1
        server = self._health.last_seen
        return server.slots if server else self._endpoint.slots or DEFAULT_SLOTS

    async def assess(self, evidence: Evidence, choice: ModelChoice) -> ReasonerResult:
        """Raises Unavailable LLM_UNREACHABLE or LLM_LOADING and Exhausted LLM_BUSY, which do not count as
        attempts; Invalid UNKNOWN_MODEL or UNKNOWN_PROMPT; Internal if the server or the model fails."""
        if choice.model in self._rules.report().models:
            return await self._rules.assess(evidence, choice)
        if not evidence.detections:  # prompts describe what is seen
            return await self._rules.assess(evidence, ModelChoice())
        prompt = self._prompts.get(choice.prompt or self._version)
        if prompt is None:
            raise Invalid(f"unknown prompt; there are {', '.join(self._prompts)}", UNKNOWN_PROMPT)
        server = self._health.server()
        model = choice.model or self._endpoint.model
        if model not in server.models:
            raise Invalid(f"unknown model; there are {', '.join(self._models)}", UNKNOWN_MODEL)
        family = self._endpoint.family or family_of(model)
        session = LlmSession(
            self._client,
            self._endpoint,
            server,
            family,
            self._formats,
            self._health.changes,
            repeatable=self._repeatable,
        )
        try:
            outcome = await self._with_deadline(session, evidence, model, prompt)
        except Problem as problem:
            self._health.record_assessment(problem)
            raise
        finally:
            self._tokens += session.tokens
        self._health.record_assessment(None)
        by_rules = await self._rules.assess(evidence, ModelChoice())
        return replace(
            _combined(by_rules, outcome),
            reasoner=server.kind.value,
            model=model,
            prompt_hash=prompt.digest,
            tokens=session.tokens,
        )

    def report(self) -> ReasonerReport:
        return ReasonerReport(
            self._health.state,
            self._health.since,
            self._health.detail,
            model=self._endpoint.model,
            models=self._models,
            prompt=self._version,
            prompts=tuple(self._prompts),
            tokens=self._tokens,
        )

    @property
    def _models(self) -> tuple[str, ...]:
        server = self._health.last_seen
        return (*(server.models if server else (self._endpoint.model,)), *self._rules.report().models)

    async def _with_deadline(
        self, session: LlmSession, evidence: Evidence, model: str, prompt: Prompt
    ) -> SessionOutcome:
        try:
            async with asyncio.timeout(self._seconds):
                return await session.assess(evidence, model, prompt)
        except TimeoutError:
            raise Internal(f"no assessment within {self._seconds:g} s", "ANSWER_TIMEOUT") from None


def _combined(by_rules: ReasonerResult, outcome: SessionOutcome) -> ReasonerResult:
    """The model's score, summary and reasons, together with the rules' factors and their sum.

    A score more than one level below the rules' floor does not count: the floor does. Neither a text that
    talks a model into an answer nor a weak model can hide what the rules are certain of."""
    answer, floor = outcome.answer, by_rules.rules_floor
    kept = FLOOR_LEVELS.steps(answer.score, floor) > 1
    score = floor if kept else answer.score
    text = f"The model's score was {answer.score}; the floor of the rules, {floor}, is kept."
    detections = dict.fromkeys(id_ for factor in by_rules.factors for id_ in factor.detection_ids)
    floor_kept = ScoreFactor("kept", 0, text, tuple(detections)[:MAX_DETECTION_IDS])
    reasons = tuple(
        ScoreFactor("reason", 0, reason.text, outcome.event_prompt.detection_ids(reason.line_numbers))
        for reason in answer.reasons
    )
    return replace(
        by_rules,
        score=score,
        model_score=answer.score,
        summary=answer.summary or by_rules.summary,
        factors=by_rules.factors + ((floor_kept,) if kept else ()) + reasons,
        raw_answer=_storable(outcome.raw_answer),
    )


def _storable(raw_answer: str) -> str:
    """Cuts a raw answer to 8 KiB and replaces what UTF-8 or PostgreSQL cannot store."""
    text = raw_answer.replace("\0", "\ufffd")
    return text.encode(errors="replace")[:MAX_RAW_ANSWER_BYTES].decode(errors="ignore")
