"""Draws boxes into pictures, and writes JPEG and animated WebP. Runs in a sandbox's child only."""

import io
from collections.abc import Iterable, Sequence
from colorsys import hls_to_rgb
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mesh.boxes import LabelledBox

LINE_WIDTH = 3
FONT_SIZE = 14
WEBP_QUALITY = 70
WEBP_EFFORT = 2  # 0 to 6: more takes several times as long, and saves a tenth

Drawing: TypeAlias = Image.Image

COLOURS = {
    "person": (230, 57, 70),
    "bicycle": (69, 183, 209),
    "car": (29, 120, 225),
    "motorcycle": (0, 150, 199),
    "bus": (72, 52, 212),
    "truck": (30, 55, 153),
    "bird": (106, 176, 76),
    "cat": (243, 156, 18),
    "dog": (211, 84, 0),
    "horse": (142, 68, 29),
    "sheep": (46, 139, 87),
    "cow": (125, 95, 60),
    "bear": (94, 53, 177),
}


def drawn(pixels: NDArray[np.uint8], max_side: int, boxes: Iterable[LabelledBox]) -> Drawing:
    """The picture ([h, w, 3] RGB), scaled down so that neither side is longer than `max_side`, with a box
    around every detection."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side, max_side))
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE)
    # In order of score, so that the best detection is on top.
    for box in sorted(boxes, key=lambda box: box[1]):
        _draw_box(canvas, font, box, picture.size)
    return picture


def jpeg(picture: Drawing, quality: int) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def animation(pictures: Sequence[Drawing], milliseconds: Sequence[int]) -> bytes:
    """An animated WebP that repeats for ever. Each picture is shown for so many milliseconds. Those of
    another size than the first are centred on black; at least one picture is needed."""
    encoded = io.BytesIO()
    size = (max(picture.width for picture in pictures), max(picture.height for picture in pictures))
    first, *others = [_centred(picture, size) for picture in pictures]
    first.save(
        encoded,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=list(milliseconds),
        loop=0,
        quality=WEBP_QUALITY,
        method=WEBP_EFFORT,
    )
    return encoded.getvalue()


def _centred(picture: Drawing, size: tuple[int, int]) -> Drawing:
    if picture.size == size:
        return picture
    centred = Image.new("RGB", size)
    centred.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return centred


def _draw_box(
    canvas: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    box: LabelledBox,
    size: tuple[int, int],
) -> None:
    label, score, *edges = box
    width, height = size
    x_min, y_min, x_max, y_max = (
        min(max(edge, 0.0), 1.0) * (side - 1) for edge, side in zip(edges, (width, height) * 2, strict=True)
    )
    colour = COLOURS.get(label) or _other_colour(label)
    canvas.rectangle((x_min, y_min, max(x_min, x_max), max(y_min, y_max)), outline=colour, width=LINE_WIDTH)
    text = f"{label} {score:.0%}"
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    text_height, text_width = bottom - top + 6, right - left + 8
    # Above the box if there is room, else inside it; never beyond the right edge.
    y = y_min - text_height if y_min >= text_height else y_min
    x = max(0.0, min(x_min, width - text_width))
    canvas.rectangle((x, y, x + text_width, y + text_height), fill=colour)
    canvas.text((x + 4 - left, y + 3 - top), text, fill="white", font=font)


def _other_colour(label: str) -> tuple[int, int, int]:
    """Always the same colour for the same label."""
    red, green, blue = hls_to_rgb(sha256(label.encode()).digest()[0] / 255, 0.4, 0.7)
    return int(red * 255), int(green * 255), int(blue * 255)
