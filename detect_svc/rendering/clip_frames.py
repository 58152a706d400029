"""JPEGs of those frames of a clip that the detector has looked at, one behind another. Runs in a sandbox's
child only."""

from collections.abc import Generator

from detect_svc.rendering.output_file import OutputFile, Parts
from mesh.clip_reading import open_clip, upright
from mesh.picture_drawing import drawn, jpeg
from mesh.processes.sandbox_child import InputRefused

MAX_SIDE = 1920
QUALITY = 85


def clip_frames(
    path: str, wanted: list[int], max_pixels: int, file: OutputFile
) -> Generator[float, None, Parts]:
    """Writes the frames with the indexes `wanted`, upright. A frame that is not found under its index is left
    out. Raises InputRefused, NO_PICTURE if none is found."""
    parts: list[tuple[int, int, int]] = []
    with open_clip(path, max_pixels) as clip:
        for found in clip.pictures_at(wanted):
            picture = jpeg(drawn(upright(found.frame, MAX_SIDE), MAX_SIDE, ()), QUALITY)
            parts.append((found.index, file.tell(), file.write(picture)))
            yield len(parts) / len(wanted)
    if not parts:
        raise InputRefused("none of the frames can be decoded", "NO_PICTURE")
    return parts
