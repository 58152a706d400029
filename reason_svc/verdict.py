"""What a judge says."""

from dataclasses import dataclass

MOST_DETECTION_IDS = 16


@dataclass(frozen=True, slots=True)
class Factor:
    """One reason for the score: a stable name, the points it adds, a text for a person, and the detections it
    rests on (at most 16)."""

    name: str
    points: int
    text: str
    detection_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """`cached` are those of the prompt that the model had read before."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` is 0..100; `summary` one or two sentences. `factors` are those of the rules, whose points add
    up to `rules_score`, then a model's own reasons, of no points. The rest is empty for rules; `raw_answer`
    is at most 8 KiB of what the model said."""

    reasoner: str
    score: int
    summary: str
    factors: tuple[Factor, ...]
    rules_score: int
    model: str = ""
    prompt_hash: str = ""
    tokens: Tokens = Tokens()
    raw_answer: str = ""
