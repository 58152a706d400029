"""The photos of a fault run: what is dropped, with which capture time, and in which order."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.photos import renumbered

# 2026-01-05 12:00:00 UTC; photos without EXIF are captured at their file's mtime.
START = 1_767_614_400.0
LONG_CAMERA, FLAWED_CAMERA = "long", "flawed"
LONELY = "only.jpg"


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a file, and the reason for which it is rejected. `plain`: ingest_svc sees it;
    otherwise it takes the file, and only the decoder sees it."""

    reason: str
    spoil: Callable[[bytes], bytes]
    plain: bool


def _holed(content: bytes) -> bytes:
    """Half of the pixels are gone; its header and its end are those of a sound JPEG."""
    middle = len(content) // 2
    return content[:middle] + bytes(len(content) - middle - 2) + content[-2:]


FLAWS = (
    Flaw("ZERO_BYTE", lambda _: b"", plain=True),
    Flaw("TRUNCATED", lambda content: content[: len(content) // 2], plain=True),
    Flaw("CORRUPT", _holed, plain=False),
)


@dataclass(frozen=True)
class Drop:
    """One photo. `late`: dropped only after all earlier ones of its camera are in the store, and the next
    only after it."""

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
    def lonely(self) -> bool:
        """Whether it is its camera's only one."""
        return self.name == LONELY

    def content(self) -> bytes:
        """The sample with its serial number, which makes it another photo, and with its flaw."""
        whole = renumbered(self.sample, self.serial)
        return self.flaw.spoil(whole) if self.flaw else whole

    def put(self, cameras: Path) -> None:
        """Moves the photo into its camera's folder, complete, with its capture time."""
        folder = cameras / self.camera
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.part"
        partial.write_bytes(self.content())
        os.utime(partial, (self.captured_at, self.captured_at))
        partial.rename(folder / self.name)


def lonely(samples: list[Path], count: int) -> list[Drop]:
    """One photo in each of `count` cameras."""
    return [
        Drop(f"cam-{index:02}", LONELY, samples[index % len(samples)], START + 7 * index, 10_000 + index)
        for index in range(count)
    ]


def flawed(samples: list[Path], count: int) -> list[Drop]:
    """One camera's files, each with another flaw than the one before."""
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
    """One camera's photos across gap and span borders (exactly on them, and a microsecond's worth beyond),
    in capture order but for a few late ones."""
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
