"""A whole Lares from the file of a photo to its APIs: `lares up` runs in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from mesh.topics import dead_letters
from tests.judge.assessing import by_rules
from tests.judge.context import evidence_message
from tests.judge.labelled import read_events
from tests.support.lares import CHANNELS, ROOT, Lares, Refused, running_lares
from tests.support.photos import empty_photo, person_photo
from tests.support.waiting import until, until_async

FRONT_DOOR = """{ events(first: 5, filter: {cameraIds: ["front-door"]}) { edges { node {
  id status labels closed startedAt sequence camera { id name }
  assessment { score severity summary reasoner factors { name points text detectionIds } }
  detections(first: 50) { edges { node { id label score box { xMin yMin xMax yMax } media { id } } } }
  media { id url thumbnailUrl } } } } }"""
CHANGES = """subscription($after: String) { eventChanged(after: $after) { cursor event {
  id status labels assessment { score severity } camera { id } } } }"""


@pytest.fixture(scope="module", params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> str:
    """How the services call each other. All tests of this module run with each."""
    return str(request.param)


@pytest.fixture(scope="module")
async def lares(channel: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lares]:
    home = tmp_path_factory.mktemp("whole") / "home"
    settings = {
        "LARES_EVENT_GAP_SECONDS": "1",
        "LARES_EVENT_SPAN_SECONDS": "3",
        "LARES_GRPC_REFLECTION": "true",
    }
    async with running_lares(home, settings, channel) as started:
        yield started


@pytest.fixture(scope="module")
async def event(lares: Lares) -> dict[str, Any]:
    """The assessed event of a photo of a person at the camera `front-door`."""
    drop(lares, person_photo(), "Front Door", "1.jpg")
    await lares.idle()
    (edge,) = (await lares.graphql(FRONT_DOOR))["events"]["edges"]
    found: dict[str, Any] = edge["node"]
    return found


def drop(lares: Lares, photo: Path, camera: str, name: str) -> Path:
    """Moves a copy of the photo into the camera's folder."""
    folder = lares.cameras / camera
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.part"
    partial.write_bytes(photo.read_bytes())
    target = folder / name
    partial.rename(target)
    return target


async def changes(lares: Lares, after: str, camera: str, count: int) -> list[dict[str, Any]]:
    """Returns the first `count` changes of this camera after the cursor, over graphql-transport-ws."""
    seen: list[dict[str, Any]] = []
    protocol = websockets.Subprotocol("graphql-transport-ws")
    url = f"{lares.url('ws')}/graphql"
    async with websockets.connect(url, subprotocols=[protocol], ssl=lares.tls) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"x-api-key": lares.key}}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        payload = {"query": CHANGES, "variables": {"after": after}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        while len(seen) < count:
            message = json.loads(await asyncio.wait_for(socket.recv(), 90))
            if message["type"] == "next":
                change = message["payload"]["data"]["eventChanged"]
                if change["event"]["camera"]["id"] == camera:
                    seen.append(change)
    return seen


async def test_a_photo_becomes_a_scored_event(event: dict[str, Any]) -> None:
    assert event["camera"] == {"id": "front-door", "name": "Front Door"}
    assert (event["status"], event["closed"]) == ("ASSESSED", True)
    assert event["assessment"]["reasoner"] == "rules/v2"
    assert sum(factor["points"] for factor in event["assessment"]["factors"]) == event["assessment"]["score"]
    people = [e["node"] for e in event["detections"]["edges"] if e["node"]["label"] == "person"]
    assert people
    assert people[0]["id"] in [d for factor in event["assessment"]["factors"] for d in factor["detectionIds"]]


async def test_services_use_the_channel_that_is_set(
    lares: Lares, channel: str, event: dict[str, Any]
) -> None:
    assert event["assessment"]
    assert lares.used_channel() == channel


async def test_a_subscriber_sees_an_event_appear_and_its_assessment(lares: Lares) -> None:
    head = (await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"]
    watching = asyncio.create_task(changes(lares, str(head), "driveway", 2))
    drop(lares, person_photo(), "driveway", "1.jpg")
    pending, assessed = await watching
    assert int(head) < int(pending["cursor"]) < int(assessed["cursor"])
    assert (pending["event"]["status"], pending["event"]["assessment"]) == ("PENDING", None)
    assert assessed["event"]["assessment"]["score"] > 0
    assert await changes(lares, "0", "driveway", 2) == [pending, assessed]


REASSESS = """mutation($input: ReassessEventInput!) { reassessEvent(input: $input) {
  requestId event { id status assessment { requestId } } } }"""
HISTORY = """query($id: ID!) { event(id: $id) { status assessment { id requestId score }
  assessments { edges { node { id requestId score reasoner evidenceDigest } } } } }"""


async def test_a_reassessment_is_added_to_the_history(lares: Lares, event: dict[str, Any]) -> None:
    id, request = event["id"], str(uuid4())
    for _ in range(2):  # the second call repeats the same request
        asked = (await lares.graphql(REASSESS, input={"eventId": id, "requestId": request}))["reassessEvent"]
        assert (asked["requestId"], asked["event"]["status"]) == (request, "ASSESSED")
        await lares.idle()
    history = (await lares.graphql(HISTORY, id=id))["event"]
    second, first = [edge["node"] for edge in history["assessments"]["edges"]]
    assert (first["requestId"], second["requestId"]) == (None, request)
    assert history["assessment"] == {"id": second["id"], "requestId": request, "score": first["score"]}
    assert (second["reasoner"], second["evidenceDigest"]) == ("rules/v2", first["evidenceDigest"])
    with pytest.raises(Refused):
        await lares.graphql(REASSESS, input={"eventId": id, "model": "nobody's"})


STATUS = """{ status { store { recentlyAssessed etaSeconds } detect { detector ready servers { address } }
  reason { reasoner state detail assessed } gpus(minutes: 1) { name now { at } } } }"""


async def test_the_status_names_the_reasoner_and_the_detector(lares: Lares, event: dict[str, Any]) -> None:
    status: Any = {}

    async def complete() -> bool:
        """Returns whether all services are in the status: one that takes over two seconds is missing."""
        nonlocal status
        status = (await lares.graphql(STATUS))["status"]
        return status["reason"]["state"] == "READY" and isinstance(status["gpus"], list)

    await until_async(complete)
    assert status["store"]["recentlyAssessed"] >= 1
    assert status["store"]["etaSeconds"] == 0
    assert status["detect"]["ready"]
    assert status["detect"]["detector"].startswith("efficientdet-lite0@")
    assert status["reason"]["reasoner"] == "rules/v2"
    assert status["reason"]["assessed"] >= 1

    async def measured() -> bool:
        lines = (await lares.get("/metrics", **{"x-api-key": lares.key})).text.splitlines()
        return {"lares_backlog_events 0.0", 'lares_reasoner_state{state="ready"} 1.0'} <= set(lines)

    await until_async(measured)


async def test_its_media_is_served_with_boxes(lares: Lares, event: dict[str, Any]) -> None:
    (media,) = event["media"]
    original = await lares.get(media["url"])
    assert original.content == person_photo().read_bytes()
    assert original.headers["x-content-type-options"] == "nosniff"
    assert (await lares.get(media["url"], **{"if-none-match": original.headers["etag"]})).status_code == 304
    part = await lares.get(media["url"], range="bytes=0-9")
    assert (part.status_code, part.content) == (206, original.content[:10])
    thumbnail = await lares.get(media["thumbnailUrl"])
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert thumbnail.content[:2] == b"\xff\xd8"


async def test_all_paths_but_health_need_a_key(lares: Lares) -> None:
    async with lares.http_client() as client:
        for path in ("/media/x", "/media/x/thumbnail", "/metrics"):
            assert (await client.get(path)).status_code == 401, path
        response = await client.post("/graphql", json={"query": "{ status { idle } }"})
        assert response.status_code == 401
        assert "UNAUTHENTICATED" in response.text
        assert (await client.get("/health")).status_code == 200
        await until_async(partial(responds, client, "/ready", 200))


async def responds(client: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await client.get(path)).status_code == status


async def test_a_photo_of_an_empty_scene_is_stored_without_an_event(lares: Lares) -> None:
    drop(lares, empty_photo(), "garden", "empty.jpg")
    await lares.idle()
    listed = await lares.graphql(
        '{ mediaList(first: 9, cameraIds: ["garden"]) {'
        "  edges { node { id detections { edges { node { id } } } } } }"
        '  events(filter: {cameraIds: ["garden"]}) { edges { node { id } } } }'
    )
    (media,) = listed["mediaList"]["edges"]
    assert media["node"]["detections"]["edges"] == []
    assert listed["events"]["edges"] == []


async def test_the_same_content_twice_is_one_media(lares: Lares) -> None:
    drop(lares, person_photo(), "twice", "a.jpg")
    drop(lares, person_photo(), "twice", "deep/er/b.jpg".replace("/", "-"))
    await lares.idle()
    listed = await lares.graphql('{ mediaList(first: 9, cameraIds: ["twice"]) { edges { node { id } } } }')
    assert len(listed["mediaList"]["edges"]) == 1


async def test_a_burst_of_bad_files_is_rejected_and_a_good_one_is_stored(lares: Lares) -> None:
    whole = person_photo().read_bytes()
    bad = {
        "zero.jpg": (b"", "ZERO_BYTE"),
        "cut.jpg": (whole[: len(whole) // 2], "TRUNCATED"),
        "text.jpg": (b"not an image at all" * 100, "NOT_AN_IMAGE"),
        "clip.mp4": (b"\x00\x00\x00\x18ftypmp42" + bytes(100), "TRUNCATED"),
    }
    folder = lares.cameras / "burst"
    folder.mkdir()
    for index in range(25):
        for name, (content, _) in bad.items():
            (folder / f"{index:02}-{name}").write_bytes(content)
    drop(lares, person_photo(), "burst", "good.jpg")
    await lares.idle()
    listed = await lares.graphql(
        "{ rejections(first: 200) { edges { node { cameraId path reason detail rejectedAt } } }"
        ' mediaList(first: 9, cameraIds: ["burst"]) { edges { node { id } } } }'
    )
    nodes = [edge["node"] for edge in listed["rejections"]["edges"] if edge["node"]["cameraId"] == "burst"]
    expected = {
        f"burst/{index:02}-{name}": reason for index in range(25) for name, (_, reason) in bad.items()
    }
    assert {node["path"]: node["reason"] for node in nodes} == expected
    assert len(nodes) == 100
    assert all(node["detail"] for node in nodes)
    assert len(listed["mediaList"]["edges"]) == 1
    assert (folder / "00-zero.jpg").exists()


async def test_the_examples_show_the_event(lares: Lares, event: dict[str, Any]) -> None:
    head = (await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"]
    consumer = await run_example(
        "kafka_consumer.py", "--home", str(lares.home), "--count", str(head), "--timeout", "90"
    )
    assert event["id"] in consumer
    client = await run_example(
        "grpc_client.py", "--address", lares.grpc, "--key-file", str(lares.home / "admin.key"), *trust(lares)
    )
    assert event["id"] in client
    subscription = await run_example(
        "graphql_subscription.py", "--url", f"{lares.url('ws')}/graphql", *trust(lares),
        "--key-file", str(lares.home / "admin.key"), "--after", "0", "--count", str(head),
    )  # fmt: skip
    assert event["id"] in subscription


async def test_an_example_that_follows_one_camera_gets_bookmarks(lares: Lares, event: dict[str, Any]) -> None:
    """The changes of other cameras are filtered out; a bookmark reports that they were examined."""
    drop(lares, person_photo(), "other-camera", "1.jpg")
    await lares.idle()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "examples/grpc_client.py", "--address", lares.grpc, "--key-file",
        str(lares.home / "admin.key"), "--watch", "--after", "0", "--camera", "front-door", *trust(lares),
        cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(90):
            while not lines or not lines[-1].endswith("examined"):
                line = await process.stdout.readline()
                assert line, "the example ended"
                lines.append(line.decode().strip())
    finally:
        process.terminate()
        await process.communicate()
    head = (await lares.graphql("{ status { store { sequence } } }"))["status"]["store"]["sequence"]
    assert lines[-1] == f"{head} examined"
    assert lines[:-1]
    assert all(" front-door " in line for line in lines[:-1])


def trust(lares: Lares) -> list[str]:
    """The examples' option for a Lares with a certificate."""
    return ["--tls-ca", lares.ca_file] if lares.ca_file else []


async def run_example(name: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, f"examples/{name}", *arguments, cwd=ROOT, stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return out.decode()


FEEDBACK = """mutation($input: EventFeedbackInput!) {
  eventFeedback(input: $input) { feedback { kind severity } } }"""


async def test_events_are_judged_again_and_exported_with_what_people_said(
    lares: Lares, event: dict[str, Any], tmp_path: Path
) -> None:
    def judge(*arguments: str) -> str:
        environment = os.environ | {"LARES_HOME": str(lares.home)}
        done = subprocess.run(
            [sys.executable, "-m", "deploy", "judge", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        return done.stderr if done.returncode else done.stdout

    given = {"eventId": event["id"], "kind": "RIGHT", "note": "it was me"}
    await lares.graphql(FEEDBACK, input=given)
    again = await asyncio.to_thread(judge, "--events", event["id"])
    assert "1 event: 0 would have a higher severity, 0 a lower one" in again
    assert "1 event with feedback: 1 right now, 1 would be" in again
    exported = tmp_path / "home.jsonl"
    await asyncio.to_thread(judge, "--export", str(exported))
    nowhere = tmp_path / "nowhere" / "home.jsonl"
    refused = await asyncio.to_thread(judge, "--export", str(nowhere))
    assert refused == f"lares: {nowhere}: No such file or directory\n"
    (item,) = read_events(exported)
    assert (item.id, item.scenario, item.item["about"]) == (event["id"], "front-door", "it was me")
    message = evidence_message(item.item, "all")
    assert by_rules(event["assessment"]["reasoner"])(message) == event["assessment"]["score"]


async def test_keys_are_created_listed_and_revoked(lares: Lares) -> None:
    def keys(*arguments: str) -> str:
        environment = os.environ | {"LARES_HOME": str(lares.home)}
        done = subprocess.run(
            [sys.executable, "-m", "deploy", "keys", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip
        return done.stdout

    secret = (await asyncio.to_thread(keys, "create", "phone")).strip()
    listed = await asyncio.to_thread(keys, "list")
    line = next(line for line in listed.splitlines() if line.endswith("phone"))
    assert secret not in listed
    assert (await lares.get("/metrics", **{"x-api-key": secret})).status_code == 200
    await asyncio.to_thread(keys, "revoke", line.split()[0])

    async def refused() -> bool:
        return (await lares.get("/metrics", **{"x-api-key": secret})).status_code == 401

    await until_async(refused)


async def test_a_deleted_camera_is_ignored_until_it_is_created_again(lares: Lares) -> None:
    create = 'mutation { createCamera(input: {id: "shed", name: "The shed"}) { camera { id name } } }'
    await lares.graphql(create)
    await until(lambda: (lares.cameras / "shed").is_dir())
    await lares.graphql('mutation { deleteCamera(id: "shed") { id } }')
    drop(lares, person_photo(), "shed", "1.jpg")
    drop(lares, person_photo(), "other", "1.jpg")
    await lares.idle()
    listed = '{ mediaList(first: 9, cameraIds: ["%s"]) { edges { node { id } } } }'
    assert (await lares.graphql(listed % "shed"))["mediaList"]["edges"] == []
    assert len((await lares.graphql(listed % "other"))["mediaList"]["edges"]) == 1
    await lares.graphql(create)

    async def stored() -> bool:
        return len((await lares.graphql(listed % "shed"))["mediaList"]["edges"]) == 1

    await until_async(stored)


async def test_an_invalid_record_becomes_a_dead_letter(lares: Lares) -> None:
    options = lares.admin_kafka_options
    async with AIOKafkaProducer(**options) as producer:
        sent = await producer.send_and_wait("ingest.media.v1", b"\xff\xfe not protobuf", key=b"x")
    async with AIOKafkaConsumer(
        dead_letters("detect_svc"), auto_offset_reset="earliest", **options
    ) as consumer:
        dead_letter = await asyncio.wait_for(consumer.getone(), 90)
    assert dead_letter.value == b"\xff\xfe not protobuf"
    headers = dict(dead_letter.headers)
    assert (headers["origin-topic"], headers["origin-offset"]) == (
        b"ingest.media.v1",
        str(sent.offset).encode(),
    )
    drop(lares, person_photo(), "after-invalid-record", "1.jpg")
    await lares.idle()
