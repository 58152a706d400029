"""The port of the judges."""

from typing import Protocol

from reason_svc.evidence import Evidence
from reason_svc.verdict import Verdict


class Reasoner(Protocol):
    """Judges one event by its evidence alone: no wall clock, no memory of other events.

    `name` says who judged and changes whenever the same evidence would be judged differently.
    """

    @property
    def name(self) -> str: ...

    async def judge(self, evidence: Evidence) -> Verdict:
        """Raises Unavailable or Exhausted while the judge cannot be reached, which is no attempt; any other
        Problem is a failed attempt."""
        ...
