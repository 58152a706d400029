"""Makes the home of before issue 7, in every state that its work can be in.

For a checkout of 09640b9 alone, with its code on the path: `make.py` runs it there, and no type check covers
it.
"""

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy
import scripted_model
from aiokafka import AIOKafkaProducer
from r0_home import (
    CAT,
    COOKS,
    COWS,
    FAMILY,
    HARBOUR,
    OWL,
    RIDER,
    WALKER,
    Home,
    create_topics,
    kafka_alone,
    settings,
    until_dead,
)
from r0_messages import (
    assessment_fact,
    detection_fact,
    failure_fact,
    first,
    rejection_fact,
    request_id,
    stamp,
)

from deploy.embedded.home import private_folder, private_socket_folder
from deploy.embedded.postgres import open_postgres, programs
from deploy.keys import running_lares as siblings
from lares.ingest.v1.events_pb2 import MediaIngested
from lares.ingest.v1.media_pb2 import Media
from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1 import event_service_pb2 as events_pb
from lares.store.v1 import key_service_pb2 as keys_pb
from lares.store.v1.event_service_pb2_grpc import EventServiceStub
from lares.store.v1.key_service_pb2_grpc import KeyServiceStub
from mesh.blobs import open_blobs
from mesh.config import load_config
from mesh.identity import media_id
from mesh.rpc import call
from mesh.topics import (
    ASSESSED,
    DEAD_LETTER_SERVICES,
    DETECTED,
    INGESTED,
    REJECTED,
)
from tests.support.blobs import keep_blob
from tests.support.lares import Lares, running_lares
from tests.support.scripted_llm import ScriptedLlm, scripted

CREATE = "mutation($input: CreateCameraInput!) { createCamera(input: $input) { camera { id } } }"

DELETE = "mutation($id: ID!) { deleteCamera(id: $id) { id } }"

CAMERAS: list[dict[str, Any]] = [
    {"id": "low", "name": "Low", "thresholds": [{"label": "*", "score": 0.12}]},
    {"id": "high", "name": "High", "thresholds": [{"label": "person", "score": 0.6}]},
    {
        "id": "mixed",
        "name": "Mixed",
        "thresholds": [{"label": "person", "score": 0.85}, {"label": "*", "score": 0.15}],
    },
    {"id": "zoned", "name": "Garden gate", "timeZone": "Asia/Tokyo"},
    {"id": "still", "name": "Switched off", "enabled": False},
    {"id": "gone", "name": "Taken down"},
]  # fmt: skip


async def make(folder: Path) -> None:
    """The home, and in it `database.sql` in the place of the database's own files."""
    home = Home(folder)
    await create_topics(folder)
    async with scripted() as llm:
        llm.always = scripted_model.answers_but_broken
        await work_normally(home, llm)
        llm.loading = True  # it says so, and nothing is leased but by us
        await fill_queue(home, llm)
        await leave_open(home, llm)
    await leave_unread(home)
    await check(home)
    await dump(home)


async def work_normally(home: Home, llm: ScriptedLlm) -> None:
    """Everything works, but the model for two cameras: judged, asked again, given up, failed, hastened."""
    async with running_lares(home.folder, settings(llm)) as lares:
        for camera in CAMERAS:
            await lares.graphql(CREATE, input=camera)
        await lares.graphql(DELETE, id="gone")
        async with siblings(load_config(home=home.folder)) as store:
            await call(KeyServiceStub(store).CreateKey, keys_pb.CreateKeyRequest(name="analytics"))
            old = await call(KeyServiceStub(store).CreateKey, keys_pb.CreateKeyRequest(name="old phone"))
            await call(KeyServiceStub(store).RevokeKey, keys_pb.RevokeKeyRequest(key_id=old.key.id))
        home.drop("low", RIDER)
        home.drop("low", CAT)
        home.drop("high", WALKER)
        home.drop("mixed", RIDER, FAMILY)
        home.drop("zoned", COOKS)
        home.drop("visited", WALKER, RIDER, COWS)
        home.drop("visited", FAMILY)
        home.drop("quiet", HARBOUR)
        for camera in (
            "asked",
            "refused",
            "leased-asked",
            "waiting",
            "unmeetable",
            "answered-late",
            "given-up-late",
        ):
            home.drop(camera, WALKER)
        content, at = home.photo(CAT)
        home.put("flawed", "empty.jpg", b"", at)
        home.put("flawed", "half.jpg", content[: len(content) // 2], at)
        middle = len(content) // 2
        home.put(
            "flawed", "holed.jpg", content[:middle] + bytes(len(content) - middle - 2) + content[-2:], at
        )
        home.drop("Broken One", WALKER)
        await home.until("broken-one", "status = 3")
        await lares.ready()
        for camera in (
            "asked",
            "refused",
            "leased-asked",
            "waiting",
            "unmeetable",
            "answered-late",
            "given-up-late",
        ):
            await home.until(camera, "closed AND due_at IS NULL AND assessed_digest = evidence_digest")
        home.drop("later", OWL)  # judged after a failure elsewhere, which it hastens
        await home.until("later", "assessment_id IS NOT NULL")
        await home.until("broken-one", "status = 3 AND hastened AND attempts >= 2")
        await reassess(lares, home, "asked", "asked")
        await home.until("asked", "request_id IS NULL")
        await reassess(lares, home, "refused", "refused", model="no-such-model")
        await home.until("refused", "request_id IS NULL AND failure_id IS NOT NULL")
        for camera, count in (("low", 2), ("high", 1), ("mixed", 1), ("zoned", 1), ("visited", 2)):
            await home.until(camera, "closed AND due_at IS NULL", count)
        home.drop("Broken Two", COOKS)
        await home.until("broken-two", "closed AND status = 3 AND NOT hastened")
        async with AIOKafkaProducer(**lares.admin_kafka_options) as producer:
            await producer.send_and_wait(INGESTED.name, b"\xff no message at all", b"low")
            await producer.send_and_wait(DETECTED.name, b"\xff no message at all", b"low")
        for service in DEAD_LETTER_SERVICES:
            await until_dead(lares, service, 1)


async def fill_queue(home: Home, llm: ScriptedLlm) -> None:
    """Nobody judges, but we take leases, and die with them."""
    async with running_lares(home.folder, settings(llm)) as lares:
        for camera in ("pending", "overtaken", "answered", "failing", "leased"):
            home.drop(camera, WALKER)
            await home.until(camera, "closed AND due_at IS NOT NULL AND status = 1")
        async with siblings(load_config(home=home.folder)) as store:
            stub = EventServiceStub(store)
            await reassess(lares, home, "leased-asked", "leased-asked")
            for camera in ("leased-asked", "leased"):
                answer = await call(stub.LeaseEvents, events_pb.LeaseEventsRequest(max_events=1))
                assert [lease.evidence.camera_id for lease in answer.leases] == [camera], answer
        await reassess(lares, home, "waiting", "replaced")
        await reassess(lares, home, "waiting", "waiting")
        await reassess(lares, home, "unmeetable", "unmeetable", model="no-such-model")
        await reassess(lares, home, "answered-late", "answered-late")
        await reassess(lares, home, "given-up-late", "given-up-late")


async def leave_open(home: Home, llm: ScriptedLlm) -> None:
    """Events that are not closed, one of them due by the fast path."""
    async with running_lares(home.folder, settings(llm, LARES_EVENT_GAP_SECONDS="3600")):
        home.drop("open", WALKER)
        home.drop("open-cat", CAT)
        await home.until("open", "NOT closed AND due_at IS NOT NULL")
        await home.until("open-cat", "NOT closed AND due_at IS NULL")


async def leave_unread(home: Home) -> None:
    """Records on the four topics that Lares reads, written while it is away."""
    async with open_postgres(home.folder):
        known = {
            camera: await home.event(camera)
            for camera in (
                "pending",
                "overtaken",
                "answered",
                "failing",
                "open",
                "answered-late",
                "given-up-late",
            )
        }
        (row,) = await home.rows(
            "SELECT body FROM assessments WHERE event_id = $1", known["answered-late"]["id"]
        )
    like = Assessment.FromString(row["body"])
    blobs = open_blobs("", home.folder)

    async def uploaded(camera: str, kind: int, at: datetime | None = None) -> Media:
        content, usual = home.photo(kind)
        sha256 = await keep_blob(blobs, content)
        when = at or usual
        height, width = cv2.imdecode(numpy.frombuffer(content, numpy.uint8), 1).shape[:2]
        return Media(
            id=media_id(camera, sha256), camera_id=camera, camera_name=camera.title(), sha256=sha256,
            size_bytes=len(content), type="MEDIA_TYPE_JPEG", width=width, height=height,
            captured_at=stamp(when), captured_at_source="CAPTURED_AT_SOURCE_DECLARED",
            ingested_at=stamp(when + timedelta(seconds=1)),
        )  # fmt: skip

    after_open = known["open"]["started_at"] + timedelta(seconds=1)
    after_overtaken = known["overtaken"]["started_at"] + timedelta(seconds=1)
    home.drop("Unseen", OWL)  # a file that nobody has looked at
    ingested = [
        await uploaded("low", RIDER),
        await uploaded("high", WALKER),
        await uploaded("mixed", FAMILY),
        await uploaded("new-one", COWS),
        await uploaded("quiet", HARBOUR),
        await uploaded("open", FAMILY, after_open),
        await uploaded("still", RIDER),
    ]
    # A detector that was killed between publishing and committing: its record wins over what is seen again.
    twice = await uploaded("low", FAMILY)
    detected = [
        detection_fact(twice, ("person", 0.9), ("car", 0.13), urgent=True),
        detection_fact(await uploaded("low", CAT), ("cat", 0.14), ("person", 0.11)),
        detection_fact(await uploaded("high", WALKER), ("person", 0.61), ("dog", 0.5), urgent=True),
        detection_fact(await uploaded("overtaken", CAT, after_overtaken), ("cat", 0.7)),
        detection_fact(await uploaded("quiet", HARBOUR)),
    ]
    rejected = [rejection_fact("flawed", "late.jpg"), rejection_fact("nowhere", "late.jpg")]
    assessed = [
        assessment_fact(known["answered"], like),
        assessment_fact(known["overtaken"], like),
        failure_fact(known["failing"], "BAD_ANSWER"),
        assessment_fact(known["answered-late"], like, request_id("answered-late")),
        failure_fact(known["given-up-late"], "UNKNOWN_PROMPT", request_id("given-up-late")),
    ]
    async with kafka_alone(home.folder) as bus:
        again = {topic.name: await first(bus, topic) for topic in (DETECTED, REJECTED, ASSESSED)}
        await bus.publish(INGESTED, *(MediaIngested(media=media) for media in [*ingested, twice]))
        await bus.publish(DETECTED, again[DETECTED.name], *detected)
        await bus.publish(REJECTED, again[REJECTED.name], *rejected)
        await bus.publish(ASSESSED, again[ASSESSED.name], *assessed)


async def check(home: Home) -> None:
    """AssertionError where the home lacks a state that it is made for."""
    async with open_postgres(home.folder):
        counts = {}
        for name, condition in {
            "pending": "status = 1 AND closed AND due_at IS NOT NULL AND lease_id IS NULL",
            "leased": "lease_id IS NOT NULL AND request_id IS NULL",
            "leased with a request": "lease_id IS NOT NULL AND request_id IS NOT NULL",
            "failed": "status = 3 AND attempts > 0 AND NOT hastened",
            "hastened": "status = 3 AND attempts > 1 AND hastened",
            "requests": "request_id IS NOT NULL",
            "given up": "id IN (SELECT event_id FROM judgement_failures"
            " WHERE given_up_request_id IS NOT NULL)",
            "assessed": "status = 2",
            "open": "NOT closed",
        }.items():
            counts[name] = (await home.rows(f"SELECT count(*) FROM events WHERE {condition}"))[0][0]
        counts["rejections"] = (await home.rows("SELECT count(*) FROM rejections"))[0][0]
    print(counts)
    assert all(counts.values()), counts
    assert counts["requests"] == 5, counts


async def dump(home: Home) -> None:
    """Statements, which any embedded PostgreSQL of a later version takes, whoever owns its files."""
    async with open_postgres(home.folder):
        done = subprocess.run(
            [programs() / "pg_dump", "--inserts", "--no-owner", "--no-privileges", "-U", "lares", "lares",
             "-h", str(private_socket_folder(home.folder, "postgres"))],
            env=os.environ | {"PGPASSWORD": (home.folder / "postgres" / "password").read_text().strip()},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    (home.folder / "database.sql").write_text(done.stdout)


async def reassess(lares: Lares, home: Home, camera: str, name: str, model: str = "") -> None:
    """Asks the store: the gateway refuses what the model of now cannot do."""
    event = await home.event(camera)
    request = events_pb.ReassessEventRequest(
        event_id=str(event["id"]), request_id=request_id(name), model=model
    )
    async with grpc.aio.insecure_channel(lares.grpc) as channel:
        await EventServiceStub(channel).ReassessEvent(request, metadata=(("x-api-key", lares.key),))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    private_folder(folder, "run")
    asyncio.run(make(folder))
