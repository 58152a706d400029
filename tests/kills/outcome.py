"""What a run left in Lares, except for what may differ between two correct runs."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from google.protobuf.json_format import MessageToDict

from lares.store.v1.event_service_pb2 import GetEvidenceRequest
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from tests.support.home_database import home_database
from tests.support.jobs_left import jobs_left
from tests.support.readable_lares import ReadableLares
from tests.support.topic_values import assessed_times

MEDIA = """query($after: String) { mediaList(first: 200, after: $after) {
  edges { node { id kind capturedAt durationSeconds codec frames { index capturedAt }
    detections(first: 500) { edges { node { id label score } } } } }
  pageInfo { hasNextPage endCursor } } }"""
EVENTS = """query($after: String) { events(first: 50, after: $after) {
  edges { node { id camera { id } status closed startedAt endedAt labels
    assessment { evidenceDigest requestId score severity summary reasoner
      factors { name points text detectionIds } }
    assessments(first: 50) { edges { node { evidenceDigest requestId score model } } }
    lastFailure { reason givenUpRequestId }
    detections(first: 500) { edges { node { id } } } media { id } } }
  pageInfo { hasNextPage endCursor } } }"""
REJECTIONS = """query($after: String) { rejections(first: 200, after: $after) {
  edges { node { id cameraId path reason } } pageInfo { hasNextPage endCursor } } }"""
RENDITIONS = "SELECT id, kind, subject_id, state, sha256, blob, failure FROM renditions"


@dataclass(frozen=True)
class Outcome:
    """Everything by id; `evidence` by the event's. Of renditions only what they are, not how often somebody
    asked.

    `requests` has how each reassessment ended. `assessed` counts the assessments on the log by event,
    evidence digest and request. Two correct runs may assess different evidence of an event that frames still
    join, so `assessed` and the `assessments` of an event have only those of its last evidence. `twice` has
    all assessments that are on the log more than once.
    """

    media: dict[str, Any]
    events: dict[str, Any]
    evidence: dict[str, Any]
    rejections: dict[str, Any]
    renditions: dict[str, Any]
    requests: dict[str, str]
    assessed: dict[str, int]
    twice: dict[str, int]
    jobs: list[str]

    def differences(self, other: "Outcome") -> list[str]:
        """Returns a line for each entry that differs."""
        lines = []
        for kind in (field.name for field in fields(self) if field.name not in ("twice", "jobs")):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    lines.append(f"{kind} {name}:\n    {mine.get(name)}\n    {theirs.get(name)}")
        return lines


async def read_outcome(lares: ReadableLares) -> Outcome:
    media = {node["id"]: _flat(node, "detections") for node in await pages(lares, MEDIA, "mediaList")}
    events, requests, last = {}, {}, {}
    for node in await pages(lares, EVENTS, "events"):
        node = _flat(_flat(node, "detections"), "assessments")
        node["detections"] = sorted(found["id"] for found in node["detections"])
        node["media"] = sorted(one["id"] for one in node["media"])
        last[node["id"]] = node["assessment"] and node["assessment"]["evidenceDigest"]
        for assessment in node["assessments"]:
            if assessment["requestId"]:
                requests[assessment["requestId"]] = "answered"
        if node["lastFailure"] and node["lastFailure"]["givenUpRequestId"]:
            requests[node["lastFailure"]["givenUpRequestId"]] = "given up"
        node["assessments"] = sorted(
            (one for one in node["assessments"] if one["evidenceDigest"] == last[node["id"]]),
            key=lambda one: str(one["requestId"]),
        )
        events[node["id"]] = node
    rejections = {node["id"]: node for node in await pages(lares, REJECTIONS, "rejections")}
    times = await assessed_times(lares)
    return Outcome(
        media,
        events,
        await _read_evidence(lares, events),
        rejections,
        await _read_renditions(lares),
        requests,
        {" ".join(key): count for key, count in times.items() if key[1] == last.get(key[0])},
        {" ".join(key): count for key, count in times.items() if count > 1},
        await jobs_left(lares.home),
    )


async def _read_evidence(lares: ReadableLares, event_ids: Iterable[str]) -> dict[str, Any]:
    """Everything but the revision, which grows with each batch of frames that changes an event."""
    metadata = (("x-api-key", lares.key),)
    found = {}
    async with lares.grpc_channel() as channel:
        stub = EventServiceStub(channel)
        for id in event_ids:
            response = await stub.GetEvidence(GetEvidenceRequest(event_id=id), metadata=metadata, timeout=30)
            response.evidence.ClearField("revision")
            found[id] = MessageToDict(response.evidence, preserving_proto_field_name=True)
    return found


async def _read_renditions(lares: ReadableLares) -> dict[str, Any]:
    async with home_database(lares.home) as connection:
        return {str(row["id"]): dict(row) for row in await connection.fetch(RENDITIONS)}


async def pages(lares: ReadableLares, query: str, field: str, **variables: Any) -> list[Any]:
    """Returns all nodes of a connection."""
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
