"""`lares up` with each kind of detector and the same photos: the detector processes each photo once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.lares import Lares
from tests.support.photos import animals, empty_photo, people
from tests.support.triton import TINY, Triton

CAMERAS = ("door", "garden")
# Labels that one of the models finds in these photos; the tiny one is untrained and finds furniture.
CLASSES = "person,cat,bird,cow,couch,train,handbag"
MEDIA = "{ mediaList(first: 100) { edges { node { id detector camera { id } } } } }"
EVENTS = "{ events(first: 100) { edges { node { id status assessment { score } } } } }"
DETECT = "{ status { detect { lag detector ready detail servers { address available answered } } } }"
SETTINGS = {
    "LARES_WATCH_CLASSES": CLASSES,
    "LARES_WATCH_THRESHOLD": "0.4",
    "LARES_EVENT_GAP_SECONDS": "1",
    "LARES_EVENT_SPAN_SECONDS": "3",
}
DETECTORS = {
    "litert": ("litert:efficientdet-lite0", "efficientdet-lite0@0720bf247bd7"),
    "onnx": (f"onnx:{TINY}", "rtdetrv2-tiny@"),
    "triton": ("triton://TRITON/rtdetrv2-tiny", "rtdetrv2-tiny@"),
}


@asynccontextmanager
async def up(home: Path, url: str) -> AsyncIterator[Lares]:
    """A Lares that is up; its detector may not be ready."""
    lares = Lares(home, SETTINGS | {"LARES_DETECTOR_URL": url})
    lares.start()
    try:
        await lares.until_up()
        yield lares
    finally:
        await lares.close()


def add_photos(lares: Lares) -> None:
    for camera in CAMERAS:
        folder = lares.cameras / camera
        folder.mkdir(parents=True, exist_ok=True)
        for photo in [*people(), *animals(), empty_photo()]:
            partial = folder / f".{photo.name}.part"
            partial.write_bytes(photo.read_bytes())
            partial.rename(folder / photo.name)


async def nodes(lares: Lares, query: str, field: str) -> list[Any]:
    return [edge["node"] for edge in (await lares.graphql(query))[field]["edges"]]


async def detect_status(lares: Lares) -> dict[str, Any]:
    status: dict[str, Any] = (await lares.graphql(DETECT))["status"]["detect"]
    return status


async def until_detect_status(lares: Lares, **expected: object) -> dict[str, Any]:
    """Waits until the detector's status has these values."""
    deadline = time.monotonic() + 90
    while True:
        status = await detect_status(lares)
        if expected.items() <= status.items():
            return status
        assert time.monotonic() < deadline, f"{status}\n{lares.tail()}"
        await asyncio.sleep(0.1)


async def assert_all_detected(lares: Lares, detector: str) -> None:
    await lares.idle()
    status = await until_detect_status(lares, ready=True, lag=0)
    assert status["detector"].startswith(detector)
    media = await nodes(lares, MEDIA, "mediaList")
    assert len(media) == len({one["id"] for one in media}) == len(CAMERAS) * 8
    assert {one["detector"] for one in media} == {status["detector"]}
    events = await nodes(lares, EVENTS, "events")
    assert events
    assert all(event["status"] == "ASSESSED" and event["assessment"] for event in events)


@pytest.mark.parametrize("kind", ["litert", "onnx"])
async def test_with_a_detector_in_child_processes(kind: str, tmp_path: Path) -> None:
    url, detector = DETECTORS[kind]
    async with up(tmp_path / "home", url) as lares:
        add_photos(lares)
        await assert_all_detected(lares, detector)
        assert (await detect_status(lares))["servers"] == []


async def test_with_a_triton_that_starts_later_and_is_killed(tmp_path: Path, triton: Triton) -> None:
    url, detector = DETECTORS["triton"]
    triton.kill()
    try:
        async with up(tmp_path / "home", url.replace("TRITON", triton.address)) as lares:
            add_photos(lares)
            status = await until_detect_status(lares, ready=False)
            assert triton.address in status["detail"]
            assert not await nodes(lares, MEDIA, "mediaList")
            triton.start()
            await until_detect_status(lares, ready=True)
            triton.kill()
            status = await until_detect_status(lares, ready=False)
            assert status["detector"].startswith(detector)
            assert [server["available"] for server in status["servers"]] == [False]
            triton.start()
            await assert_all_detected(lares, detector)
            (server,) = (await detect_status(lares))["servers"]
            assert (server["address"], server["available"]) == (triton.address, True)
    finally:
        if not triton.running:
            triton.start()
        await triton.ready()
