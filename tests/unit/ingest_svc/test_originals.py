"""With `take`, the file of a photo is removed once the photo is announced, and no other file is."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from ingest_svc import originals
from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import Fingerprint, fingerprint, fingerprint_in_real_folder
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

ReadFingerprint = Callable[[CamerasRoot, str], Fingerprint | None]


@pytest.fixture
def harness(harness: IngestHarness) -> IngestHarness:
    harness.settings["ingest_originals"] = "take"
    return harness


def files(harness: IngestHarness) -> set[str]:
    """The names in the camera's folder."""
    return {file.name for file in (harness.root / "door").iterdir()}


async def test_take_removes_the_original_after_it_was_announced(harness: IngestHarness) -> None:
    async with harness.running():
        await until(lambda: harness.idle)
        harness.bus.open.clear()
        good, bad = harness.drop("door/good.jpg", jpeg("good")), harness.drop("door/bad.jpg", b"bad")
        await until(lambda: harness.bus.attempts and harness.ingest.worker.status().unannounced == 2)
        assert good.exists()
        harness.bus.open.set()
        await until(lambda: harness.idle and not good.exists())
    assert bad.exists()
    assert harness.paths == ["door/good.jpg"]


async def test_at_start_take_removes_announced_files_but_not_rejected_ones(
    harness: IngestHarness,
) -> None:
    announced = harness.drop("door/announced.jpg", jpeg("announced"))
    rejected = harness.drop("door/rejected.jpg", b"bad")
    unkept = harness.drop("door/unkept.jpg", jpeg("its blob is not there"))
    harness.known_files.add(harness.root, "door/announced.jpg", "door/rejected.jpg", "door/unkept.jpg")
    await harness.blobs.put(announced)
    async with harness.running():
        await until(lambda: harness.idle)
    assert not announced.exists()
    assert rejected.exists()
    assert unkept.exists()
    assert harness.paths == []


async def test_a_photo_that_replaces_one_that_is_being_removed_is_announced_too(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(read: ReadFingerprint, replacement: str) -> ReadFingerprint:
        def read_and_drop(root: CamerasRoot, path: str) -> Fingerprint | None:
            found = read(root, path)
            if replacement not in dropped:
                dropped.append(replacement)
                harness.drop("door/latest.jpg", jpeg(replacement))
            return found

        return read_and_drop

    (harness.root / "door").mkdir()
    dropped: list[str] = []
    # The second one appears between the first check and the removal, the third one before the second is put
    # back.
    monkeypatch.setattr(originals, "fingerprint", dropping(fingerprint, "second"))
    monkeypatch.setattr(
        originals, "fingerprint_in_real_folder", dropping(fingerprint_in_real_folder, "third")
    )
    async with harness.running():
        harness.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: len(dropped) == 2 and harness.idle and not files(harness))
    expected = {sha256(jpeg(mark)).hexdigest() for mark in ("first", "second", "third")}
    assert {media.sha256 for media in harness.bus.media} == expected


async def test_a_file_that_is_still_being_written_is_not_removed(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = [True]
    monkeypatch.setattr(originals, "open_for_writing", lambda _: writing.pop() if writing else False)
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await until(lambda: len(harness.paths) == 2 and harness.idle and not files(harness))
    assert harness.paths[0] == "door/one.jpg"
    assert len({media.id for media in harness.bus.media}) == 1


async def test_files_that_a_killed_process_had_set_aside_are_put_back(harness: IngestHarness) -> None:
    harness.drop("door/.lares-taken-1.jpg", jpeg("one"))
    harness.settings["ingest_originals"] = "keep"
    async with harness.running():
        await until(lambda: harness.idle and harness.paths)
    assert harness.paths == ["door/lares-taken-1.jpg"]
    assert files(harness) == {"lares-taken-1.jpg"}
