from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.reasoner import MAX_DETECTION_IDS, ReasonerResult
from reason_svc.rules.v1.scoring import assess
from reason_svc.rules.v1.weights import CLASSES, CONFIDENCE, OTHER, Steps
from reason_svc.severity import Severity, SeverityThresholds
from tests.support.evidence import DAY, NIGHT, detections, evidence

any_id = st.uuids().map(str)
any_time = st.datetimes(
    datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)
)  # fmt: skip
any_detection = st.builds(
    EvidenceDetection,
    id=any_id,
    label=st.sampled_from([*CLASSES, "teapot", "bench"]),
    score=st.floats(0, 1, width=32),
    captured_at=any_time,
    media_id=st.sampled_from(["a", "b", "c"]),
)
any_event = st.builds(
    evidence,
    st.lists(any_detection, min_size=1, max_size=30, unique_by=lambda detection: detection.id),
    past=st.integers(0, 20),
    time_zone=st.sampled_from(sorted(available_timezones())),
    camera_name=st.text(),
)


def points(result: ReasonerResult) -> dict[str, int]:
    return {factor.name: factor.points for factor in result.factors}


@given(any_event)
def test_the_points_add_up_to_the_score(event: Evidence) -> None:
    result = assess(event)
    assert sum(factor.points for factor in result.factors) == result.score
    assert 0 <= result.score <= 100
    assert [factor.name for factor in result.factors] == [
        "class", "count", "confidence", "hour", "dwell", "repeat",
    ]  # fmt: skip


@given(any_event, st.integers())
def test_the_order_of_the_detections_makes_no_difference(event: Evidence, seed: int) -> None:
    shuffled = list(event.detections)
    Random(seed).shuffle(shuffled)
    assert assess(Evidence(event.camera_name, event.time_zone, tuple(shuffled), event.history)) == assess(
        event
    )


@given(any_event)
def test_a_factor_names_a_bounded_number_of_detections_of_the_event(event: Evidence) -> None:
    shown = {detection.id for detection in event.detections}
    for factor in assess(event).factors:
        assert len(factor.detection_ids) <= MAX_DETECTION_IDS
        assert set(factor.detection_ids) <= shown
        assert factor.text.isprintable()


def test_no_combination_of_points_leaves_the_scale() -> None:
    def all_of(steps: Steps) -> list[int]:
        return [0, *(points for _, points in steps)]

    for kind, base in [*CLASSES.values(), OTHER]:
        confidence = [points for _, points in CONFIDENCE]
        hours = [0, kind.night, kind.twilight]
        table = (confidence, hours, all_of(kind.count), all_of(kind.dwell), all_of(kind.repeat))
        sums = {base + sum(row) for row in product(*table)}
        assert min(sums) >= 0
        assert max(sums) <= 100


@pytest.mark.parametrize(
    ("what", "event", "severity"),
    [
        ("a lone cat by day", evidence(detections(["cat"], score=0.9)), "LOW"),
        ("cats for long at night", evidence(detections(["cat"] * 4, ["cat"], at=NIGHT, every=80), 9), "LOW"),
        ("a car by day", evidence(detections(["car"])), "LOW"),
        ("surely a car by day", evidence(detections(["car"], score=0.9)), "MEDIUM"),
        ("a person by day", evidence(detections(["person"])), "MEDIUM"),
        ("perhaps a person by day", evidence(detections(["person"], score=0.3)), "MEDIUM"),
        ("a person by day for 30 s", evidence(detections(["person"], ["person"], every=30)), "MEDIUM"),
        ("a person at night", evidence(detections(["person"], at=NIGHT)), "HIGH"),
        ("perhaps a person at night", evidence(detections(["person"], at=NIGHT, score=0.3)), "HIGH"),
        ("a person beside a car at night", evidence(detections(["car", "person"], at=NIGHT)), "HIGH"),
        (
            "persons who stay at night and were here before",
            evidence(detections(["person"] * 2, ["person"], at=NIGHT, every=30), past=1),
            "CRITICAL",
        ),
    ],
)  # fmt: skip
def test_the_severity_of_typical_events(what: str, event: Evidence, severity: Severity) -> None:
    result = assess(event)
    assert SeverityThresholds().severity(result.score) == severity, (what, points(result))


def test_one_person_in_many_photos_is_one_person() -> None:
    once = assess(evidence(detections(["person"])))
    many = assess(evidence(detections(*[["person"]] * 9)))
    two = assess(evidence(detections(["person", "person"])))
    assert points(many)["count"] == points(once)["count"] == 0
    assert points(two)["count"] > 0
    assert two.summary.startswith("Two people")


def test_the_class_with_the_most_points_decides() -> None:
    alone = assess(evidence(detections(["person"])))
    among = assess(evidence(detections(["person", "car", "car", "car", "cat"])))
    assert points(among) == points(alone)
    assert among.summary == "One person, three cars and one cat by day at Front Door."


@pytest.mark.parametrize(
    ("utc", "zone", "part", "clock"),
    [
        # 04:30 UTC is 05:30 in Berlin on the last day of winter time, 06:30 on the next.
        (datetime(2026, 3, 28, 4, 30, tzinfo=UTC), "Europe/Berlin", "night", "05:30"),
        (datetime(2026, 3, 29, 4, 30, tzinfo=UTC), "Europe/Berlin", "early morning", "06:30"),
        # The repeated hour is identified by its UTC time and shown as on the clock.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin", "night", "02:30"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin", "night", "02:30"),
        (datetime(2026, 10, 25, 5, 30, tzinfo=UTC), "Europe/Berlin", "early morning", "06:30"),
        (datetime(2026, 7, 1, 13, 0, tzinfo=UTC), "Pacific/Auckland", "night", "01:00"),
        (datetime(2026, 7, 1, 13, 0, tzinfo=UTC), "Asia/Kathmandu", "day", "18:45"),
        (datetime(2026, 7, 1, 21, 59, 59, 999999, tzinfo=UTC), "UTC", "evening", "21:59"),
        (datetime(2026, 7, 1, 22, 0, tzinfo=UTC), "UTC", "night", "22:00"),
        (datetime(2026, 7, 1, 5, 59, 59, 999999, tzinfo=UTC), "UTC", "night", "05:59"),
        (datetime(2026, 7, 1, 7, 0, tzinfo=UTC), "UTC", "day", "07:00"),
    ],
)
def test_the_hour_is_in_the_cameras_time_zone(utc: datetime, zone: str, part: str, clock: str) -> None:
    result = assess(evidence(detections(["person"], at=utc), time_zone=zone))
    hour = next(factor for factor in result.factors if factor.name == "hour")
    assert hour.text == f"first seen at {clock} ({zone}): {part}"
    assert hour.points == {"night": 25, "day": 0}.get(part, 10)


def test_dwell_is_elapsed_time_even_when_clocks_change() -> None:
    at = datetime(2026, 3, 29, 0, 59, 55, tzinfo=UTC)  # five seconds before Berlin's clocks jump an hour
    result = assess(evidence(detections(["person"], ["person"], at=at, every=12), time_zone="Europe/Berlin"))
    assert result.summary == "One person for 12 s at night at Front Door."
    assert points(result)["dwell"] == 4


@pytest.mark.parametrize(
    ("seconds", "gained"), [(0, 0), (9.999, 0), (10, 4), (29.9, 4), (30, 9), (60, 12), (90, 12)]
)
def test_a_longer_stay_adds_points(seconds: float, gained: int) -> None:
    result = assess(evidence(detections(["person"], ["person"], every=seconds)))
    assert points(result)["dwell"] == gained


@pytest.mark.parametrize(("past", "gained"), [(0, 0), (1, 3), (2, 5), (3, 6), (40, 6)])
def test_past_events_add_points(past: int, gained: int) -> None:
    result = assess(evidence(detections(["person"]), past=past))
    assert points(result)["repeat"] == gained


def test_the_cameras_name_is_reduced_to_plain_text() -> None:
    place = "Gate\x1b[2J\r\n\u202eevil\u0000 " + "y" * 500
    summary = assess(evidence(detections(["cat"]), camera_name=place)).summary
    assert summary.startswith("One cat by day at Gate [2J evil yyy")
    assert summary.endswith("y….")
    assert len(summary) < 100


def test_the_summary_says_who_when_and_where() -> None:
    event = evidence(detections(["person"], ["person"], at=NIGHT, every=72), past=2)
    expected = "One person for 1 min 12 s at night at Front Door. 2 other events here in the hour before."
    assert assess(event).summary == expected
    assert assess(
        evidence(detections(["sheep"] * 12, at=DAY - timedelta(hours=7)), camera_name="")
    ).summary == ("12 sheep in the early morning.")
