"""A small animated picture of an event's frames, with boxes. Runs in a sandbox's child only."""

from collections.abc import Generator, Iterator, Sequence
from importlib import import_module
from typing import NamedTuple

from detect_svc.rendering.output_file import OutputFile, Parts
from mesh.boxes import LabelledBox
from mesh.photo_decoding import decode, read_content
from mesh.picture_drawing import Drawing, animation, drawn
from mesh.processes.sandbox_child import InputRefused

MAX_SIDE = 640


class Shot(NamedTuple):
    """A frame of a preview, and for how long it is shown."""

    frame: int
    milliseconds: int
    boxes: list[LabelledBox]


class Source(NamedTuple):
    """A photo or clip, with those of its frames that are shown."""

    path: str
    is_clip: bool
    shots: list[Shot]


def preview(sources: Sequence[Source], max_pixels: int, file: OutputFile) -> Generator[float, None, Parts]:
    """Writes the frames in order. Those that cannot be decoded are left out. Raises InputRefused: the refusal
    of a source if no frame is left, TOO_LARGE."""
    pictures, shown, refusals = list[Drawing](), list[int](), list[InputRefused]()
    for number, source in enumerate(sources):
        try:
            for picture, shot in _pictures(source, max_pixels):
                pictures.append(picture)
                shown.append(shot.milliseconds)
        except InputRefused as refusal:
            if refusal.reason == "BLOB_NOT_FOUND":  # for the parent to judge: it may be there again
                raise
            refusals.append(refusal)
        yield (number + 1) / len(sources)
    if not pictures:
        raise refusals[0] if refusals else InputRefused("none of the frames can be decoded", "NO_PICTURE")
    file.write(animation(pictures, shown))
    return []


def _pictures(source: Source, max_pixels: int) -> Iterator[tuple[Drawing, Shot]]:
    """Raises InputRefused."""
    if not source.is_clip:
        pixels = decode(read_content(source.path), MAX_SIDE, max_pixels).pixels
        for shot in source.shots:
            yield drawn(pixels, MAX_SIDE, shot.boxes), shot
        return
    reading = import_module("mesh.clip_reading")  # photos need no PyAV
    with reading.open_clip(source.path, max_pixels) as clip:
        shots = {shot.frame: shot for shot in source.shots}
        for found in clip.pictures_at(sorted(shots)):
            shot = shots[found.index]
            yield drawn(reading.upright(found.frame, MAX_SIDE), MAX_SIDE, shot.boxes), shot
