"""Renders a thumbnail: a small copy of a photo with a box around every detection. Runs in a sandbox's child
only."""

from mesh.boxes import LabelledBox
from mesh.photo_decoding import decode, read_content
from mesh.picture_drawing import drawn, jpeg
from mesh.processes.sandbox_child import InputRefused

MAX_SIDE = 640
# A JPEG is decoded to this or more, so that it is still sharp when it has been scaled down to the rest.
DECODED_SIDE = 2 * MAX_SIDE
JPEG_QUALITY = 82


def render(picture: str | bytes, boxes: list[LabelledBox], max_pixels: int) -> bytes:
    """Returns the picture, which is content or a path, upright, as a JPEG of at most 640 pixels in width and
    height. Raises InputRefused: BLOB_NOT_FOUND if there is no such file, NOT_DRAWABLE if it cannot be decoded
    or has more than `max_pixels`."""
    content = read_content(picture)
    try:
        pixels = decode(content, DECODED_SIDE, max_pixels).pixels
    except InputRefused:
        raise InputRefused("this photo cannot be decoded", "NOT_DRAWABLE") from None
    return jpeg(drawn(pixels, MAX_SIDE, boxes), JPEG_QUALITY)
