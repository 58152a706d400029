"""The labelled events of `dev.jsonl`: what is in them, and which are the two sides of a pair."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEV = Path(__file__).parent / "dev.jsonl"
# The least scores of the levels above LOW.
MEDIUM, HIGH, CRITICAL = 30, 60, 85


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """`floor` is the least score that is right, 0 for a benign event; `item` the whole line of the file."""

    id: str
    scenario: str
    floor: int
    item: Mapping[str, Any]

    @property
    def benign(self) -> bool:
        return self.floor == 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two events that differ in one circumstance. `rises`: the level of `other` must be higher than that of
    `calm`. Otherwise they differ in words only, which must not change the level."""

    name: str
    rises: bool
    calm: LabelledEvent
    other: LabelledEvent


def read_events(path: Path = DEV) -> list[LabelledEvent]:
    """Raises ValueError if an event is said to be benign and has a floor, or the reverse."""
    items = [json.loads(line) for line in path.read_text().splitlines() if line]
    events = [LabelledEvent(item["id"], item["scenario"], item["floor_score"], item) for item in items]
    for event in events:
        if event.benign != event.item["benign"]:
            raise ValueError(f"{event.id}: its floor and `benign` contradict each other")
    return events


def pairs_of(events: Iterable[LabelledEvent]) -> Sequence[Pair]:
    """The pairs both of whose sides are among the events."""
    sides: defaultdict[str, dict[str, LabelledEvent]] = defaultdict(dict)
    for event in events:
        if pair := event.item["pair"]:
            sides[pair["pair"]][pair["side"]] = event
    return [
        Pair(name, both["a"].item["pair"]["rule"] == "rises", both["a"], both["b"])
        for name, both in sorted(sides.items())
        if len(both) == 2
    ]


def level(score: int) -> int:
    """0 for LOW, 3 for CRITICAL."""
    return (score >= MEDIUM) + (score >= HIGH) + (score >= CRITICAL)
