"""Renders a thumbnail: a small copy of a photo with a box around every detection. Runs in a sandbox's child
only."""

import io
from colorsys import hls_to_rgb
from hashlib import sha256

from PIL import Image, ImageDraw, ImageFont

from gateway.http.thumbnail_cache import LabelledBox
from mesh.photo_decoding import decode, read_content
from mesh.processes.sandbox_child import InputRefused

MAX_SIDE = 640
# A JPEG is decoded to this or more, so that it is still sharp when it has been scaled down to the rest.
DECODED_SIDE = 2 * MAX_SIDE
JPEG_QUALITY = 82
LINE_WIDTH = 3
FONT_SIZE = 14

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


def render(path: str, boxes: list[LabelledBox], max_pixels: int) -> bytes:
    """Returns the photo at `path`, upright, as a JPEG of at most 640 pixels in width and height. Raises
    InputRefused: BLOB_NOT_FOUND if there is no such file, NOT_DRAWABLE if it cannot be decoded or has more
    than `max_pixels`."""
    content = read_content(path)
    try:
        pixels = decode(content, DECODED_SIDE, max_pixels).pixels
    except InputRefused:
        raise InputRefused("this photo cannot be decoded", "NOT_DRAWABLE") from None
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((MAX_SIDE, MAX_SIDE))
    canvas = ImageDraw.Draw(thumbnail)
    font = ImageFont.load_default(FONT_SIZE)
    # In order of score, so that the best detection is on top.
    for box in sorted(boxes, key=lambda box: box[1]):
        _draw_box(canvas, font, box, thumbnail.size)
    encoded = io.BytesIO()
    thumbnail.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


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
