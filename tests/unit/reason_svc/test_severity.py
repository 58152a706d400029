import pytest

from reason_svc.severity import Severity, SeverityThresholds


@pytest.mark.parametrize(
    ("score", "severity"),
    [
        (0, "LOW"),
        (29, "LOW"),
        (30, "MEDIUM"),
        (59, "MEDIUM"),
        (60, "HIGH"),
        (84, "HIGH"),
        (85, "CRITICAL"),
        (100, "CRITICAL"),
    ],
)
def test_the_thresholds_are_inclusive(score: int, severity: Severity) -> None:
    assert SeverityThresholds().severity(score) == severity


def test_the_thresholds_can_be_set() -> None:
    strict = SeverityThresholds(medium=1, high=2, critical=3)
    assert [strict.severity(score) for score in range(4)] == ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
