"""What the cameras of a fault run send: photos, clips, uploads and flawed files, in rounds, as a function of
the seed. A run without faults with the same load says what has to come of it.

Media of one camera are sent one after another, each when the store has the one before: the ids of events
depend on which of their frames is recorded first. Different cameras send at the same time.
"""

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from aiokafka.partitioner import murmur2

from mesh.blobs.parts import PART_BYTES
from mesh.identity import media_id
from mesh.topics import CAMERA_PARTITIONS
from tests.faults.boundaries import Stimulus
from tests.faults.stub_detector import DAMAGED, EMPTY
from tests.kills.scenario import without_quantization_tables
from tests.support.clips import make_clip, walker_scene
from tests.support.photos import renumbered, small_photos

# 2026-01-05 12:00:00 UTC; without EXIF, the capture time is the file's mtime.
START = 1_767_614_400.0
HOUR = 3600.0
GAP, SPAN = 2.0, 8.0
# Steps within an event, exactly on and beyond the limit of its gap, and to another hour, which is twice as
# likely as each of the others: so most events have no other in the hour before.
STEPS = (0.5, 1.0, GAP, GAP + 0.25, 2 * HOUR, 2 * HOUR)
CLIP_SECONDS, CLIP_FPS, CLIPS = 2, 10, 4
CLIP_CAMERA, UPLOADING_CAMERA, LARGE_CAMERA = "clips", "uploading", "uploading-large"
FLAWED_CAMERA, DAMAGED_CAMERA = "flawed", "damaged"
# So much that it arrives in two parts.
LARGE_BYTES = PART_BYTES + PART_BYTES // 8
# How many rounds lie between two that send this although no fault needs it.
EVERY: dict[Stimulus, int] = {
    "clip": 9,
    "upload": 4,
    "large upload": 10,
    "flawed": 6,
    "damaged": 7,
    "new camera": 8,
}

Kind = Literal["photo", "clip", "upload", "large upload", "flawed", "damaged"]


@dataclass(frozen=True)
class Item:
    """One file, or one upload. A clip has a rendition made of it. A `damaged` photo is refused by every
    detector, and a `flawed` one already when it comes in. In a photo that `is_empty`, the stub finds nothing.
    """

    camera: str
    name: str
    captured_at: float
    serial: int
    sample: Path
    kind: Kind = "photo"
    is_empty: bool = False

    @property
    def path(self) -> str:
        return f"{self.camera}/{self.name}"

    @property
    def content(self) -> bytes:
        """The sample with the serial number, which makes it another photo or clip."""
        if self.kind == "clip":
            return self.sample.read_bytes() + _free_box(self.serial)
        if self.kind == "flawed":
            return renumbered(self.sample, self.serial)[: 2000 + self.serial % 1000]
        photo = renumbered(self.sample, self.serial)
        if self.kind == "damaged":
            return without_quantization_tables(photo) + DAMAGED
        if self.kind == "large upload":
            photo += bytes(LARGE_BYTES - len(photo))
        return photo + (EMPTY if self.is_empty else b"")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def media_id(self) -> str:
        return media_id(self.camera, self.sha256)

    @property
    def is_upload(self) -> bool:
        return self.kind in ("upload", "large upload")

    @property
    def is_rejected(self) -> bool:
        return self.kind in ("flawed", "damaged")

    def put(self, cameras: Path) -> None:
        """Moves it into its camera's folder, complete, with its capture time: a clip is written until its
        end."""
        folder = cameras / self.camera
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.part"
        partial.write_bytes(self.content)
        written_at = self.captured_at + (CLIP_SECONDS if self.kind == "clip" else 0)
        os.utime(partial, (written_at, written_at))
        partial.rename(folder / self.name)


@dataclass(frozen=True)
class Batch:
    """What one round sends: `early` while the faults happen, and `probes` when they are over, one for each
    partition of the log: those that pass show that no consumer is stuck."""

    early: Sequence[Item]
    probes: Sequence[Item]


class Load:
    """Makes the batches of a part, one for each round. `folder` is where the clips are made. With
    `few_events`, only one photo of a round, and its clip, show something: for a reasoner that takes long."""

    def __init__(self, seed: int, folder: Path, *, few_events: bool = False) -> None:
        self._chance = random.Random(f"load {seed}")
        self._samples = small_photos()
        self._clips = [
            make_clip(
                folder / f"clip-{number}.mp4",
                walker_scene(CLIP_SECONDS, fps=CLIP_FPS, walks=(0.3 * number, CLIP_SECONDS)),
                fps=CLIP_FPS,
                gop=CLIP_FPS,
            )
            for number in range(CLIPS)
        ]
        names = one_camera_for_each_partition()
        self._early_cameras, self._probe_cameras = next(names), next(names)
        self._few_events = few_events
        self._at: dict[str, float] = {}
        self._serials = count(1)
        self._rounds = 0

    def batch(self, stimuli: Sequence[Stimulus]) -> Batch:
        """The next one, with what these boundaries need."""
        self._rounds += 1
        wanted = {*stimuli, *(each for each, every in EVERY.items() if self._rounds % every == 0)}
        early = [self._item(camera) for camera in self._early_cameras]
        if "clip" in wanted:
            early.append(self._item(CLIP_CAMERA, "clip"))
        if "upload" in wanted:
            early.append(self._item(UPLOADING_CAMERA, "upload"))
        if "large upload" in wanted:
            early.append(self._item(LARGE_CAMERA, "large upload"))
        if "flawed" in wanted:
            early.append(self._item(FLAWED_CAMERA, "flawed"))
        if "damaged" in wanted:
            early.append(self._item(DAMAGED_CAMERA, "damaged"))
        if "new camera" in wanted:
            early.append(self._item(f"new-{self._rounds}"))
        self._chance.shuffle(early)
        return Batch(early, [self._item(camera) for camera in self._probe_cameras])

    def _item(self, camera: str, kind: Kind = "photo") -> Item:
        serial, chance = next(self._serials), self._chance
        at = self._at[camera] = self._at.get(camera, START) + chance.choice(STEPS)
        suffix = "mp4" if kind == "clip" else "jpg"
        sample = chance.choice(self._clips if kind == "clip" else self._samples)
        shows = camera == self._early_cameras[0] or kind in ("clip", "flawed", "damaged")
        is_empty = self._few_events and not shows
        return Item(camera, f"{serial:06}.{suffix}", at, serial, sample, kind, is_empty)


def one_camera_for_each_partition() -> Iterator[list[str]]:
    """Yields lists of names of cameras, of which each has another partition."""
    names = {partition: list[str]() for partition in range(CAMERA_PARTITIONS)}
    for number in count():
        name = f"cam-{number}"
        names[(murmur2(name.encode()) & 0x7FFFFFFF) % CAMERA_PARTITIONS].append(name)
        if all(names.values()):
            yield [waiting.pop(0) for waiting in names.values()]


def _free_box(serial: int) -> bytes:
    """A box of MP4 that says nothing."""
    return (16).to_bytes(4, "big") + b"free" + serial.to_bytes(8, "big")
