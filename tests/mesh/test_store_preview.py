"""PreviewPolicy and GetWatchPolicy, called without gRPC, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lares.detect.v1.detection_pb2 import DetectorModel
from lares.store.v1 import camera_service_pb2 as pb
from lares.store.v1.camera_pb2 import Camera
from mesh.problems import Invalid, NotFound
from mesh.security import Caller
from store_svc.api.cameras import CameraServicer
from store_svc.camera_repository import CameraRepository
from store_svc.detectors import Detectors
from store_svc.domain.watch_policy import Decision
from store_svc.policy_preview import PolicyPreviews
from tests.support.callers import calling_as
from tests.support.facts import DETECTOR, detected, photo, reported
from tests.support.parts import MIGRATED, fresh_database
from tests.support.recorded import Recorded, open_recorded

SEEN = (("person", 0.75), ("kite", 0.7), ("dog", 0.5), ("person", 0.49), ("cat", 0.125))
PHOTOS = [reported(n, n * 20, *SEEN[: n + 1]) for n in range(5)]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Recorded]:
    async with open_recorded(postgres_url) as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def known_caller() -> Iterator[None]:
    with calling_as(Caller("key", "1", "someone")):
        yield


def cameras_of(store: Recorded) -> CameraRepository:
    return CameraRepository(store.database, store.signals, lambda: store.now)


def servicer(store: Recorded) -> CameraServicer:
    previews = PolicyPreviews(store.database, store.watch, Detectors(store.database, store.watch))
    return CameraServicer(store.database, cameras_of(store), previews, store.watch.labels, lambda: store.now)


async def preview(
    store: Recorded, thresholds: dict[str, float] | None = None, most: int = 0
) -> pb.PreviewPolicyResponse:
    request = pb.PreviewPolicyRequest(
        camera=Camera(id="front", thresholds=thresholds),
        update_mask=FieldMask(paths=["thresholds"]),
        max_frames=most,
    )
    return await servicer(store).PreviewPolicy(request, None)


def decisions(frame: pb.FramePreview) -> list[tuple[str, str, str]]:
    return [
        (one.detection.label, Decision(one.recorded).name, Decision(one.proposed).name)
        for one in frame.detections
    ]


async def test_every_finding_has_its_recorded_and_its_proposed_decision(store: Recorded) -> None:
    await store.detect(PHOTOS[4])
    answer = await preview(store, {"person": 0.45, "dog": 0.9})
    (frame,) = answer.frames
    assert (frame.media_id, frame.index) == (photo(4), 0)
    assert frame.captured_at == PHOTOS[4].media.captured_at
    assert decisions(frame) == [
        ("person", "KEPT", "KEPT"),
        ("kite", "NOT_WATCHED", "NOT_WATCHED"),
        ("dog", "KEPT", "BELOW_THRESHOLD"),
        ("person", "BELOW_THRESHOLD", "KEPT"),
        ("cat", "BELOW_THRESHOLD", "BELOW_THRESHOLD"),
    ]
    # Complete, as the detector reported them, kept or dropped.
    assert [one.detection for one in frame.detections] == list(PHOTOS[4].frames[0].detections)
    assert answer.current_policy_digest != answer.proposed_policy_digest
    (row,) = await store.rows("SELECT policy_digest FROM media")
    assert answer.current_policy_digest == row["policy_digest"]


PROPOSALS = [{}, {"*": 0.1}, {"*": 0.5}, {"person": 0.75, "*": 0.125}, {"dog": 0.51}]


@pytest.mark.parametrize("thresholds", PROPOSALS, ids=str)
async def test_a_preview_equals_a_recording_with_that_configuration(
    store: Recorded, postgres_server: str, thresholds: dict[str, float]
) -> None:
    await cameras_of(store).create("front", "Front", "", True, {"*": 0.6})
    await store.detect(*PHOTOS)
    answer = await preview(store, thresholds)
    foreseen = {
        (frame.media_id, one.detection.rank)
        for frame in answer.frames
        for one in frame.detections
        if one.proposed == pb.POLICY_DECISION_KEPT
    }
    kept = {
        (frame.media_id, one.detection.rank)
        for frame in answer.frames
        for one in frame.detections
        if one.recorded == pb.POLICY_DECISION_KEPT
    }
    rows = "SELECT media_id, rank FROM detections"
    assert kept == {(str(row["media_id"]), row["rank"]) for row in await store.rows(rows)}
    async with fresh_database(postgres_server, MIGRATED) as url, open_recorded(url) as other:
        await cameras_of(other).create("front", "Front", "", True, thresholds)
        await other.detect(*PHOTOS)
        assert foreseen == {(str(row["media_id"]), row["rank"]) for row in await other.rows(rows)}
        digests = {row["policy_digest"] for row in await other.rows("SELECT policy_digest FROM media")}
        assert digests == {answer.proposed_policy_digest}


async def test_only_the_newest_frames_with_raw_output_are_previewed(store: Recorded) -> None:
    await store.detect(*PHOTOS, detected(9, 500), reported(8, 900, *SEEN, camera="back"))
    assert [frame.media_id for frame in (await preview(store)).frames] == [photo(n) for n in (4, 3, 2, 1, 0)]
    assert [frame.media_id for frame in (await preview(store, most=2)).frames] == [photo(4), photo(3)]
    await store.detect(*(reported(n, n * 20) for n in range(10, 30)))
    assert len((await preview(store)).frames) == 20


async def test_each_frame_uses_the_thresholds_of_its_own_model(store: Recorded) -> None:
    strict = DetectorModel(id="other@1", labels=["person"], threshold=0.8, fast_threshold=0.9)
    await store.detect(PHOTOS[0], reported(7, 500, ("person", 0.75), model=strict))
    newer, older = (await preview(store)).frames
    assert decisions(newer) == [("person", "BELOW_THRESHOLD", "BELOW_THRESHOLD")]
    assert decisions(older) == [("person", "KEPT", "KEPT")]


async def test_a_preview_changes_nothing(store: Recorded) -> None:
    await store.detect(*PHOTOS)
    before = await store.rows("SELECT * FROM cameras")
    await preview(store, {"person": 0.9})
    assert await store.rows("SELECT * FROM cameras") == before
    assert await store.counts("camera_outbox", "kept_outbox", "media") == [1, 5, 5]


async def test_an_empty_proposal_changes_no_decision(store: Recorded) -> None:
    await cameras_of(store).create("front", "Front", "", True, {"person": 0.9})
    await store.detect(*PHOTOS)
    answer = await servicer(store).PreviewPolicy(pb.PreviewPolicyRequest(camera=Camera(id="front")), None)
    assert answer.current_policy_digest == answer.proposed_policy_digest
    assert all(was == would for frame in answer.frames for _, was, would in decisions(frame))


async def test_a_camera_without_frames_gets_the_digests_of_both_policies(store: Recorded) -> None:
    await cameras_of(store).create("front", "Front", "", True, {})
    assert await preview(store, {"dog": 0.25}) == pb.PreviewPolicyResponse()
    await store.detect(reported(1, 0, *SEEN, camera="back"))
    answer = await preview(store, {"dog": 0.25})
    assert answer.proposed_policy_digest != answer.current_policy_digest
    await cameras_of(store).update("front", {"thresholds": {"dog": 0.25}})
    await store.detect(reported(2, 0, *SEEN))
    (row,) = await store.rows("SELECT policy_digest FROM media WHERE camera_id = 'front'")
    assert row["policy_digest"] == answer.proposed_policy_digest


async def test_a_setting_that_cannot_be_set_cannot_be_previewed(store: Recorded) -> None:
    with pytest.raises(NotFound):
        await preview(store)
    await store.detect(*PHOTOS)
    with pytest.raises(Invalid, match="burglar") as refused:
        await preview(store, {"burglar": 0.5})
    assert refused.value.reason == "BAD_LABEL"
    with pytest.raises(Invalid) as refused:
        await preview(store, {"Person": 0.5, "person": 0.5})
    assert refused.value.reason == "DUPLICATE_LABEL"
    assert await preview(store, {"Dog": 0.25}) == await preview(store, {"dog": 0.25})
    with pytest.raises(Invalid) as refused:
        request = pb.PreviewPolicyRequest(
            camera=Camera(id="front", time_zone="Mars/Olympus"), update_mask=FieldMask(paths=["time_zone"])
        )
        await servicer(store).PreviewPolicy(request, None)
    assert refused.value.reason == "BAD_TIME_ZONE"


async def policy(store: Recorded, camera: str = "") -> pb.GetWatchPolicyResponse:
    return await servicer(store).GetWatchPolicy(pb.GetWatchPolicyRequest(camera_id=camera), None)


async def test_the_current_policy_has_the_watched_labels(store: Recorded) -> None:
    assert await policy(store) == pb.GetWatchPolicyResponse()
    await cameras_of(store).create("strict", "Strict", "", True, {"dog": 0.75})
    await store.detect(reported(1, 0, *SEEN), reported(2, 0, *SEEN, camera="strict"))
    usual, strict = await policy(store), await policy(store, "strict")
    assert usual.detector == DETECTOR
    assert set(usual.thresholds) == set(store.watch.labels)
    assert set(usual.thresholds.values()) == {0.5}
    assert (strict.thresholds["dog"], strict.thresholds["cat"]) == (0.75, 0.5)
    assert (list(usual.fast_labels), usual.fast_threshold, usual.problem) == (["person"], 0.6, "")
    rows: dict[str, Any] = {
        row["camera_id"]: row["policy_digest"] for row in await store.rows("SELECT * FROM media")
    }
    assert rows == {"front": usual.policy_digest, "strict": strict.policy_digest}
    with pytest.raises(NotFound):
        await policy(store, "nowhere")
