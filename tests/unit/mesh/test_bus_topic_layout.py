"""What `lares topics` finds and says, without a broker."""

import pytest

from mesh.bus.settings import DEFAULT, BusSettings
from mesh.bus.topic_layout import (
    FoundTopic,
    Remedy,
    WantedTopic,
    differences,
    new_replicas,
    wanted_topics,
    with_min_isr,
)
from mesh.topics import CAMERAS, DETECTED, FEED, INGESTED, TOPICS, used_by

WEEK = str(7 * 24 * 3600 * 1000)
KEPT = {"cleanup.policy": "delete", "retention.ms": WEEK}
WANTED = WantedTopic("t", 12, KEPT)


def said(found: FoundTopic | None, settings: BusSettings = DEFAULT, brokers: int = 1) -> list[str]:
    existing = {"t": found} if found else {}
    return [str(difference) for difference in differences([WANTED], existing, settings, brokers)]


def test_nothing_is_said_of_what_is_as_it_should_be() -> None:
    more = {"min.insync.replicas": "1", "segment.ms": "1"}
    assert said(FoundTopic(12, 1, {**KEPT, **more}, used=True)) == []
    assert said(FoundTopic(12, 3, {**KEPT, "min.insync.replicas": "2"}, used=True), brokers=3) == []


@pytest.mark.parametrize(
    ("settings", "brokers", "count"),
    [
        (BusSettings(), 1, "1 replica"),
        (BusSettings(), 5, "3 replicas"),
        (BusSettings(replicas=2), 5, "2 replicas"),
    ],
)
def test_a_missing_topic(settings: BusSettings, brokers: int, count: str) -> None:
    text = f"t: is missing: 12 partitions, {count}, records kept for 7 days; apply creates it"
    assert said(None, settings, brokers) == [text]


@pytest.mark.parametrize(
    ("retention", "text"),
    [
        ("-1", "for ever instead of 7 days: older ones will be deleted"),
        ("3600000", "for 1 hour instead of 7 days"),
        ("90000", "for 90 seconds instead of 7 days"),
        ("2592000000", "for 30 days instead of 7 days: older ones will be deleted"),
    ],
)
def test_another_retention(retention: str, text: str) -> None:
    found = said(FoundTopic(12, 1, {**KEPT, "retention.ms": retention}, used=True))
    assert found == [f"t: keeps records {text}; apply changes it"]


def test_another_policy_and_too_few_replicas_in_sync() -> None:
    settings = {**KEPT, "cleanup.policy": "compact", "min.insync.replicas": "1"}
    assert said(FoundTopic(12, 3, settings, used=False)) == [
        "t: cleanup.policy is compact instead of delete; apply changes it",
        "t: min.insync.replicas is 1 instead of 2; apply changes it",
    ]


def test_replicas_count_only_if_they_are_set() -> None:
    found = FoundTopic(12, 1, KEPT, used=True)
    assert said(found, brokers=3) == []
    (text,) = said(found, BusSettings(replicas=3), brokers=3)
    assert text.startswith("t: has 1 replica of a partition instead of 3: move them with")
    assert text.endswith("apply does not change it")


@pytest.mark.parametrize(
    ("partitions", "used", "remedy"),
    [
        (6, False, Remedy.EXTEND),
        (6, True, Remedy.REFUSE),
        (24, False, Remedy.REFUSE),
        (24, True, Remedy.REFUSE),
    ],
)
def test_partitions_are_only_added_to_what_nobody_uses(partitions: int, used: bool, remedy: Remedy) -> None:
    (found,) = differences([WANTED], {"t": FoundTopic(partitions, 1, KEPT, used)}, BusSettings(), 1)
    assert found.remedy is remedy
    assert f"has {partitions} partitions instead of 12" in found.text
    assert (f"LARES_TOPIC_PARTITIONS={partitions}" in found.text) == (remedy is Remedy.REFUSE)


@pytest.mark.parametrize(("replicas", "least"), [(1, None), (2, None), (3, "2"), (4, "3"), (5, "3")])
def test_more_than_half_of_three_replicas_must_have_a_record(replicas: int, least: str | None) -> None:
    assert with_min_isr({}, replicas).get("min.insync.replicas") == least


def test_new_topics_get_no_more_replicas_than_there_are_brokers_unless_told_so() -> None:
    assert [new_replicas(BusSettings(), brokers) for brokers in (1, 2, 3, 9)] == [1, 2, 3, 3]
    assert new_replicas(BusSettings(replicas=3), 1) == 3


def test_the_setting_is_the_number_of_partitions_of_the_cameras_topics_alone() -> None:
    wanted = {t.name: t.partitions for t in wanted_topics(BusSettings(partitions=5), TOPICS, ["store_svc"])}
    assert wanted[INGESTED.name] == wanted[DETECTED.name] == 5
    assert wanted[FEED.name] == wanted[CAMERAS.name] == wanted["store.dead.v1"] == 1


def test_a_target_needs_only_its_own_topics() -> None:
    topics, letters = used_by(["detect"])
    assert {topic.name for topic in topics} == {
        "ingest.media.v1",
        "ingest.rejections.v1",
        "detect.detections.v1",
        "detect.renditions.v1",
    }
    assert letters == ["detect_svc"]
    assert [topic.name for topic in used_by(["gateway"])[0]] == ["store.feed.v1"]
    every, letters = used_by(["detect", "store", "reason", "ingest", "gateway"])
    assert (tuple(every), letters) == (TOPICS, ["detect_svc", "store_svc"])
