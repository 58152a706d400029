"""Draws what was found onto a small copy of a photo. Runs in a sandbox: it reads foreign bytes."""

import io
import warnings
from colorsys import hls_to_rgb
from hashlib import sha256

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mesh.processes.sandbox_child import InputRefused

# Part of every thumbnail's name: raise it when thumbnails come to look otherwise.
VERSION = 1
PIXELS = 640
QUALITY = 82
LINE = 3
FONT = 14

# Label, score in 0..1, then [x_min, y_min, x_max, y_max] in 0..1 of the upright photo.
Box = tuple[str, float, float, float, float, float]

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


def draw(path: str, boxes: list[Box], most_pixels: int) -> bytes:
    """The photo at `path` as a JPEG of at most 640 pixels either way, upright. Raises Refused: BLOB_NOT_FOUND
    where there is none, NOT_DRAWABLE for what cannot be read."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = most_pixels
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as photo:
            photo.draft("RGB", (2 * PIXELS, 2 * PIXELS))
            small = ImageOps.exif_transpose(photo).convert("RGB")
    except FileNotFoundError:
        raise InputRefused("this media's content is gone", "BLOB_NOT_FOUND") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputRefused("this photo cannot be drawn", "NOT_DRAWABLE") from None
    small.thumbnail((PIXELS, PIXELS))
    pen = ImageDraw.Draw(small)
    font = ImageFont.load_default(FONT)
    # The best last, on top.
    for box in sorted(boxes, key=lambda box: box[1]):
        _draw_box(pen, font, box, small.size)
    written = io.BytesIO()
    small.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def _draw_box(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    box: Box,
    size: tuple[int, int],
) -> None:
    label, score, *edges = box
    width, height = size
    x_min, y_min, x_max, y_max = (
        min(max(edge, 0.0), 1.0) * (side - 1) for edge, side in zip(edges, (width, height) * 2, strict=True)
    )
    colour = COLOURS.get(label) or _other_colour(label)
    pen.rectangle((x_min, y_min, max(x_min, x_max), max(y_min, y_max)), outline=colour, width=LINE)
    text = f"{label} {score:.0%}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    tall, wide = bottom - top + 6, right - left + 8
    # Above the box where there is room, else inside it; never beyond the right edge.
    y = y_min - tall if y_min >= tall else y_min
    x = max(0.0, min(x_min, width - wide))
    pen.rectangle((x, y, x + wide, y + tall), fill=colour)
    pen.text((x + 4 - left, y + 3 - top), text, fill="white", font=font)


def _other_colour(label: str) -> tuple[int, int, int]:
    red, green, blue = hls_to_rgb(sha256(label.encode()).digest()[0] / 255, 0.4, 0.7)
    return int(red * 255), int(green * 255), int(blue * 255)
