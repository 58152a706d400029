"""The memory of vehicles on what the small detector makes of a vehicle that does not move: boxes that jitter,
and scores that fall, by light, noise, compression and a mast that sways in the wind."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detect_svc.detectors.efficientdet import EfficientDet
from mesh.artifacts import efficientdet_lite0
from mesh.config import load_config
from mesh.scene.tracks import VEHICLES
from store_svc.domain.vehicle_memory import SeenThing, VehicleMemory
from store_svc.times import SECOND
from tests.support.photos import empty_photo, vehicles

Picture = NDArray[np.uint8]
WIDTH, HEIGHT, FRAMES, KEPT = 1280, 720, 30, 0.5
TEN = 10 * 3600 * SECOND  # in the morning


@pytest.fixture(scope="module")
def detector() -> EfficientDet:
    return EfficientDet(efficientdet_lite0(load_config().cache), 1)


def decoded(picture: Any) -> Picture:
    assert picture is not None
    return picture.astype(np.uint8)  # type: ignore[no-any-return]


def photos(scene: Picture, frames: int, seed: int) -> Iterator[Picture]:
    """The same scene at other times: from a third of its light to more than it has, moved by up to three
    pixels, with the noise of a sensor and the blocks of JPEG."""
    chance = np.random.default_rng(seed)
    for _ in range(frames):
        (x, y), light = chance.integers(-3, 4, 2), chance.uniform(0.35, 1.3)
        moved = cv2.warpAffine(
            scene,
            np.array([[1, 0, x], [0, 1, y]], np.float32),
            (WIDTH, HEIGHT),
            borderMode=cv2.BORDER_REPLICATE,
        )
        noisy = moved * light + chance.normal(0, chance.uniform(2, 14), moved.shape)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(chance.integers(50, 95))]
        _, jpeg = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), quality)
        yield decoded(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


def things(detector: EfficientDet, photo: Picture, number: int) -> list[SeenThing]:
    found = detector.detect(np.ascontiguousarray(photo[:, :, ::-1]))
    return [
        SeenThing(
            label,
            score,
            (box[0], box[1], box[2], box[3]),
            UUID(int=1000 * number + rank) if label in VEHICLES and score >= KEPT else None,
        )
        for rank, (label, score, box) in enumerate(found)
    ]


def empty_scene() -> Picture:
    return decoded(cv2.resize(decoded(cv2.imread(str(empty_photo()))), (WIDTH, HEIGHT)))


def scene_with_vehicle(scale: float = 1.0) -> Picture:
    vehicle = cv2.resize(
        decoded(cv2.imread(str(vehicles()[0]))), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    scene, (height, width) = empty_scene(), vehicle.shape[:2]
    scene[HEIGHT - 20 - height : HEIGHT - 20, 300 : 300 + width] = vehicle
    return scene


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_vehicle_that_stands_is_known_until_it_leaves(detector: EfficientDet, scale: float) -> None:
    empty, scene = empty_scene(), scene_with_vehicle(scale)
    memory, came, left = VehicleMemory([], 0, "UTC"), 0, []
    for number, photo in enumerate([*photos(scene, FRAMES, 1), *photos(empty, 3, 2)], 1):
        seen = things(detector, photo, number)
        at = TEN + number * 60 * SECOND
        look = memory.look(at, seen, len(seen))
        memory.newest_at = at
        left += [number] * len(look.left)
        if came and number <= FRAMES:
            assert look.standing == {thing.detection_id for thing in seen if thing.detection_id}, number
        came += len(look.came)
    assert (came, left) == (1, [FRAMES + 3])


def test_a_vehicle_that_the_evening_hides_has_not_left(detector: EfficientDet) -> None:
    """A picture that becomes darker until nothing is found in it, and light again in the morning; the same in
    the afternoon, as if somebody covered the camera."""
    scene = scene_with_vehicle()
    memory, left, known = VehicleMemory([], 0, "UTC"), 0, set[bool]()
    chance = np.random.default_rng(3)
    lights = [
        *((10 + n / 6, 1.0) for n in range(6)),
        *((13 + n / 30, 0.0) for n in range(6)),
        *((14 + n / 6, 1.0) for n in range(3)),
        *((16 + n / 6, 1 / 1.3**n) for n in range(24)),
        *((20 + n / 2, 0.0) for n in range(24)),
        *((33 + n / 6, 1.0) for n in range(3)),
    ]
    for number, (hour, light) in enumerate(lights, 1):
        noisy = scene * light + chance.normal(0, 4, scene.shape)
        seen = things(detector, np.clip(noisy, 0, 255).astype(np.uint8), number)
        at = round(hour * 3600 * SECOND)
        look = memory.look(at, seen, len(seen))
        memory.newest_at = at
        left += len(look.left)
        kept = {thing.detection_id for thing in seen if thing.detection_id}
        if number > 6:
            assert look.standing == kept, number
            known.add(bool(kept))
    assert (left, known, kept != set()) == (0, {True, False}, True)
