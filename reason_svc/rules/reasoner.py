"""A reasoner that adds up points by rules. Its current version is rules/v2."""

from collections.abc import Callable
from datetime import UTC, datetime

from mesh.problems import Invalid
from reason_svc.evidence import Evidence
from reason_svc.reasoner import (
    UNKNOWN_MODEL,
    UNKNOWN_PROMPT,
    ModelChoice,
    ReasonerReadiness,
    ReasonerReport,
    ReasonerResult,
)
from reason_svc.rules.v1 import scoring as v1
from reason_svc.rules.v2 import scoring as v2

# By name, the current version first. Released versions stay, so that a score can be made again.
VERSIONS: dict[str, Callable[[Evidence], ReasonerResult]] = {v2.NAME: v2.assess, v1.NAME: v1.assess}
CURRENT = v2.NAME


class RulesReasoner:
    """A Reasoner. `name` is the version that is used unless a ModelChoice names another, as its model."""

    slots = 64  # rules do not wait for anything

    def __init__(self, name: str = CURRENT) -> None:
        self.name = name
        self._since = datetime.now(UTC)

    async def assess(self, evidence: Evidence, choice: ModelChoice) -> ReasonerResult:
        rules = VERSIONS.get(choice.model or self.name)
        if rules is None:
            known = ", ".join(VERSIONS)
            raise Invalid(f"there is no model {choice.model!r}; there are {known}", UNKNOWN_MODEL)
        if choice.prompt:
            raise Invalid("rules have no prompt", UNKNOWN_PROMPT)
        # What v1 does not know: an event in which nothing is seen, only something came or went.
        return rules(evidence) if evidence.detections else v2.assess(evidence)

    def report(self) -> ReasonerReport:
        return ReasonerReport(ReasonerReadiness.READY, self._since, models=tuple(VERSIONS))
