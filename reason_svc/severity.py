"""The severity of a score."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
SEVERITIES: tuple[Severity, ...] = ("LOW", "MEDIUM", "HIGH", "CRITICAL")


@dataclass(frozen=True)
class SeverityThresholds:
    """The lowest score of each severity. A score below `medium` is LOW."""

    medium: int = 30
    high: int = 60
    critical: int = 85

    def severity(self, score: int) -> Severity:
        """`score` is 0..100."""
        if score < self.medium:
            return "LOW"
        if score < self.high:
            return "MEDIUM"
        return "HIGH" if score < self.critical else "CRITICAL"

    def steps(self, score: int, to: int) -> int:
        """By how many severities the score `to` is higher; negative if it is lower."""
        return SEVERITIES.index(self.severity(to)) - SEVERITIES.index(self.severity(score))
