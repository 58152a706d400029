"""A reasoner that adds up points by rules. Its current version is rules/v1."""

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
from reason_svc.rules.v1.scoring import NAME, assess


class RulesReasoner:
    """A Reasoner. Its results always contain one factor of each name, including those that add no points."""

    name = NAME
    slots = 64  # rules do not wait for anything

    def __init__(self) -> None:
        self._since = datetime.now(UTC)

    async def assess(self, evidence: Evidence, choice: ModelChoice) -> ReasonerResult:
        if choice.model not in ("", NAME):
            raise Invalid(f"there is no model {choice.model!r}; there is only {NAME}", UNKNOWN_MODEL)
        if choice.prompt:
            raise Invalid("rules have no prompt", UNKNOWN_PROMPT)
        return assess(evidence)

    def report(self) -> ReasonerReport:
        return ReasonerReport(ReasonerReadiness.READY, self._since, models=(NAME,))
