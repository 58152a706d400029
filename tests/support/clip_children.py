"""What tests about clips run in a sandbox's children."""

import os
import signal
import time
from pathlib import Path

from mesh.clip_reading import open_clip


def count_pictures(path: str, max_pixels: int) -> int:
    with open_clip(path, max_pixels) as clip:
        return sum(1 for _ in clip.pictures())


def fail(path: str, max_pixels: int) -> dict[str, object]:
    """In the way that the end of the clip names."""
    content = Path(path).read_bytes()
    if content.endswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if content.endswith(b"hang"):
        time.sleep(60)
    if content.endswith(b"raise"):
        raise RuntimeError("an error of which nobody has thought")
    return {"width": 10**9}
