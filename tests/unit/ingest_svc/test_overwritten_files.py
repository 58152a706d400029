"""Snapshots that are overwritten faster than they settle: a good one is taken now and then, a torn one
never."""

import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from ingest_svc.facts import Fact, SourceCamera
from ingest_svc.file_importer import FileImporter
from ingest_svc.fingerprint import Fingerprint
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

PERIOD = 0.12
SIZE = 60_000


def picture(index: int) -> bytes:
    """All pictures have one size, so that a torn one has a valid beginning and a valid end."""
    pixels = random.Random(index).randbytes(SIZE).replace(b"\xff", b"\xfe")
    return jpeg(f"picture {index:06}", pixels=pixels)


class Camera:
    """Overwrites `path` with picture after picture, in the way of `overwrite`."""

    def __init__(self, path: Path, overwrite: Callable[[Path, bytes], None]) -> None:
        self._path, self._overwrite = path, overwrite
        self._stop = threading.Event()
        self._made = dict[str, int]()
        self.thread = threading.Thread(target=self._run)

    @property
    def whole(self) -> set[str]:
        return set(self._made)

    def _run(self) -> None:
        index = 0
        while not self._stop.wait(PERIOD):
            content = picture(index)
            self._made[sha256(content).hexdigest()] = index
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


WAYS: dict[str, Callable[[], Callable[[Path, bytes], None]]] = {
    "kept open": KeptOpen,
    "kept open, torn": lambda: KeptOpen(0.03),
    "kept open, torn in equal pauses": lambda: KeptOpen(PERIOD),
    "kept open, in ten pieces": lambda: KeptOpen(0.04, pieces=10),
    "closed": lambda: closed,
    "renamed": lambda: renamed,
    "made anew": lambda: made_anew,
}


@pytest.mark.parametrize("polling", [False, True], ids=["native", "polling"])
@pytest.mark.parametrize("way", WAYS)
async def test_good_pictures_are_taken_and_torn_ones_are_not(
    harness: IngestHarness, polling: bool, way: str
) -> None:
    harness.settings |= {"ingest_polling": polling, "ingest_poll_seconds": 0.2, "ingest_settle_seconds": 0.25}
    (harness.root / "door").mkdir()
    camera = Camera(harness.root / "door" / "latest.jpg", WAYS[way]())
    async with harness.running():
        await until(lambda: harness.idle)
        with camera.running():
            await until(lambda: len({media.sha256 for media in harness.bus.media}) >= 3)
            harness.drop("door/other.jpg", jpeg("other"))
            await until(lambda: "door/other.jpg" in harness.paths)
        taken = [media for media in harness.bus.media if media.file.path == "door/latest.jpg"]
        assert {media.sha256 for media in taken} <= camera.whole
    assert harness.rejected == {}


@pytest.mark.parametrize("polling", [False, True], ids=["native", "polling"])
async def test_what_is_no_picture_is_rejected_once_it_is_not_overwritten_any_more(
    harness: IngestHarness, polling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, run = list[bool](), FileImporter.run

    async def counted(
        importer: FileImporter, file: Fingerprint, owner: SourceCamera, restless: bool = False
    ) -> Fact | None:
        fact = await run(importer, file, owner, restless)
        attempts.append(restless)
        return fact

    monkeypatch.setattr(FileImporter, "run", counted)
    harness.settings |= {"ingest_polling": polling, "ingest_poll_seconds": 0.1, "ingest_settle_seconds": 0.25}
    (harness.root / "door").mkdir()
    keeper = KeptOpen()

    def torn(path: Path, content: bytes) -> None:
        keeper(path, content[:-1000])

    camera = Camera(harness.root / "door" / "latest.jpg", torn)
    async with harness.running():
        await until(lambda: harness.idle)
        with camera.running():
            await until(lambda: attempts.count(True) >= 3)
            assert not harness.bus.media
            assert not harness.rejected
        assert keeper._file is not None
        keeper._file.close()
        await until(lambda: harness.rejected == {"door/latest.jpg": "TRUNCATED"})
