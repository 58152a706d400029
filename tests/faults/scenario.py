"""The photos of a fault run: what is dropped, with which capture time, and in which order."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

# 2026-01-05 12:00:00 UTC; photos without EXIF are captured at their file's mtime.
START = 1_767_614_400.0
LONG_CAMERA = "long"


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

    def content(self) -> bytes:
        """The sample with its serial number in a JPEG comment: same pixels, another photo."""
        original = self.sample.read_bytes()
        comment = f"serial {self.serial}".encode()
        return original[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + original[2:]

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
        Drop(f"cam-{index:02}", "only.jpg", samples[index % len(samples)], START + 7 * index, 10_000 + index)
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
