"""Snapshots that are overwritten faster than they settle: a good one is taken now and then, a torn one
never."""

import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from ingest_svc.facts import Fact, SourceCamera
from ingest_svc.file_importer import FileImporter
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.watching.completion import Moment
from tests.support.image_files import jpeg, with_segments
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

PERIOD = 0.12
SIZE = 60_000


def picture(index: int) -> bytes:
    """All pictures have one size, so that a torn one has a valid beginning and a valid end."""
    pixels = random.Random(index).randbytes(SIZE).replace(b"\xff", b"\xfe")
    return jpeg(f"picture {index:06}", pixels=pixels)


def alike(index: int) -> bytes:
    """The pictures differ only after a long header, and below a sky."""
    pixels = b"\x31" * (SIZE // 4) + random.Random(index).randbytes(3 * SIZE // 4).replace(b"\xff", b"\xfe")
    return with_segments(jpeg(pixels=pixels), (0xE2, b"ICC_PROFILE" + b"\x00" * 9000))


def same(_: int) -> bytes:
    return picture(0)


class Camera:
    """Overwrites `path` with picture after picture, in the way of `overwrite`, with pauses of `period`."""

    def __init__(
        self,
        path: Path,
        overwrite: Callable[[Path, bytes], None],
        period: float = PERIOD,
        picture: Callable[[int], bytes] = picture,
    ) -> None:
        self._path, self._overwrite, self._period, self._picture = path, overwrite, period, picture
        self._stop = threading.Event()
        self.whole, self.last = set[str](), ""
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        index = 0
        while not self._stop.wait(self._period):
            content = self._picture(index)
            self.last = sha256(content).hexdigest()
            self.whole.add(self.last)
            self._overwrite(self._path, content)
            index += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        self.thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self.thread.join()
            if isinstance(self._overwrite, KeptOpen):
                self._overwrite.close()


class KeptOpen:
    """Keeps the file open and rewrites it in place, in pieces."""

    def __init__(self, pause: float = 0.0, pieces: int = 2) -> None:
        self._file: io.FileIO | None = None
        self._pause, self._pieces = pause, pieces

    def __call__(self, path: Path, content: bytes) -> None:
        if self._file is None:
            self._file = io.FileIO(path, "wb")
        self._file.seek(0)
        length = -(-len(content) // self._pieces)
        for start in range(0, len(content), length):
            if start and self._pause:
                time.sleep(self._pause)
            self._file.write(content[start : start + length])
        self._file.truncate()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def closed(path: Path, content: bytes) -> None:
    with io.FileIO(path, "wb") as file:
        file.write(content[: len(content) // 2])
        time.sleep(0.01)
        file.write(content[len(content) // 2 :])


def renamed(path: Path, content: bytes) -> None:
    partial = path.with_name(".partial")
    partial.write_bytes(content)
    os.rename(partial, path)


def made_anew(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path], Camera]] = {
    "kept open": lambda path: Camera(path, KeptOpen()),
    "kept open, torn": lambda path: Camera(path, KeptOpen(0.03)),
    "kept open, torn in equal pauses": lambda path: Camera(path, KeptOpen(PERIOD)),
    "kept open, in ten pieces": lambda path: Camera(path, KeptOpen(0.04, pieces=10)),
    "kept open, in ten pieces with a pause": lambda path: Camera(path, KeptOpen(0.05, pieces=10), 0.4),
    "kept open, 30 in a second": lambda path: Camera(path, KeptOpen(), 0.03),
    "kept open, 20 in a second, torn": lambda path: Camera(path, KeptOpen(0.004, pieces=4), 0.035),
    "kept open, alike": lambda path: Camera(path, KeptOpen(0.03), picture=alike),
    "kept open, 10 in a second, alike": lambda path: Camera(path, KeptOpen(0.004, pieces=4), 0.08, alike),
    "closed": lambda path: Camera(path, closed),
    "closed, 30 in a second": lambda path: Camera(path, closed, 0.02),
    "renamed": lambda path: Camera(path, renamed),
    "renamed, 30 in a second": lambda path: Camera(path, renamed, 0.03),
    "made anew": lambda path: Camera(path, made_anew),
}


@pytest.mark.parametrize(
    ("way", "polling"),
    # Half of them in each mode, because they take long.
    [(way, bool(index % 2)) for index, way in enumerate(WAYS)] + [("kept open", True), ("renamed", True)],
)
async def test_good_pictures_are_taken_and_torn_ones_are_not(
    harness: IngestHarness, polling: bool, way: str
) -> None:
    harness.settings |= {"ingest_polling": polling, "ingest_poll_seconds": 0.2, "ingest_settle_seconds": 0.25}
    (harness.root / "door").mkdir()
    camera = WAYS[way](harness.root / "door" / "latest.jpg")
    async with harness.running():
        await until(lambda: harness.idle)
        with camera.running():
            await until(lambda: len({media.sha256 for media in harness.bus.media}) >= 3)
            harness.drop("door/other.jpg", jpeg("other"))
            await until(lambda: "door/other.jpg" in harness.paths)
        await until(lambda: camera.last in {media.sha256 for media in harness.bus.media})
        taken = [media for media in harness.bus.media if media.file.path == "door/latest.jpg"]
        assert {media.sha256 for media in taken} <= camera.whole
    assert harness.rejected == {}


async def test_many_fast_cameras_take_turns(harness: IngestHarness) -> None:
    cameras = dict[str, Camera]()
    for index in range(6):
        (harness.root / f"door{index}").mkdir()
        path = f"door{index}/latest.jpg"
        cameras[path] = Camera(harness.root / path, KeptOpen(), 0.03)
    async with harness.running():
        await until(lambda: harness.idle)
        with ExitStack() as stack:
            for camera in cameras.values():
                stack.enter_context(camera.running())
            await until(lambda: all(harness.paths.count(path) >= 3 for path in cameras))
        for media in harness.bus.media:
            assert media.sha256 in cameras[media.file.path].whole


@pytest.mark.parametrize("period", [0.05, PERIOD])
async def test_a_picture_that_is_overwritten_with_the_same_is_taken(
    harness: IngestHarness, period: float
) -> None:
    (harness.root / "door").mkdir()
    camera = Camera(harness.root / "door" / "latest.jpg", KeptOpen(), period, same)
    async with harness.running():
        await until(lambda: harness.idle)
        with camera.running():
            await until(lambda: harness.bus.media)
    assert {media.sha256 for media in harness.bus.media} == camera.whole


@pytest.mark.parametrize("polling", [False, True], ids=["native", "polling"])
async def test_what_is_no_picture_is_rejected_once_it_is_not_overwritten_any_more(
    harness: IngestHarness, polling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, run = list[bool](), FileImporter.run

    async def counted(
        importer: FileImporter, file: Fingerprint, owner: SourceCamera, moment: Moment | None = None
    ) -> Fact | None:
        fact = await run(importer, file, owner, moment)
        attempts.append(moment is not None)
        return fact

    monkeypatch.setattr(FileImporter, "run", counted)
    harness.settings |= {"ingest_polling": polling, "ingest_poll_seconds": 0.1, "ingest_settle_seconds": 0.25}
    (harness.root / "door").mkdir()
    camera = Camera(
        harness.root / "door" / "latest.jpg", KeptOpen(), picture=lambda index: picture(index)[:-1000]
    )
    async with harness.running():
        await until(lambda: harness.idle)
        with camera.running():
            await until(lambda: attempts.count(True) >= 3)
            assert not harness.bus.media
            assert not harness.rejected
        await until(lambda: harness.rejected == {"door/latest.jpg": "TRUNCATED"})
