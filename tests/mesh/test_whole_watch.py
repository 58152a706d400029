"""The watch policy on a whole Lares: a watched label that the detector lacks, and the preview of a policy."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.lares import Lares
from tests.support.parts import running_kafka
from tests.support.photos import people

WATCH_PROBLEM = "{ status { watchProblem } }"
EVENTS = "{ events(first: 10) { edges { node { labels detections { edges { node { id } } } } } } }"
PREVIEW = """query($score: Float!) {
  previewPolicy(input: {id: "door", thresholds: [{label: "person", score: $score}]}) {
    currentPolicyDigest proposedPolicyDigest
    frames { detections { label score recorded proposed } } } }"""
SETTINGS = {"LARES_EVENT_GAP_SECONDS": "1", "LARES_EVENT_SPAN_SECONDS": "3"}


@pytest.fixture
async def parts(postgres_url: str) -> AsyncIterator[dict[str, str]]:
    """Settings for a PostgreSQL and a Kafka that outlive a Lares, so that it starts more quickly."""
    async with running_kafka() as kafka_url:
        yield {"LARES_DATABASE_URL": postgres_url, "LARES_BUS_URL": kafka_url}


async def watch_problem(lares: Lares) -> str | None:
    problem: str | None = (await lares.graphql(WATCH_PROBLEM))["status"]["watchProblem"]
    return problem


async def test_a_watched_label_that_the_detector_lacks_is_reported_and_stops_nothing(
    tmp_path: Path, parts: dict[str, str]
) -> None:
    home, settings = tmp_path / "home", SETTINGS | parts
    # The old name of the setting, which is an alias if all targets run in one process.
    lares = Lares(home, settings | {"LARES_DETECT_CLASSES": "person,burglar"})
    lares.start()
    try:
        await lares.ready()
        assert "LARES_DETECT_CLASSES is now LARES_WATCH_CLASSES" in lares.tail()
        assert await watch_problem(lares) is None
        (lares.cameras / "door").mkdir()
        (lares.cameras / "door" / "a.jpg").write_bytes(people()[0].read_bytes())
        await lares.until_stored(1)
        await lares.idle()
        problem = await watch_problem(lares)
        assert problem
        assert problem.startswith(
            "LARES_WATCH_CLASSES: efficientdet-lite0@0720bf247bd7 cannot find burglar; it finds"
        )
        ready = await lares.get("/ready")
        assert (ready.status_code, ready.json()["checks"]["watch_policy"]) == (503, False)
        assert {part for part, passed in ready.json()["checks"].items() if not passed} == {"watch_policy"}
        (event,) = (await lares.graphql(EVENTS))["events"]["edges"]
        assert event["node"]["labels"] == ["person"]
    finally:
        await lares.close()
    # A start does not wait until the problem is solved, and still reports it.
    lares.log.unlink()  # because until_up waits for the banner in it
    lares = Lares(home, settings | {"LARES_WATCH_CLASSES": "person,burglar"})
    lares.start()
    try:
        await lares.until_up()
        assert await watch_problem(lares) == problem
        await preview_the_photo(lares, len(event["node"]["detections"]["edges"]))
    finally:
        await lares.close()
    lares = Lares(home, settings | {"LARES_WATCH_CLASSES": "person"})
    lares.start()
    try:
        await lares.ready()
        assert await watch_problem(lares) is None
    finally:
        await lares.close()


async def preview_the_photo(lares: Lares, count: int) -> None:
    low = (await lares.graphql(PREVIEW, score=0.1))["previewPolicy"]
    (frame,) = low["frames"]
    people = [found for found in frame["detections"] if found["label"] == "person"]
    assert sum(found["recorded"] == "KEPT" for found in people) == count
    assert all(found["proposed"] == "KEPT" for found in people)
    assert len(people) > count
    assert {found["recorded"] for found in frame["detections"]} >= {"NOT_WATCHED", "BELOW_THRESHOLD"}
    assert low["currentPolicyDigest"] != low["proposedPolicyDigest"]
    usual = (await lares.graphql(PREVIEW, score=0.5))["previewPolicy"]
    assert usual["currentPolicyDigest"] == usual["proposedPolicyDigest"]
