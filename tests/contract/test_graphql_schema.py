"""docs/schema.graphql is up to date and keeps the names that clients use."""

import re
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from gateway.schema import make_schema

PRINTED = Path(__file__).parents[2] / "docs" / "schema.graphql"

# A change that breaks one of these breaks clients.
PROMISED = [
    """{ cameras { id name timeZone enabled thresholds { label score } } camera(id: "front-door") { id } }""",
    """query($filter: EventFilter) {
      events(first: 9, after: "x", filter: $filter) {
        edges { cursor node { ...E } } pageInfo { hasNextPage endCursor } }
      event(id: "x") { ...E } }
    fragment E on Event { id camera { id name } status revision sequence startedAt endedAt closed labels
      assessment { score severity summary factors { name points text detectionIds } reasoner assessedAt }
      detections(first: 9, after: "x") { edges { cursor node { id label score box { xMin yMin xMax yMax }
        capturedAt media { id } } } pageInfo { hasNextPage endCursor } }
      media { id url thumbnailUrl capturedAt detectedAt } }""",
    """{ event(id: "x") { assessment { id score severity summary reasoner model promptHash assessedAt
      durationSeconds rulesScore factors { name points text detectionIds } } } }""",
    """{ events(filter: {cameraIds: ["a"], labels: ["person"], severities: [LOW, MEDIUM, HIGH, CRITICAL],
      statuses: [PENDING, ASSESSED, FAILED], startedAfter: "2026-11-21T12:00:00Z",
      startedBefore: "2026-11-21T12:00:00Z"}) { edges { cursor } } }""",
    """{ media(id: "x") { id } mediaList(first: 9, after: "x", cameraIds: ["a"]) { edges { cursor node { id
      detections { edges { node { id label score } } } } } pageInfo { hasNextPage endCursor } } }""",
    """{ rejections(first: 9, after: "x") { edges { node {
      id cameraId path reason detail rejectedAt } } } }""",
    """{ status { idle ingest { settling unannounced scanning } detect { lag } store {
      detectionsLag rejectionsLag assessmentsLag openEvents dueEvents leasedEvents outbox sequence } } }""",
    """query($minutes: Int) { status {
      store { recentlyAssessed etaSeconds }
      detect { detector ready detail servers { address available inFlight answered failed } }
      reason { reasoner state detail since model models prompt prompts slots assessing assessed failed
        promptTokens cachedTokens completionTokens }
      noGpu gpus(minutes: $minutes) { index uuid name memoryTotalBytes now { ...S } history { ...S } } } }
    fragment S on GpuSample { at utilization memoryUsedBytes temperatureCelsius powerWatts }""",
    """mutation { createCamera(input: {id: "a", name: "A", timeZone: "UTC", enabled: true,
      thresholds: [{label: "*", score: 0.5}]}) { camera { id } } }""",
    """mutation { updateCamera(input: {id: "a", name: "B"}) { camera { id } }
      deleteCamera(id: "a") { id } }""",
    """mutation { reassessEvent(input: {eventId: "x", requestId: "y", model: "m", prompt: "v2"}) {
      requestId event { id assessments(first: 9, after: "x") { edges { cursor node { id score evidenceDigest
        model promptHash promptTokens cachedTokens completionTokens durationSeconds rawAnswer rulesScore
        requestId } } pageInfo { hasNextPage endCursor } } } } }""",
    """{ mode { mode lapsed lapsesAt latest { at mode source changedBy } next { at mode } }
      people { id name relation } modeChanges(first: 9, after: "x") { edges { cursor node { at } } }
      modeSchedule { timeZone changes {
      weekday time mode } } presence(first: 9, after: "x") { present { personId } reports { edges { node {
      present reportedAt reportedBy } } } } siteNotes { text cameraId } status { mode { mode lapsed } }
      expectedVisits { id name labels cameraIds zoneIds weekdays fromTime toTime fromDate untilDate } }""",
    """mutation { setMode(input: {mode: "away", at: "2026-11-21T12:00:00Z"}) { mode { mode } }
      setModeSchedule(input: {changes: [{weekday: MONDAY, time: "08:00", mode: "away"}]}) { modeSchedule {
        timeZone } } reportPresence(input: {personId: "x", present: true}) { lapsesAt } }""",
    """subscription($after: String, $ids: [ID!], $least: Severity) {
      eventChanged(after: $after, cameraIds: $ids, minSeverity: $least) { cursor event { id } } }""",
]

# Names that were retired before the first release.
RETIRED = [
    "{ events { edges { node { risk { score } } } } }",
    "{ events { edges { node { assessment { evidence { points } } } } } }",
    "{ events { edges { node { assessment { factors { factor } } } } } }",
    """mutation { reassess(input: {eventId: "x"}) { requestId } }""",
]


def test_the_printed_schema_is_up_to_date() -> None:
    printed = PRINTED.read_text()
    assert printed == make_schema().as_str() + "\n", "run `make format`"


def test_the_promised_names_are_there() -> None:
    schema = build_schema(PRINTED.read_text())
    for text in PROMISED:
        assert not validate(schema, parse(text)), text


@pytest.mark.parametrize(("page", "count"), [("README.md", 6), ("docs/house.md", 6), ("docs/judging.md", 1)])
def test_the_examples_on_this_page_are_valid(page: str, count: int) -> None:
    schema = build_schema(PRINTED.read_text())
    examples = re.findall("```graphql\n(.*?)```", (PRINTED.parents[1] / page).read_text(), re.DOTALL)
    assert len(examples) == count
    for text in examples:
        assert not validate(schema, parse(text)), text


def test_the_retired_names_are_gone() -> None:
    schema = build_schema(PRINTED.read_text())
    for text in RETIRED:
        assert validate(schema, parse(text)), text
    assert not {"Risk", "RiskConnection", "ReassessInput", "ReassessPayload"} & schema.type_map.keys()
