"""What is watched, on a whole Lares: a label that the detector lacks is said and stops nothing; a preview."""

from pathlib import Path

from tests.support.lares import Lares
from tests.support.photos import people

WATCH = "{ status { watchProblem } }"
EVENTS = "{ events(first: 10) { edges { node { labels detections { edges { node { id } } } } } } }"
PREVIEW = """query($score: Float!) {
  previewPolicy(input: {id: "door", thresholds: [{label: "person", score: $score}]}) {
    currentPolicyDigest proposedPolicyDigest
    frames { detections { label score recorded proposed } } } }"""
SETTINGS = {"LARES_EVENT_GAP_SECONDS": "1", "LARES_EVENT_SPAN_SECONDS": "3"}


async def problem(lares: Lares) -> str | None:
    said: str | None = (await lares.graphql(WATCH))["status"]["watchProblem"]
    return said


async def test_a_watched_label_that_the_detector_lacks_is_said_and_stops_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # By its name of before, which is an alias where all targets run in one process.
    lares = Lares(home, SETTINGS | {"LARES_DETECT_CLASSES": "person,burglar"})
    lares.start()
    try:
        await lares.ready()
        assert "LARES_DETECT_CLASSES is now LARES_WATCH_CLASSES" in lares.tail()
        assert await problem(lares) is None
        (lares.cameras / "door").mkdir()
        (lares.cameras / "door" / "a.jpg").write_bytes(people()[0].read_bytes())
        await lares.until_stored(1)
        await lares.idle()
        said = await problem(lares)
        assert said
        assert said.startswith(
            "LARES_WATCH_CLASSES: efficientdet-lite0@0720bf247bd7 cannot find burglar; it finds"
        )
        ready = await lares.get("/ready")
        assert (ready.status_code, ready.json()["checks"]["watch_policy"]) == (503, False)
        assert {part for part, well in ready.json()["checks"].items() if not well} == {"watch_policy"}
        (event,) = (await lares.graphql(EVENTS))["events"]["edges"]
        assert event["node"]["labels"] == ["person"]
    finally:
        await lares.close()
    # The start does not wait for what may never come; and the problem is still known.
    lares.log.unlink()  # the banner is waited for
    lares = Lares(home, SETTINGS | {"LARES_WATCH_CLASSES": "person,burglar"})
    lares.start()
    try:
        await lares.until_up()
        assert await problem(lares) == said
        await preview_the_photo(lares, len(event["node"]["detections"]["edges"]))
    finally:
        await lares.close()
    lares = Lares(home, SETTINGS | {"LARES_WATCH_CLASSES": "person"})
    lares.start()
    try:
        await lares.ready()
        assert await problem(lares) is None
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
