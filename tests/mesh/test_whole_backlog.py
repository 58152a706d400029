"""A backlog in a whole Lares: live photos pass it, and content that is known is not looked at again."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lares.ingest.v1.media_pb2 import Media
from mesh.bus import Bus, open_bus
from mesh.topics import DETECTED, INGESTED, Topic
from tests.support.lares import Lares, running_lares
from tests.support.photos import people, renumbered
from tests.support.waiting import until

BACKLOG = 120
JANUARY = 1_767_614_400.0


@asynccontextmanager
async def media_on(bus: Bus, topic: Topic[Any] = DETECTED) -> AsyncIterator[list[Media]]:
    """The media of all records of a topic, in their order."""
    seen = list[Media]()

    async def read() -> None:
        async for delivery in tail:
            seen.append(delivery.message.media)

    async with bus.tail(topic, start="beginning") as tail:
        reading = asyncio.create_task(read())
        yield seen
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def put(lares: Lares, path: str, number: int, mtime: float | None = None) -> Path:
    """Moves a photo of its own into place."""
    target, partial = lares.cameras / path, lares.home / f"{number}.part"
    target.parent.mkdir(exist_ok=True)
    partial.write_bytes(renumbered(people()[number % 4], number))
    if mtime is not None:
        os.utime(partial, (mtime, mtime))
    return partial.rename(target)


async def test_live_photos_are_detected_before_the_backlog_of_any_camera(tmp_path: Path) -> None:
    """The cameras have the same partition. The backlog is copied in as it is: nothing tells its age."""
    async with (
        running_lares(tmp_path / "home") as lares,
        open_bus(lares.admin_kafka_url, client_id="test") as bus,
        media_on(bus) as detected,
    ):
        names = [f"camera-{number}" for number in range(100)]
        busy = names[0]
        other = next(
            name for name in names[1:] if bus.partition(INGESTED, name) == bus.partition(INGESTED, busy)
        )
        (lares.cameras / other).mkdir()
        staging = tmp_path / "staging"
        staging.mkdir()
        for number in range(BACKLOG):
            (staging / f"{number:03}.jpg").write_bytes(renumbered(people()[number % 4], number))
        staging.rename(lares.cameras / busy)
        await until(lambda: detected)
        put(lares, f"{other}/live.jpg", 1000)
        await until(lambda: len(detected) == BACKLOG + 1)
        paths = [media.file.path for media in detected]
        await lares.idle()
    backlog = [path for path in paths if path.startswith(f"{busy}/")]
    assert backlog == sorted(backlog)
    # What was announced before is at most what may be undetected at a time, and a burst that counts as live.
    assert paths.index(f"{other}/live.jpg") < BACKLOG - 20


async def test_known_content_is_not_looked_at_again_and_its_files_are_known_after_a_restart(
    tmp_path: Path,
) -> None:
    async with running_lares(tmp_path / "home") as lares:
        async with (
            open_bus(lares.admin_kafka_url, client_id="test") as bus,
            media_on(bus) as detected,
        ):
            first = [put(lares, f"door/{number}.jpg", number, JANUARY + number) for number in range(4)]
            await lares.until_stored(4)
            await lares.idle()
            shutil.copy(first[0], first[0].with_name("copy.jpg"))
            first[1].chmod(0o640)
            content = first[2].read_bytes()
            first[2].unlink()
            first[2].write_bytes(content)
            shutil.copytree(lares.cameras / "door", tmp_path / "backup")
            shutil.copytree(tmp_path / "backup", lares.cameras / "door" / "restored")
            await until(lambda: len({media.file.path for media in detected}) == 10)
            await lares.idle()
            assert [media.known_content for media in detected] == [False] * 4 + [True] * (len(detected) - 4)
            states = {(media.file.path, media.file.ctime_ns) for media in detected}
            assert lares.tail(2000).count('"photo detected"') == 4
        lares.kill()
        lares.start()
        await lares.ready()
        put(lares, "door/new.jpg", 99)
        await lares.until_stored(5)
        await lares.idle()
        async with (
            open_bus(lares.admin_kafka_url, client_id="test") as bus,
            media_on(bus, INGESTED) as ingested,
        ):
            await until(lambda: ingested and ingested[-1].file.path == "door/new.jpg")
            assert len(ingested) == len(states) + 1
