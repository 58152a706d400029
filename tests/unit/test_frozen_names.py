"""Names and ids that existing homes, topics and databases contain, so the code must produce them for ever.

Each expected value was recorded from version 0.1 before its release. If one of these tests fails, the code is
wrong, not the test.
"""

from uuid import UUID

import detect_svc.service
import store_svc.service
from lares.ingest.v1.media_pb2 import FileFingerprint
from lares.scene.v1.scene_pb2 import GROUND_DRIVE, ZONE_KIND_ENTRY, Point, Zone
from lares.store.internal.v1.job_service_pb2 import JobLease
from lares.store.v1.camera_scene_pb2 import CameraScene
from mesh.bus.group_member import GroupSubscription
from mesh.identity import assessment_id, detection_id, event_id, media_id, rejection_id, render_failure_id
from mesh.topics import DEAD_LETTER_SERVICES, DETECTED, TOPICS, dead_letters
from reason_svc.language_models.prompts import load_prompts
from reason_svc.messages import failure_fact
from reason_svc.rules.v1.scoring import assess
from store_svc import migration, outbox
from store_svc.api_keys import ADMIN_ID
from store_svc.domain.evidence import EarlierEvent, digest_v1, digest_v2
from store_svc.domain.frozen_evidence import freeze, frozen_scene
from store_svc.domain.house import HouseContext
from store_svc.ids import file_id
from tests.support.evidence import NIGHT, detections, evidence

MEDIA = "e281dfb0-b669-5939-85e5-66acd245a50a"
EVENT = "9604f6e9-2537-5c57-8e13-85de5f15c60a"


def test_ids_do_not_change() -> None:
    assert media_id("front-door", "ab" * 32) == MEDIA
    detector = "efficientdet-lite0@1a2b3c4d5e6f"
    assert detection_id(MEDIA, 0, 3, detector) == "10beba78-0c0b-5b39-9b33-7e15242f9e18"
    assert event_id(MEDIA, 0) == EVENT
    rejection = rejection_id("front-door", "front-door/a.jpg", 12, 34)
    assert rejection == "087b79ab-fb1e-524f-becf-1a6b240c9a6f"
    assessment = assessment_id(EVENT, "cd" * 32, "rules/v1", "", "")
    assert assessment == "295b34b4-4017-590a-8fd5-9d484685b72e"
    file = FileFingerprint(path="front-door/a.jpg", size_bytes=1, mtime_ns=2, ctime_ns=3, inode=4)
    assert file_id(file) == UUID("b108940f-30d0-b7c6-1c67-fde3a0bed481")


def test_a_failed_attempt_keeps_its_id() -> None:
    lease = JobLease(lease_id="7c1d2f7e-4b8c-4f69-8a55-0a6f0a8e9d11", attempt=2)
    fact = failure_fact(lease, "BAD_ANSWER", "It is no JSON.", NIGHT)
    assert fact.failure.id == "0837db3f-403a-5745-a282-156f72a2d7be"
    assert render_failure_id(lease.lease_id, 2) == "6f1195cb-8cf7-5990-91b6-3ad76cd3e929"


def test_the_admin_key_keeps_its_id() -> None:
    assert UUID("87aeab67-9f80-5851-83cd-4084f833a1f8") == ADMIN_ID


def test_the_digest_of_evidence_does_not_change() -> None:
    past = [EarlierEvent(UUID(EVENT), 1_700_000_000_000_000)]
    expected = "55d98af79b417af9f756e19c75e28174f9b2c3703224d954bf57f38fc53711bc"
    assert digest_v1([UUID(MEDIA)], past, "Europe/Berlin") == expected


def test_the_bytes_of_frozen_evidence_do_not_change() -> None:
    past = [EarlierEvent(UUID(EVENT), 1_700_000_000_000_000, 1_700_000_000_500_000, 3)]
    corners = [Point(x=x, y=y) for x, y in ((0, 0.25), (1, 0), (1, 1))]
    zones = [Zone(id="door", name="Door", kind=ZONE_KIND_ENTRY, polygon=corners)]
    scene = frozen_scene(CameraScene(zones=zones, ground=GROUND_DRIVE).SerializeToString())
    house = HouseContext(mode="away", site_notes=("The gate is old.",))
    frozen = freeze(scene, "front-door", "Front", "Europe/Berlin", past, house)
    assert frozen.digest.hex() == "e063ac61a2694334261c4992544080d55ca4a9f08631523f2d0236065187fecb"
    assert digest_v2([UUID(MEDIA)], frozen.digest) == (
        "9067c6816c5e0632b1c5dd0b4c6cd58b3f043f24668ff0ab2b9f92bf06e7fd1b"
    )


def test_topics_keep_their_names() -> None:
    names = {topic.name for topic in TOPICS} | {dead_letters(service) for service in DEAD_LETTER_SERVICES}
    assert names >= {
        "ingest.media.v1",
        "ingest.rejections.v1",
        "detect.detections.v1",
        "reason.assessments.v1",
        "store.feed.v1",
        "store.cameras.v1",
        "store.kept.v1",
        "detect.dead.v1",
        "store.dead.v1",
    }


def test_consumers_and_their_kafka_groups_keep_their_names() -> None:
    assert (store_svc.service.SERVICE, detect_svc.service.NAME) == ("store_svc", "detect_svc")
    subscription = GroupSubscription(DETECTED, "topic id", store_svc.service.SERVICE, None, None)
    assert subscription.group_id == "store_svc:detect.detections.v1"


def test_advisory_locks_keep_their_numbers() -> None:
    assert migration.LOCK == 0x1A7E5
    assert outbox.LOCK == 0x1A7E6


def test_released_prompts_keep_their_hashes() -> None:
    hashes = {prompt.version: prompt.digest for prompt in load_prompts().values()}
    assert hashes["v1"] == "ba3e9732a7187726978467b29cb3e983a345fbc1d82bd04c0c2b0031e9164c33"
    assert hashes["v2"] == "f6ecb0b0d43237a913dbd08caf03a96ec2766aa27c98488a7f7250fda0417112"
    assert hashes["v1-short"] == "01508eee00d6390d266e919ce61ebae44f05e7a519f41778fe6584d99173d194"


def test_rules_v1_keep_their_factors_and_texts() -> None:
    found = detections(["person", "person"], ["person"], ["person", "car"], at=NIGHT, every=20)
    result = assess(evidence(found, past=2, time_zone="Europe/Berlin"))
    assert (result.reasoner, result.score) == ("rules/v1", 87)
    assert result.summary == (
        "Two people and one car for 40 s at night at Front Door. 2 other events here in the hour before."
    )
    assert [(factor.name, factor.points, factor.text) for factor in result.factors] == [
        ("class", 40, "person, the weightiest of what was seen (also car)"),
        ("count", 8, "two people in one photo"),
        ("confidence", 0, "the detector is 70% sure of the best person"),
        ("hour", 25, "first seen at 00:30 (Europe/Berlin): night"),
        ("dwell", 9, "seen over 40 s"),
        ("repeat", 5, "2 other events here in the hour before"),
    ]
