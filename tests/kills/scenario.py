"""The photos and clips of a fault run: their content, their capture times and their order."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.clips import make_clip, walker_scene
from tests.support.photos import renumbered

# 2026-01-05 12:00:00 UTC; without EXIF, the capture time is the file's mtime.
START = 1_767_614_400.0
HOUR, DAY = 3600.0, 86_400.0
LONG_CAMERA, FLAWED_CAMERA = "long", "flawed"
# A vehicle comes and goes on the drive; people come through the gate, and stand on the porch.
DRIVE_CAMERA, GATE_CAMERA, PORCH_CAMERA = "drive", "gate", "porch"
# Of clips: one in a folder with a snapshot of the same scene before it and another one after it, and one that
# is uploaded.
CLIP_CAMERA, UPLOADING_CAMERA = "yard", "uploading"
CLIP_SECONDS, CLIP_FPS = 4, 10
SINGLE = "only.jpg"


@dataclass(frozen=True)
class Flaw:
    """A flaw of a file, and the reason for which the file is rejected.

    `found_by_ingest` means that ingest_svc rejects the file. Otherwise ingest_svc accepts it, and only the
    decoder finds the flaw.
    """

    reason: str
    apply: Callable[[bytes], bytes]
    found_by_ingest: bool


def without_quantization_tables(content: bytes) -> bytes:
    """Turns the tables that decoding needs into a segment without a meaning. The segments stay those of a
    valid JPEG."""
    return content.replace(b"\xff\xdb", b"\xff\xef")


def _with_noise(content: bytes) -> bytes:
    """Replaces the second half of a clip, in which its index lies as well as pictures, except for its last
    bytes."""
    half = len(content) // 2
    return content[:half] + random.Random(half).randbytes(len(content) - half - 4) + content[-4:]


CLIP_FLAW = Flaw("CORRUPT", _with_noise, found_by_ingest=True)
FLAWS = (
    Flaw("ZERO_BYTE", lambda _: b"", found_by_ingest=True),
    Flaw("TRUNCATED", lambda content: content[: len(content) // 2], found_by_ingest=True),
    Flaw("CORRUPT", without_quantization_tables, found_by_ingest=False),
)


@dataclass(frozen=True)
class Drop:
    """One photo or clip that is dropped into its camera's folder, or uploaded. A clip is not changed by its
    serial number.

    A `late` photo is dropped after all earlier photos of its camera are in the store, and the next one after
    that.
    """

    camera: str
    name: str
    sample: Path
    captured_at: float
    serial: int
    late: bool = False
    flaw: Flaw | None = None
    is_clip: bool = False
    is_upload: bool = False

    @property
    def path(self) -> str:
        return f"{self.camera}/{self.name}"

    @property
    def is_single(self) -> bool:
        """Whether its camera has no other photo."""
        return self.name == SINGLE

    def content(self) -> bytes:
        """Returns the sample with its serial number, which makes it a different photo, and with its flaw."""
        valid = self.sample.read_bytes() if self.is_clip else renumbered(self.sample, self.serial)
        return self.flaw.apply(valid) if self.flaw else valid

    def put(self, cameras: Path) -> None:
        """Moves it into its camera's folder, complete, with its capture time: a clip is written until its
        end."""
        folder = cameras / self.camera
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.part"
        partial.write_bytes(self.content())
        written_at = self.captured_at + (CLIP_SECONDS if self.is_clip else 0)
        os.utime(partial, (written_at, written_at))
        partial.rename(folder / self.name)


def single_photos(samples: list[Path], count: int) -> list[Drop]:
    """Returns one photo for each of `count` cameras."""
    return [
        Drop(f"cam-{index:02}", SINGLE, samples[index % len(samples)], START + 7 * index, 10_000 + index)
        for index in range(count)
    ]


def flawed_files(samples: list[Path], count: int) -> list[Drop]:
    """Returns files of one camera, with the flaws in turn."""
    return [
        Drop(
            FLAWED_CAMERA,
            f"{index:03}.jpg",
            samples[index % len(samples)],
            START + index,
            30_000 + index,
            flaw=FLAWS[index % len(FLAWS)],
        )
        for index in range(count)
    ]


def long_visit(samples: list[Path], count: int, gap: float, span: float, chance: random.Random) -> list[Drop]:
    """Returns photos of one camera whose distances are exactly on and beyond the limits of gap and span.

    They are in order of capture, except for a few late ones.
    """
    moments: list[float] = []
    moment = START
    for _ in range(count):
        moment += chance.choice([0.0, gap / 5, gap / 3, gap, gap + 0.25, span / 2, gap * 3])
        moments.append(moment)
    drops = [
        Drop(LONG_CAMERA, f"{index:03}.jpg", samples[index % len(samples)], at, index)
        for index, at in enumerate(moments)
    ]
    late = [
        Drop(
            LONG_CAMERA,
            f"late-{index}.jpg",
            samples[index % len(samples)],
            moments[place // 2] + gap / 7,
            20_000 + index,
            late=True,
        )
        for index, place in enumerate(range(count // 4, count, count // 4))
    ]
    for index, drop in enumerate(late):
        drops.insert((index + 1) * (count // 4) + index, drop)
    return drops


def visiting_vehicle(vehicle: Path, person: Path, empty: Path, start: float) -> list[Drop]:
    """Returns photos of the drive, in order of capture: in each of the three hours after `start`, a vehicle
    comes, stands there for over ten minutes and leaves. Somebody is there before and after it."""
    hour = [
        (0.0, person),
        *((minute * 60.0, vehicle) for minute in (5, 9, 13, 17, 18)),
        # Three photos within ten seconds or more lack it.
        *((19 * 60.0 + second, empty) for second in (0, 8, 16)),
        (21 * 60.0, person),
    ]
    moments = [(start + number * HOUR + seconds, photo) for number in range(3) for seconds, photo in hour]
    return _in_order(DRIVE_CAMERA, moments, 40_000)


def daily_visits(person: Path, start: float) -> list[Drop]:
    """Returns photos of the gate, in order of capture: somebody comes at the same hour on nine days within
    four weeks before `start`, which makes it a habit, and then in each of the three hours after it."""
    days = [start - days_before * DAY + 600 for days_before in range(26, 1, -3)]
    moments = [*days, *(start + number * HOUR + 900 for number in range(3))]
    return _in_order(GATE_CAMERA, [(at, person) for at in moments], 50_000)


def porch_visits(person: Path, count: int, began: float) -> list[Drop]:
    """Returns two photos for each visit, in order of capture."""
    moments = [began + 60 * number + second for number in range(count) for second in (0, 2)]
    return _in_order(PORCH_CAMERA, [(at, person) for at in moments], 60_000)


def clips(person: Path, folder: Path) -> list[Drop]:
    """Returns clips in the folder of a camera with photos between them, in order of capture, an upload, and a
    flawed one. The clips are made in this folder."""
    made = [
        make_clip(
            folder / f"clip-{number}.mp4",
            walker_scene(CLIP_SECONDS, fps=CLIP_FPS, walks=(0.5 * number, CLIP_SECONDS)),
            fps=CLIP_FPS,
            gop=CLIP_FPS,
        )
        for number in range(4)
    ]
    return [
        Drop(CLIP_CAMERA, "000.jpg", person, START - 2, 70_000),
        Drop(CLIP_CAMERA, "001.mp4", made[0], START, 70_001, is_clip=True),
        Drop(CLIP_CAMERA, "002.jpg", person, START + 6, 70_002),
        Drop(CLIP_CAMERA, "003.mp4", made[1], START + 60, 70_003, is_clip=True),
        Drop(UPLOADING_CAMERA, "clip.mp4", made[2], START, 80_000, is_clip=True, is_upload=True),
        Drop(FLAWED_CAMERA, "clip.mp4", made[3], START, 30_999, flaw=CLIP_FLAW, is_clip=True),
    ]


def _in_order(camera: str, moments: list[tuple[float, Path]], serial: int) -> list[Drop]:
    return [
        Drop(camera, f"{index:03}.jpg", photo, at, serial + index)
        for index, (at, photo) in enumerate(moments)
    ]
