"""Clips that are damaged or made to do harm, each with the reasons for which it may be rejected."""

import random
import struct
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from tests.support.clips import make_clip
from tests.support.small_clips import FPS, SECONDS, moving_square, small_clip

NO_PICTURE = frozenset({"CORRUPT", "NO_PICTURE"})
# In pixels: a square with more than LARES_INGEST_MAX_PIXELS.
BOMB_SIDE = 8192
ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "00112233445566778899aabbccddeeff",
}


class DamagedClip(NamedTuple):
    name: str
    content: bytes
    reasons: frozenset[str]


def damaged_clips(folder: Path, longest: int) -> list[DamagedClip]:
    """Makes them with files in the folder. `longest` is LARES_CLIP_MAX_SECONDS."""
    whole, first, mkv, avi = (small_clip(kind) for kind in ("mp4", "mp4, index first", "mkv", "avi"))
    cuts = [(f"cut-{tenth}.mp4", whole[: len(whole) * tenth // 10]) for tenth in range(1, 10)]
    cuts += [("cut.avi", avi[: len(avi) // 2]), ("cut.mkv", mkv[: len(mkv) // 2])]
    return [
        *(DamagedClip(name, content, frozenset({"TRUNCATED"})) for name, content in cuts),
        DamagedClip("wrong-index.mp4", _with_wrong_offsets(first), NO_PICTURE),
        DamagedClip("noise-as-index.mp4", _with_noise(first, first.index(b"moov") + 4, 300), NO_PICTURE),
        DamagedClip("noise-as-pictures.mp4", _with_noise(first, first.index(b"mdat") + 4), NO_PICTURE),
        DamagedClip("no-key-frame.mp4", _without_key_frames(folder), NO_PICTURE),
        DamagedClip("absurd-header.mp4", _with_absurd_sizes(first), NO_PICTURE),
        DamagedClip("100000-streams.mp4", _with_streams(100_000), NO_PICTURE),
        DamagedClip("bomb.mkv", _bomb(folder), frozenset({"TOO_MANY_PIXELS"})),
        DamagedClip("bomb-within.avi", _bomb_within(folder), NO_PICTURE | {"TOO_MANY_PIXELS"}),
        DamagedClip("sound.mp4", sound_only(folder / "sound.mp4"), frozenset({"NO_PICTURE"})),
        DamagedClip("encrypted.mp4", _encrypted(folder), frozenset({"ENCRYPTED"})),
        DamagedClip("text.mp4", b"\x00\x00\x00\x18ftypisom" + b"hello " * 100, NO_PICTURE | {"TRUNCATED"}),
        DamagedClip("longer-than-it-says.mkv", _too_long(folder, longest), frozenset({"TOO_LONG"})),
    ]


def clip_without_frame_rate() -> bytes:
    """All its frames come at the same time, in no time at all: 0 frames per second."""
    content = bytearray(small_clip("mp4, index first"))
    at = content.index(b"stts") + 8
    (count,) = struct.unpack_from(">I", content, at)
    for entry in range(count):
        struct.pack_into(">I", content, at + 8 + 8 * entry, 0)
    return bytes(content)


def _with_wrong_offsets(content: bytes) -> bytes:
    """The index says that each chunk of pictures begins somewhere else."""
    changed, chance = bytearray(content), random.Random(3)
    at = changed.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", changed, at)
    for entry in range(count):
        struct.pack_into(">I", changed, at + 4 + 4 * entry, chance.randrange(2**31, 2**32))
    return bytes(changed)


def _with_noise(content: bytes, at: int, length: int | None = None) -> bytes:
    end = len(content) if length is None else at + length
    return content[:at] + random.Random(4).randbytes(end - at) + content[end:]


def _with_absurd_sizes(content: bytes) -> bytes:
    """Each frame has two gigabytes, the index says."""
    changed = bytearray(content)
    at = changed.index(b"stsz") + 8
    _, count = struct.unpack_from(">II", changed, at)
    for entry in range(count):
        struct.pack_into(">I", changed, at + 8 + 4 * entry, 2**31 - 1)
    return bytes(changed)


def _with_streams(count: int) -> bytes:
    return box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"trak") * count) + box(b"mdat", bytes(100))


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _without_key_frames(folder: Path) -> bytes:
    source = make_clip(folder / "one-key-frame.mp4", moving_square(SECONDS), fps=FPS, gop=1000)
    path = folder / "no-key-frame.mp4"
    with av.open(str(source)) as opened, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(opened.streams.video[0])
        for packet in islice(opened.demux(opened.streams.video[0]), 1, None):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
    return path.read_bytes()


def _bomb(folder: Path) -> bytes:
    """A black picture of 200 KB that takes 200 MB to decode."""
    black = np.zeros((BOMB_SIDE, BOMB_SIDE, 3), np.uint8)
    return make_clip(folder / "bomb.mkv", [black], fps=FPS).read_bytes()


def _bomb_within(folder: Path) -> bytes:
    """The container's header has small pictures, and each picture claims to have four gigapixels."""
    path = make_clip(folder / "bomb.avi", moving_square(1), fps=FPS, codec="mjpeg")
    content = bytearray(path.read_bytes())
    at = content.find(b"\xff\xc0")
    while at >= 0:
        struct.pack_into(">HH", content, at + 5, 65_000, 65_000)
        at = content.find(b"\xff\xc0", at + 2)
    return bytes(content)


def sound_only(path: Path) -> bytes:
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    return path.read_bytes()


def _encrypted(folder: Path) -> bytes:
    return make_clip(folder / "encrypted.mp4", moving_square(1), fps=FPS, options=ENCRYPTION).read_bytes()


def _too_long(folder: Path, longest: int) -> bytes:
    """Twice as long as it may be, and half as long by its header."""
    still = (moving_square(1)[0] for _ in range(2 * longest * FPS))
    content = bytearray(make_clip(folder / "long.mkv", still, fps=FPS).read_bytes())
    at = content.index(b"\x44\x89\x88") + 3  # the duration, in milliseconds
    struct.pack_into(">d", content, at, longest * 500.0)
    return bytes(content)
