"""What Lares makes of a scene, from photos to the score: a zone, the mode of the house, what is usual at this
hour, who somebody is, and a vehicle that comes, stays and goes. All of it happens by day."""

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import PAUSE_SECONDS
from deploy.samples import sample_photos
from lares.ingest.v1.ingest_service_pb2 import UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from tests.support.image_files import tiff, with_segments
from tests.support.lares import Lares, running_lares
from tests.support.photos import CACHE, empty_photo, people, renumbered, vehicle_photo
from tests.support.places import where_it_is_noon
from tests.support.waiting import until

# On eight days, the first and the last of which are three weeks apart.
DAYS_BEFORE = (21, 18, 15, 12, 9, 6, 3, 1)
DAY_BEFORE_THE_ZONE = 25
# Of the photos of one event.
SECONDS_BEFORE = (12, 8, 4, 0)
EVENTS = """query($camera: ID!) { events(first: 50, filter: {cameraIds: [$camera]}) { edges { node {
  id zones labels
  evidence { digest mode light zones { id kind } habits { label zoneId behaviour daysSeen days }
    changes { thing kind at zone { id kind } }
    tracks { id label detectionIds identity { personId } visits { zone { id kind } seconds } } }
  assessment { score severity evidenceDigest factors { name text points detectionIds } }
  assessments { edges { node { id } } }
  detections { edges { node { id label zones box { xMin xMax yMax } } } } } } } }"""
DRAW_ZONE = """mutation($camera: ID!, $polygon: [PointInput!]!) {
  updateCamera(input: {id: $camera, zones: [{id: "step", name: "Step", kind: ENTRY, polygon: $polygon}]}) {
    camera { zones { id kind } warnings } } }"""
CREATE_DRIVE = """mutation($camera: ID!, $polygon: [PointInput!]!) {
  createCamera(input: {id: $camera, zones: [{id: "drive", kind: PRIVATE, polygon: $polygon}]}) {
    camera { warnings } } }"""
MEDIA = """query($camera: ID!) { mediaList(first: 50, cameraIds: [$camera]) { edges { node {
  capturedAt detections { edges { node { label } } } } } } }"""
SET_MODE = "mutation($input: SetModeInput!) { setMode(input: $input) { mode { mode } } }"
CREATE_PERSON = """mutation {
  createPerson(input: {name: "Ana", relation: RESIDENT}) { person { id } } }"""
IDENTIFY = """mutation($input: IdentifyTrackInput!) { identifyTrack(input: $input) { event { id } } }"""


def home_by_day(home: Path, **settings: str) -> AbstractAsyncContextManager[Lares]:
    """A Lares where it is about noon. A change of the mode reaches back far enough for a slow machine."""
    common = {
        "LARES_TIME_ZONE": where_it_is_noon(datetime.now(UTC)),
        "LARES_EVENT_GAP_SECONDS": "6",
        "LARES_ENTRY_DELAY_SECONDS": "3600",
    }
    return running_lares(home, common | settings)


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lares]:
    """Nobody has been at home for ten minutes."""
    home = tmp_path_factory.mktemp("scene") / "home"
    async with home_by_day(home, LARES_WATCH_CLASSES="person,motorcycle") as started:
        since = datetime.now(UTC) - timedelta(minutes=10)
        await started.graphql(SET_MODE, input={"mode": "away", "at": since.isoformat()})
        yield started


def just_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def drop(lares: Lares, camera: str, photo: bytes, at: datetime, suffix: str = ".jpg") -> None:
    """Adds a photo that was taken at this time."""
    folder = lares.cameras / camera
    folder.mkdir(parents=True, exist_ok=True)
    name = f"photo {at.timestamp():.0f}{suffix}"  # no time that would be read in the zone of the camera
    partial = folder / f".{name}.part"
    partial.write_bytes(photo)
    os.utime(partial, (at.timestamp(), at.timestamp()))
    partial.rename(folder / name)


def drop_person(lares: Lares, camera: str, times: Sequence[datetime]) -> None:
    """Adds photos that show one person, in the same place."""
    for at in times:
        drop(lares, camera, renumbered(people()[3], int(at.timestamp())), at)


async def events(lares: Lares, camera: str) -> list[dict[str, Any]]:
    """When no part of Lares has work left. The newest event comes first."""
    await lares.idle()
    return [edge["node"] for edge in (await lares.graphql(EVENTS, camera=camera))["events"]["edges"]]


async def draw_zone_where_the_person_stands(lares: Lares, camera: str, now: datetime) -> None:
    """As people do: they look at a photo of an earlier day, and draw."""
    drop_person(lares, camera, [now - timedelta(days=DAY_BEFORE_THE_ZONE)])
    (event,) = await events(lares, camera)
    (edge,) = event["detections"]["edges"]
    box = edge["node"]["box"]
    x, y = (box["xMin"] + box["xMax"]) / 2, box["yMax"]
    left, right, top, bottom = max(0, x - 0.1), min(1, x + 0.1), max(0, y - 0.1), min(1, y + 0.1)
    corners = (left, top), (right, top), (right, bottom), (left, bottom)
    polygon = [{"x": x, "y": y} for x, y in corners]
    drawn = await lares.graphql(DRAW_ZONE, camera=camera, polygon=polygon)
    assert drawn["updateCamera"]["camera"] == {"zones": [{"id": "step", "kind": "ENTRY"}], "warnings": []}
    assert event["zones"] == (await events(lares, camera))[0]["zones"] == []


def factors_of(event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name. Their points add up to the score."""
    factors = event["assessment"]["factors"]
    assert sum(factor["points"] for factor in factors) == event["assessment"]["score"]
    return {factor["name"]: factor for factor in factors}


async def test_an_event_holds_the_visit_the_mode_and_the_habit_and_its_factors_say_so(lares: Lares) -> None:
    now = just_now()
    await draw_zone_where_the_person_stands(lares, "door", now)
    drop_person(lares, "door", [now - timedelta(days=days) for days in DAYS_BEFORE])
    assert len(await events(lares, "door")) == 1 + len(DAYS_BEFORE)
    drop_person(lares, "door", [now - timedelta(seconds=seconds) for seconds in SECONDS_BEFORE])
    event, *earlier = await events(lares, "door")

    assert [event["zones"], *(one["zones"] for one in earlier)] == [["step"]] * (1 + len(DAYS_BEFORE)) + [[]]
    evidence = event["evidence"]
    assert (evidence["light"], evidence["mode"]) == ("DAYLIGHT", "away")
    (track,) = evidence["tracks"]
    assert track["visits"] == [{"zone": {"id": "step", "kind": "ENTRY"}, "seconds": 12.0}]
    assert sorted(track["detectionIds"]) == sorted(e["node"]["id"] for e in event["detections"]["edges"])
    assert evidence["habits"] == [
        {"label": "person", "zoneId": "step", "behaviour": "PASSING", "daysSeen": 8, "days": 28}
    ]
    assert event["assessment"]["evidenceDigest"] == evidence["digest"]
    factors = factors_of(event)
    said = {name: (factors[name]["points"], factors[name]["text"]) for name in ("stay", "away", "habit")}
    assert said == {
        "stay": (2, "A person stayed 12 s at a door."),
        "away": (12, "Nobody is at home."),
        "habit": (-10, "This is usual at this hour: it was seen on 8 of 28 days."),
    }
    # A habit does not make somebody at the door of an empty house LOW.
    assert (event["assessment"]["severity"], factors["relief_limit"]["points"]) == ("MEDIUM", 1)
    # On the earlier days nobody had set a mode, and too few days had gone before.
    assert {(one["evidence"]["mode"], len(one["evidence"]["habits"])) for one in earlier} == {(None, 0)}


async def test_who_somebody_says_a_track_is_is_assessed_again(lares: Lares) -> None:
    now = just_now()
    await draw_zone_where_the_person_stands(lares, "gate", now)
    drop_person(lares, "gate", [now - timedelta(seconds=seconds) for seconds in SECONDS_BEFORE])
    unknown, _ = await events(lares, "gate")
    assert unknown["evidence"]["habits"] == []
    (track,) = unknown["evidence"]["tracks"]
    assert (track["identity"], unknown["assessment"]["severity"]) == (None, "MEDIUM")
    assert not {"known", "habit"} & {*factors_of(unknown)}

    person = (await lares.graphql(CREATE_PERSON))["createPerson"]["person"]["id"]
    await lares.graphql(
        IDENTIFY, input={"eventId": unknown["id"], "trackId": track["id"], "personId": person}
    )
    known, _ = await events(lares, "gate")
    (named,) = known["evidence"]["tracks"]
    assert named == track | {"identity": {"personId": person}}
    assert known["evidence"]["digest"] != unknown["evidence"]["digest"]
    assert known["assessment"]["evidenceDigest"] == known["evidence"]["digest"]
    assert len(known["assessments"]["edges"]) == len(unknown["assessments"]["edges"]) + 1
    factors = factors_of(known)
    assert factors["known"]["text"] == "Somebody has said who this is, and the person is welcome."
    assert not {"away", "stay", "floor"} & {*factors}
    assert known["assessment"]["severity"] == "LOW"


def drop_with_exif(lares: Lares, camera: str, photo: Path, times: Sequence[datetime]) -> None:
    """Adds photos whose camera says when it took them. Their files are new."""
    for at in times:
        taken = tiff(f"{at:%Y:%m:%d %H:%M:%S}", "+00:00")
        content = with_segments(photo.read_bytes(), (0xE1, b"Exif\x00\x00" + taken))
        folder = lares.cameras / camera
        partial = folder / f".{at:%H%M%S}.part"
        partial.write_bytes(content)
        partial.rename(folder / f"{at:%H%M%S}.jpg")


async def upload(lares: Lares, camera: str, photo: Path, times: Sequence[datetime]) -> None:
    """Adds photos for which a program declares when they were taken."""
    async with lares.grpc_channel() as channel:
        for number, at in enumerate(times):
            content = renumbered(photo, number)
            digest = hashlib.sha256(content).hexdigest()
            header = UploadHeader(camera_id=camera, sha256=digest, size_bytes=len(content))
            header.captured_at.FromDatetime(at)
            parts = iter([UploadMediaRequest(header=header), UploadMediaRequest(chunk=content)])
            await IngestServiceStub(channel).UploadMedia(
                parts, metadata=(("x-api-key", lares.key),), timeout=60
            )


async def test_a_vehicle_comes_stays_and_goes(lares: Lares) -> None:
    left, right, top, bottom = 0, 1, 0.5, 1
    corners = (left, top), (right, top), (right, bottom), (left, bottom)
    polygon = [{"x": x, "y": y} for x, y in corners]
    created = await lares.graphql(CREATE_DRIVE, camera="drive", polygon=polygon)
    assert created["createCamera"]["camera"]["warnings"] == []
    came = just_now() - timedelta(minutes=50)

    def minutes(*numbers: float) -> list[datetime]:
        return [came + timedelta(minutes=number) for number in numbers]

    await until((lares.cameras / "drive").is_dir)
    drop_with_exif(lares, "drive", vehicle_photo(), minutes(0, 5, 10))
    *again, arrival = await events(lares, "drive")
    # In its first ten minutes nobody knows that it will stay.
    assert [(one["labels"], one["evidence"]["changes"]) for one in again] == [(["motorcycle"], [])] * 2
    change = {"thing": "motorcycle", "zone": {"id": "drive", "kind": "PRIVATE"}}
    assert arrival["evidence"]["changes"] == [change | {"kind": "CAME", "at": came.isoformat()}]
    assert (arrival["zones"], arrival["evidence"]["mode"]) == (["drive"], "away")
    assert arrival["assessment"]["evidenceDigest"] == arrival["evidence"]["digest"]
    arrived = factors_of(arrival)
    assert arrived["came"]["text"] == "A motorcycle came and stays here."
    assert arrived["arrived"]["text"] == "A motorcycle came onto the ground of the house."

    drop_with_exif(lares, "drive", vehicle_photo(), minutes(15, 20, 40))
    assert await events(lares, "drive") == [*again, arrival]
    stored = (await lares.graphql(MEDIA, camera="drive"))["mediaList"]["edges"]
    labels = [[e["node"]["label"] for e in edge["node"]["detections"]["edges"]] for edge in stored]
    assert labels == [["motorcycle"]] * 6

    lacking = [came + timedelta(minutes=41, seconds=seconds) for seconds in (0, 5, 10)]
    await upload(lares, "drive", empty_photo(), lacking)
    departure, *before = await events(lares, "drive")
    assert before == [*again, arrival]
    assert (departure["labels"], departure["zones"]) == (["motorcycle"], ["drive"])
    assert departure["detections"]["edges"] == []
    assert departure["evidence"]["changes"] == [change | {"kind": "WENT", "at": lacking[0].isoformat()}]
    assert departure["assessment"]["evidenceDigest"] == departure["evidence"]["digest"]
    went = factors_of(departure)["went"]
    assert (went["points"], went["text"]) == (25, "A motorcycle is gone that stood here.")
    # Nobody was at home.
    assert departure["assessment"]["severity"] == "MEDIUM"


async def test_a_fresh_home_is_not_alarmed_by_people_by_day_until_nobody_is_at_home(tmp_path: Path) -> None:
    async with home_by_day(tmp_path / "home") as lares:
        now, photos = just_now(), sample_photos(CACHE)
        for index, photo in enumerate(photos):
            content, pause = photo.read_bytes(), PAUSE_SECONDS * (len(photos) - index)
            drop(lares, "demo", content, now - timedelta(seconds=pause), photo.suffix)
            drop(lares, f"alone-{index}", content, now, photo.suffix)
        (together,) = await events(lares, "demo")
        alone = [event for index in range(len(photos)) for event in await events(lares, f"alone-{index}")]
        with_people = [event for event in [together, *alone] if "person" in event["labels"]]
        assert len(with_people) == 4
        for event in with_people:
            assert event["assessment"]["severity"] in ("LOW", "MEDIUM"), event["assessment"]
            assert (event["evidence"]["light"], event["evidence"]["mode"]) == ("DAYLIGHT", None)
            said = [factor["text"] for factor in factors_of(event).values()]
            assert said == [
                "A person was seen.",
                "It was a short visit by day.",
                "No mode is set, so nobody has said who is at home.",
            ]

        # Who sets the mode when leaving has still been seen by the camera: the same photos, assessed again.
        await lares.graphql(SET_MODE, input={"mode": "away"})
        (amended,) = await events(lares, "demo")
        assert (amended["id"], amended["evidence"]["mode"]) == (together["id"], "away")
        assert amended["assessment"]["evidenceDigest"] == amended["evidence"]["digest"]
        assert factors_of(amended)["away"]["text"] == "Nobody is at home."
        assert amended["assessment"]["score"] > together["assessment"]["score"]
