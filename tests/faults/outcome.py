"""What a run left in Lares, without what may differ between two honest runs."""

from dataclasses import dataclass
from typing import Any

from tests.support.lares import Lares

MEDIA = """query($after: String) { mediaList(first: 200, after: $after) {
  edges { node { id capturedAt detections(first: 500) { edges { node { id label score } } } } }
  pageInfo { hasNextPage endCursor } } }"""
EVENTS = """query($after: String) { events(first: 50, after: $after) {
  edges { node { id camera { id } status closed startedAt endedAt labels
    assessment { score severity summary reasoner factors { name points text detectionIds } }
    detections(first: 500) { edges { node { id } } } media { id } } }
  pageInfo { hasNextPage endCursor } } }"""
REJECTIONS = """query($after: String) { rejections(first: 200, after: $after) {
  edges { node { id cameraId path reason } } pageInfo { hasNextPage endCursor } } }"""


@dataclass(frozen=True)
class Outcome:
    media: dict[str, Any]
    events: dict[str, Any]
    rejections: dict[str, Any]

    def differences(self, other: "Outcome") -> list[str]:
        """One line per thing that is not the same in both."""
        lines = []
        for kind in ("media", "events", "rejections"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    lines.append(f"{kind} {name}:\n    {mine.get(name)}\n    {theirs.get(name)}")
        return lines


async def read_outcome(lares: Lares) -> Outcome:
    """Everything, page by page, by id."""
    media = {node["id"]: _flat(node, "detections") for node in await pages(lares, MEDIA, "mediaList")}
    events = {}
    for node in await pages(lares, EVENTS, "events"):
        node = _flat(node, "detections")
        node["detections"] = sorted(found["id"] for found in node["detections"])
        node["media"] = sorted(one["id"] for one in node["media"])
        events[node["id"]] = node
    rejections = {node["id"]: node for node in await pages(lares, REJECTIONS, "rejections")}
    return Outcome(media, events, rejections)


async def pages(lares: Lares, query: str, field: str, **variables: Any) -> list[Any]:
    """Every node of a connection."""
    nodes: list[Any] = []
    after = None
    while True:
        page = (await lares.graphql(query, after=after, **variables))[field]
        nodes += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return nodes
        after = page["pageInfo"]["endCursor"]


def _flat(node: dict[str, Any], connection: str) -> dict[str, Any]:
    return node | {connection: [edge["node"] for edge in node[connection]["edges"]]}
