"""The photos of a fault run: their content, their capture times and their order."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.photos import renumbered

# 2026-01-05 12:00:00 UTC; without EXIF, the capture time is the file's mtime.
START = 1_767_614_400.0
HOUR, DAY = 3600.0, 86_400.0
LONG_CAMERA, FLAWED_CAMERA = "long", "flawed"
# A vehicle comes and goes on the drive; people come through the gate, and stand on the porch.
DRIVE_CAMERA, GATE_CAMERA, PORCH_CAMERA = "drive", "gate", "porch"
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


def _without_quantization_tables(content: bytes) -> bytes:
    """Turns the tables that decoding needs into a segment without a meaning. The segments stay those of a
    valid JPEG."""
    return content.replace(b"\xff\xdb", b"\xff\xef")


FLAWS = (
    Flaw("ZERO_BYTE", lambda _: b"", found_by_ingest=True),
    Flaw("TRUNCATED", lambda content: content[: len(content) // 2], found_by_ingest=True),
    Flaw("CORRUPT", _without_quantization_tables, found_by_ingest=False),
)


@dataclass(frozen=True)
class Drop:
    """One photo that is dropped into its camera's folder.

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

    @property
    def path(self) -> str:
        return f"{self.camera}/{self.name}"

    @property
    def is_single(self) -> bool:
        """Whether its camera has no other photo."""
        return self.name == SINGLE

    def content(self) -> bytes:
        """Returns the sample with its serial number, which makes it a different photo, and with its flaw."""
        valid = renumbered(self.sample, self.serial)
        return self.flaw.apply(valid) if self.flaw else valid

    def put(self, cameras: Path) -> None:
        """Moves the photo into its camera's folder, complete, with its capture time."""
        folder = cameras / self.camera
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.part"
        partial.write_bytes(self.content())
        os.utime(partial, (self.captured_at, self.captured_at))
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


def _in_order(camera: str, moments: list[tuple[float, Path]], serial: int) -> list[Drop]:
    return [
        Drop(camera, f"{index:03}.jpg", photo, at, serial + index)
        for index, (at, photo) in enumerate(moments)
    ]
