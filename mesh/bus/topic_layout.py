"""What topics should be like, what they are like, and the differences."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mesh.bus.settings import BusSettings
from mesh.topics import DAYS, DEAD_LETTER_RETENTION_SECONDS, Topic, dead_letters

USUAL_REPLICAS = 3
POLICY, RETENTION, MIN_ISR = "cleanup.policy", "retention.ms", "min.insync.replicas"


@dataclass(frozen=True)
class WantedTopic:
    """`settings` are Kafka's own, by name."""

    name: str
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class FoundTopic:
    """`replicas` is the smallest number of a partition. `used`: it holds records, or a consumer group reads
    it."""

    partitions: int
    replicas: int
    settings: Mapping[str, str]
    used: bool


class Remedy(Enum):
    """What `lares topics apply` does about a difference."""

    CREATE = "apply creates it"
    ALTER = "apply changes it"
    EXTEND = "apply adds the partitions"
    OTHERS = "apply does not change it"
    REFUSE = "apply refuses to change it"


@dataclass(frozen=True)
class Difference:
    """`text` says what differs and, if Lares does not change it, what to do. `setting` and `value` are those
    of a setting to change."""

    topic: str
    remedy: Remedy
    text: str
    setting: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}; {self.remedy.value}"


def wanted_topics(
    settings: BusSettings, topics: Iterable[Topic[Any]], services: Iterable[str]
) -> list[WantedTopic]:
    """The topics, and the topics of dead letters of the services."""
    wanted = [
        WantedTopic(topic.name, partitions_of(topic, settings), _settings(topic.retention_seconds))
        for topic in topics
    ]
    letters = _settings(DEAD_LETTER_RETENTION_SECONDS)
    return [*wanted, *(WantedTopic(dead_letters(service), 1, letters) for service in services)]


def partitions_of(topic: Topic[Any], settings: BusSettings) -> int:
    return settings.partitions if topic.partitions is None else topic.partitions


def new_replicas(settings: BusSettings, brokers: int) -> int:
    """How many replicas a new topic gets."""
    return settings.replicas or min(USUAL_REPLICAS, brokers)


def with_min_isr(settings: Mapping[str, str], replicas: int) -> dict[str, str]:
    """Adds how many replicas must have a record before it is acknowledged: more than half, if there are three
    or more. Then one broker may be lost without losing records, or refusing new ones."""
    return {**settings, **({MIN_ISR: str(replicas // 2 + 1)} if replicas >= 3 else {})}


def differences(
    wanted: Collection[WantedTopic], found: Mapping[str, FoundTopic], settings: BusSettings, brokers: int
) -> list[Difference]:
    """In the order of `wanted`. The replicas of existing topics count only if LARES_TOPIC_REPLICAS is set."""
    result: list[Difference] = []
    for topic in wanted:
        if (existing := found.get(topic.name)) is None:
            result.append(_missing(topic, new_replicas(settings, brokers)))
            continue
        if existing.partitions != topic.partitions:
            result.append(_partitions(topic, existing))
        if settings.replicas and existing.replicas != settings.replicas:
            text = (
                f"has {_count(existing.replicas, 'replica')} of a partition instead of {settings.replicas}:"
                " move them with your Kafka's own tool, kafka-reassign-partitions"
            )
            result.append(Difference(topic.name, Remedy.OTHERS, text))
        for name, value in with_min_isr(topic.settings, existing.replicas).items():
            has = existing.settings.get(name, "")
            if has != value:
                result.append(_setting(topic.name, name, has, value))
    return result


def _settings(retention_seconds: int | None) -> dict[str, str]:
    if retention_seconds is None:
        return {POLICY: "compact"}
    return {POLICY: "delete", RETENTION: str(retention_seconds * 1000)}


def _missing(topic: WantedTopic, replicas: int) -> Difference:
    kept = (
        f"records kept for {_time(topic.settings[RETENTION])}" if RETENTION in topic.settings else "compacted"
    )
    text = f"is missing: {_count(topic.partitions, 'partition')}, {_count(replicas, 'replica')}, {kept}"
    return Difference(topic.name, Remedy.CREATE, text)


def _partitions(topic: WantedTopic, existing: FoundTopic) -> Difference:
    text = f"has {_count(existing.partitions, 'partition')} instead of {topic.partitions}"
    if existing.used:
        why = "it holds records, or is being read, and a camera's records would come out of order"
    elif existing.partitions > topic.partitions:
        why = "Kafka cannot take partitions away"
    else:
        return Difference(topic.name, Remedy.EXTEND, text)
    way = f"set LARES_TOPIC_PARTITIONS={existing.partitions}, or see 'Other partitions' in docs/deploy.md"
    return Difference(topic.name, Remedy.REFUSE, f"{text}. {why[0].upper()}{why[1:]}: {way}")


def _setting(topic: str, name: str, has: str, value: str) -> Difference:
    if name == RETENTION:
        text = f"keeps records for {_time(has)} instead of {_time(value)}"
        if has == "-1" or (has.isdigit() and int(has) > int(value)):
            text += ": older ones will be deleted"
    else:
        text = f"{name} is {has or 'not known'} instead of {value}"
    return Difference(topic, Remedy.ALTER, text, name, value)


def _time(milliseconds: str) -> str:
    """`7 days`, from the text of a setting."""
    if milliseconds == "-1":
        return "ever"
    if not milliseconds.isdigit():
        return "an unknown time"
    seconds = int(milliseconds) / 1000
    for size, unit in ((DAYS, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return _count(int(seconds // size), unit)
    return f"{seconds:g} seconds"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
