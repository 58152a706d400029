"""The port for reasoners, which make assessments from evidence, and the types that it uses."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from reason_svc.evidence import Evidence

UNKNOWN_MODEL, UNKNOWN_PROMPT = "UNKNOWN_MODEL", "UNKNOWN_PROMPT"

# The most detections that one factor names.
MAX_DETECTION_IDS = 16


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model and the prompt version that a reassessment asks for. Empty means the configured one."""

    model: str = ""
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class ScoreFactor:
    """One reason for the score: a stable name, the points it adds, a text for people, and the detections that
    it is about (at most MAX_DETECTION_IDS)."""

    name: str
    points: int
    text: str
    detection_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """`cached` is the part of `prompt` that the server had in its cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion
        )


@dataclass(frozen=True, slots=True)
class ReasonerResult:
    """What a reasoner concludes from one piece of evidence.

    `score` is 0..100; `summary` is one or two sentences. `factors` starts with those of the rules, whose
    points add up to `rules_score`; a model's own reasons follow, with no points. `rules_floor` is the highest
    floor of the rules that applies, 0 if none does. The remaining fields are empty for rules. `model_score`
    is the model's own, before the rules' floor was kept. `raw_answer` is at most 8 KiB.
    """

    reasoner: str
    score: int
    summary: str
    factors: tuple[ScoreFactor, ...]
    rules_score: int
    rules_floor: int = 0
    model_score: int | None = None
    model: str = ""
    prompt_hash: str = ""
    tokens: TokenUsage = TokenUsage()
    raw_answer: str = ""


class ReasonerReadiness(Enum):
    READY = "READY"
    LOADING = "LOADING"  # the server responds, but has not loaded its model yet
    UNREACHABLE = "UNREACHABLE"
    FAILING = "FAILING"  # the server responds, but with nothing usable


@dataclass(frozen=True, slots=True)
class ReasonerReport:
    """The condition of a reasoner. `since` is when `state` began; `models` and `prompts` are what a
    ModelChoice may name; `tokens` were used since this process started."""

    state: ReasonerReadiness
    since: datetime
    detail: str = ""
    model: str = ""
    models: tuple[str, ...] = ()
    prompt: str = ""
    prompts: tuple[str, ...] = ()
    tokens: TokenUsage = field(default_factory=TokenUsage)


class Reasoner(Protocol):
    """Assesses one event by its evidence alone: it reads no clock and remembers no other event.

    `name` identifies the reasoner. Rules change it whenever the same evidence would be assessed differently;
    for a model it is the kind of the server. `slots` is how many events it can assess at the same time; the
    number may change.
    """

    @property
    def name(self) -> str: ...

    @property
    def slots(self) -> int: ...

    async def assess(self, evidence: Evidence, choice: ModelChoice) -> ReasonerResult:
        """Raises Unavailable or Exhausted while the reasoner cannot be reached, which does not count as an
        attempt; Invalid UNKNOWN_MODEL or UNKNOWN_PROMPT if `choice` names something that does not exist. Any
        other Problem is a failed attempt."""
        ...

    def report(self) -> ReasonerReport: ...
