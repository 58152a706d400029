"""The port of the judges."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from reason_svc.evidence import Evidence
from reason_svc.verdict import Tokens, Verdict

UNKNOWN_MODEL, UNKNOWN_PROMPT = "UNKNOWN_MODEL", "UNKNOWN_PROMPT"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody who asks for another judgement wants; empty means the configured one."""

    model: str = ""
    prompt: str = ""


class State(Enum):
    READY = "READY"
    LOADING = "LOADING"  # it answers, but has not read its model yet
    UNREACHABLE = "UNREACHABLE"
    FAILING = "FAILING"  # it answers, but not in a way that could be used


@dataclass(frozen=True, slots=True)
class Report:
    """How a judge is doing. `models` and `prompts` are what a Wish may name; `since` is when `state` began;
    `tokens` are those of this process's life."""

    state: State
    since: datetime
    detail: str = ""
    model: str = ""
    models: tuple[str, ...] = ()
    prompt: str = ""
    prompts: tuple[str, ...] = ()
    tokens: Tokens = field(default_factory=Tokens)


class Reasoner(Protocol):
    """Judges one event by its evidence alone: no wall clock, no memory of other events.

    `name` says who judges and changes whenever the same evidence would be judged differently by rules; for a
    model it is the kind of its server. `slots` is how many events it takes at the same time, as of now.
    """

    @property
    def name(self) -> str: ...

    @property
    def slots(self) -> int: ...

    async def judge(self, evidence: Evidence, wish: Wish) -> Verdict:
        """Raises Unavailable or Exhausted while the judge cannot be reached, which is no attempt; Invalid
        UNKNOWN_MODEL or UNKNOWN_PROMPT for a wish that can never be met; any other Problem is a failed
        attempt."""
        ...

    def report(self) -> Report: ...
