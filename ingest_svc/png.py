"""The outside of a PNG file: its size in pixels, its end. No pixel is decoded."""

import zlib

from ingest_svc.content import Content
from ingest_svc.jpeg import Broken, Cut

IEND = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
HEADER = b"\x00\x00\x00\x0dIHDR"
HEADER_END = 33
LONGEST_SIDE = 2**31 - 1


def size(content: Content) -> tuple[int, int, bool]:
    """(width, height, whether the end is there). Raises Cut where the file ends in its header, or Broken."""
    if content[8:16] != HEADER[: len(content[8:16])]:
        raise Broken("it does not begin with a header")
    if len(content) < HEADER_END:
        raise Cut
    if zlib.crc32(content[12:29]) != int.from_bytes(content[29:33], "big"):
        raise Broken("its header is damaged")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if not 0 < width <= LONGEST_SIDE or not 0 < height <= LONGEST_SIDE:
        raise Broken("a side of no pixels")
    return width, height, content.rfind(IEND, HEADER_END) >= 0
