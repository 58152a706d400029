"""What tests about clips run in a sandbox's children."""

from mesh.clip_reading import open_clip


def count_pictures(path: str, max_pixels: int) -> int:
    with open_clip(path, max_pixels) as clip:
        return sum(1 for _ in clip.pictures())
