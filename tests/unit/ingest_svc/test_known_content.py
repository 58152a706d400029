"""Content that the store knows is announced as known: only its file is news."""

import os
import shutil

import pytest

from mesh.identity import media_id
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


async def announced(harness: IngestHarness, count: int) -> None:
    await until(lambda: harness.idle and len(harness.bus.media) == count)


def flags(harness: IngestHarness) -> list[bool]:
    return [media.known_content for media in harness.bus.media]


async def test_new_content_is_not_asked_for(harness: IngestHarness) -> None:
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await announced(harness, 1)
    assert harness.known_files.asked_media == []
    assert flags(harness) == [False]


@pytest.mark.parametrize("again", ["copy", "chmod", "touch", "restored", "moved", "linked"])
async def test_known_content_is_announced_with_its_file_and_as_known(
    harness: IngestHarness, again: str
) -> None:
    async with harness.running():
        file = harness.drop("door/one.jpg", jpeg("one"), 1_767_614_400)
        await announced(harness, 1)
        harness.known_files.media_ids.add(harness.bus.media[0].id)
        match again:
            case "copy":
                shutil.copy2(file, file.with_name("two.jpg"))
            case "chmod":
                file.chmod(0o600)
            case "touch":
                os.utime(file)
            case "restored":
                content = file.read_bytes()
                file.unlink()
                file.write_bytes(content)
            case "moved":
                file.rename(file.with_name("two.jpg"))
            case "linked":
                os.link(file, file.with_name("two.jpg"))
        await until(lambda: harness.idle and len(harness.bus.media) > 1)
    assert flags(harness)[0] is False
    assert all(flags(harness)[1:])
    assert {media.id for media in harness.bus.media} == {harness.bus.media[0].id}
    assert harness.bus.media[-1].file.ctime_ns != harness.bus.media[0].file.ctime_ns


async def test_the_same_content_of_another_camera_is_not_known(harness: IngestHarness) -> None:
    async with harness.running():
        harness.drop("door/one.jpg", jpeg("one"))
        await announced(harness, 1)
        harness.known_files.media_ids.add(harness.bus.media[0].id)
        harness.drop("yard/one.jpg", jpeg("one"))
        await announced(harness, 2)
    assert harness.known_files.asked_media == [media_id("yard", harness.bus.media[0].sha256)]
    assert flags(harness) == [False, False]


async def test_content_that_was_stored_before_a_kill_and_not_announced_is_not_known(
    harness: IngestHarness,
) -> None:
    await harness.blobs.put(harness.drop("door/one.jpg", jpeg("one")))
    async with harness.running():
        await announced(harness, 1)
    assert len(harness.known_files.asked_media) == 1
    assert flags(harness) == [False]


async def test_a_whole_archive_that_is_restored_is_announced_as_known(harness: IngestHarness) -> None:
    async with harness.running():
        for number in range(50):
            harness.drop(f"door/{number:02}.jpg", jpeg(str(number)), 1_767_614_400 + number)
        await announced(harness, 50)
        harness.known_files.media_ids |= {media.id for media in harness.bus.media}
        shutil.copytree(harness.root / "door", harness.home / "backup")
        shutil.rmtree(harness.root / "door")
        (harness.home / "backup").rename(harness.root / "door")
        harness.drop("door/new.jpg", jpeg("new"))
        await until(lambda: harness.idle and len(harness.bus.media) >= 101)
    by_path = {media.file.path: media.known_content for media in harness.bus.media}
    assert by_path.pop("door/new.jpg") is False
    assert all(by_path.values())
