"""Photos of one scene as cameras and programs write them: with odd metadata, with flaws, and cut.

The scene is 640 x 400 pixels, grey, with one bright thing in its upper right.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from tests.support.image_files import chunk, segment, with_chunks, with_segments

WIDTH, HEIGHT = 640, 400
# The edges of the thing: x_min, y_min, x_max, y_max in 0..1 of the upright photo.
THING = (0.6, 0.1, 0.85, 0.4)
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
EXIF, XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
SHORT, LONG = 3, 4


@dataclass(frozen=True)
class Variant:
    """`damaged`: pixels are missing or wrong somewhere, so that only the size is certain."""

    name: str
    content: bytes
    damaged: bool = False


@cache
def scene() -> Image.Image:
    pixels = np.random.default_rng(3).integers(50, 80, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    x_min, y_min, x_max, y_max = THING
    pixels[round(y_min * HEIGHT) : round(y_max * HEIGHT), round(x_min * WIDTH) : round(x_max * WIDTH)] = 235
    return Image.fromarray(pixels)


@cache
def photo(turn: int = 1, form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """The scene as it is stored by a camera that is turned, without metadata."""
    image = scene().convert(mode) if mode != "I;16" else _sixteen_bits()
    buffer = io.BytesIO()
    (image if turn == 1 else image.transpose(STORED[turn])).save(buffer, form, **options)
    return buffer.getvalue()


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(np.asarray(scene().convert("L")).astype(np.uint16) * 257)


def exif(value: int, type: int = SHORT, order: str = "<", before: bytes = b"", count: int = 1) -> bytes:
    """A TIFF structure with an orientation; `before` is another entry in front of it."""
    form = {1: "B3x", 2: "B3x", SHORT: "H2x", LONG: "I", 6: "b3x", 8: "h2x", 9: "i"}
    start = b"II*\x00" if order == "<" else b"MM\x00*"
    entries = 1 + bool(before)
    end = 8 + 2 + 12 * entries + 4
    if type in (5, 10):
        data, outside = struct.pack(order + "I", end), struct.pack(order + "II", 2 * value, 2)
    elif count > 1:
        data, outside = struct.pack(order + "I", end), struct.pack(order + f"{count}H", *[value] * count)
    else:
        data, outside = struct.pack(order + form[type], value), b""
    entry = struct.pack(order + "HHI", 0x0112, type, count) + data
    return start + struct.pack(order + "IH", 8, entries) + before + entry + bytes(4) + outside


def entry(tag: int, type: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, type, count, value)


def jpeg(turn: int, *segments: tuple[int, bytes]) -> bytes:
    return with_segments(photo(turn), *segments)


def png(turn: int, *chunks: tuple[bytes, bytes]) -> bytes:
    return with_chunks(photo(turn, "PNG"), *chunks)


def xmp(value: int, element: bool = False) -> bytes:
    inner = f"<tiff:Orientation>{value}</tiff:Orientation>" if element else f'tiff:Orientation="{value}"'
    return f"<x:xmpmeta><rdf:Description {inner}/></x:xmpmeta>".encode()


def jpeg_metadata() -> Iterator[Variant]:
    """JPEGs with metadata; each is upright when its orientation is applied as Pillow does."""
    for turn in range(1, 9):
        for order, word in (("<", "little"), (">", "big")):
            for type, number in ((SHORT, "short"), (LONG, "long")):
                content = jpeg(turn, (0xE1, EXIF + exif(turn, type, order)))
                yield Variant(f"orientation {turn}, {word}-endian {number}", content)
    plain = (0xE1, EXIF + exif(6))
    for name, segments in {
        "an empty Exif segment first": [(0xE1, EXIF), plain],
        "Exif in two segments": [(0xE1, EXIF + exif(6)[:15]), (0xE1, EXIF + exif(6)[15:])],
        "Exif with its name twice": [(0xE1, EXIF + EXIF + exif(6))],
        "a second Exif": [plain, (0xE1, EXIF + exif(3))],
        "XMP only": [(0xE1, XMP + xmp(6))],
        "XMP only, as an element": [(0xE1, XMP + xmp(6, element=True))],
        "XMP that says otherwise": [(0xE1, XMP + xmp(3)), plain],
        "two XMP": [(0xE1, XMP + xmp(3)), (0xE1, XMP + xmp(6))],
        "XMP that is no text": [(0xE1, XMP + b"\xff\xfe\x00" * 50), plain],
        "Exif behind 320 KiB": [(0xE2, b"MPF\x00" + bytes(65_000))] * 5 + [plain],
        "Exif behind comments": [(0xFE, b"camera 1")] * 40 + [plain],
        "a rational": [(0xE1, EXIF + exif(6, 5))],
        "a signed byte": [(0xE1, EXIF + exif(6, 6))],
        "three values": [(0xE1, EXIF + exif(6, count=3))],
        "an invalid header of TIFF": [(0xE1, EXIF + b"II\x00*" + exif(6)[4:])],
        "an entry of no known type first": [(0xE1, EXIF + exif(6, before=entry(0x10F, 99, 1, 0)))],
        "an entry that is too large first": [(0xE1, EXIF + exif(6, before=entry(0x10F, 2, 2**31, 0)))],
        "a bad ICC profile": [(0xE2, b"ICC_PROFILE\x00\x05\x02abc"), plain],
        "an ICC profile twice": [(0xE2, b"ICC_PROFILE\x00\x01\x01abc")] * 2 + [plain],
        "a bad Photoshop block": [(0xED, b"Photoshop 3.0\x008BIM\x03\xed\x00"), plain],
        "a bad MPF index": [(0xE2, b"MPF\x00II*\x00\xff\xff\xff\x7f"), plain],
        "a short Adobe segment": [(0xEE, b"Adobe\x00\x64"), plain],
        "an empty JFXX": [(0xE0, b"JFXX\x00\x10"), plain],
    }.items():
        yield Variant(name, jpeg(6, *segments))
    turned = photo(6)
    tail = segment(*plain) + turned[20:]
    yield Variant("fill bytes before Exif", turned[:20] + b"\xff" * 7 + tail)
    yield Variant("5,000 fill bytes before Exif", turned[:20] + b"\xff" * 5000 + tail)
    yield Variant("stray bytes before Exif", turned[:20] + b"\x00\x00\r\n" + tail)
    yield Variant("Exif first, then JFIF", turned[:2] + segment(*plain) + turned[2:])
    yield Variant("Exif without JFIF", turned[:2] + tail)
    scan = turned.index(b"\xff\xda")
    yield Variant("Exif right before the pixels", turned[:scan] + segment(*plain) + turned[scan:])
    for name, segments in {
        "no orientation that exists": [(0xE1, EXIF + exif(9))],
        "orientation 0 and XMP": [(0xE1, EXIF + exif(0)), (0xE1, XMP + xmp(6))],
        "a byte": [(0xE1, EXIF + exif(6, 1))],
        "a text": [(0xE1, EXIF + exif(ord("6"), 2))],
        "a rational of nothing": [(0xE1, EXIF + exif(6, 5)[:-4] + bytes(4))],
        "an entry outside the data first": [(0xE1, EXIF + exif(6, before=entry(0x10F, 2, 20, 9999)))],
        "Exif that is no TIFF": [(0xE1, EXIF + b"\xde\xad\xbe\xef" * 20)],
        "Exif of 5 bytes": [(0xE1, EXIF + b"II*\x00\x08")],
        "a directory outside the data": [(0xE1, EXIF + b"MM\x00*\xff\xff\xff\xff")],
        "a directory that is cut": [(0xE1, EXIF + exif(6)[:20])],
        "60,000 entries": [(0xE1, EXIF + b"II*\x00\x08\x00\x00\x00\x60\xea" + b"\x0f\x01\x02\x00" * 9000)],
        "XMP with orientation 9": [(0xE1, XMP + xmp(9))],
        "XMP that ends early": [(0xE1, XMP + b"<x:xmpmeta tiff:Orientation=")],
        "an empty APP1": [(0xE1, b"")],
    }.items():
        yield Variant(name, jpeg(1, *segments))


def png_metadata() -> Iterator[Variant]:
    for turn in range(1, 9):
        for order, word in (("<", "little"), (">", "big")):
            content = png(turn, (b"eXIf", exif(turn, SHORT if turn % 2 else LONG, order)))
            yield Variant(f"orientation {turn}, {word}-endian", content)
    lines = (EXIF + exif(6)).hex().encode()
    profile = b"Raw profile type exif\x00"
    text = b"\nexif\n%8d\n%s\n%s\n" % (len(lines) // 2, lines[:36], lines[36:])
    name = b"XML:com.adobe.xmp\x00"
    plain = (b"eXIf", exif(6))
    for title, chunks in {
        "Exif with its name": [(b"eXIf", EXIF + exif(6))],
        "a second Exif": [(b"eXIf", exif(3)), plain],
        "Exif as text": [(b"tEXt", profile + text)],
        "Exif as compressed text": [(b"zTXt", profile + b"\x00" + zlib.compress(text))],
        "XMP only": [(b"iTXt", name + bytes(4) + xmp(6))],
        "compressed XMP": [(b"iTXt", name + b"\x01\x00\x00\x00" + zlib.compress(xmp(6)))],
        "XMP that says otherwise": [(b"iTXt", name + bytes(4) + xmp(3)), plain],
        "a bad ICC profile": [(b"iCCP", b"icc\x00\x00no profile"), plain],
        "an ICC profile of no method": [(b"iCCP", b"icc\x00\x05"), plain],
        "a compressed text that is none": [(b"zTXt", b"a\x00\x00nothing"), plain],
        "a compressed text of no method": [(b"zTXt", b"a\x00\x07" + zlib.compress(b"x")), plain],
        "a text that fills the memory": [(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(2**26))), plain],
        "a text without a name": [(b"tEXt", b"\xff" * 40), plain],
        "a text that is no UTF-8": [(b"iTXt", b"a" + bytes(5) + b"\xff\xfe"), plain],
        "a bad animation": [(b"acTL", b"\x00"), (b"fcTL", b"\x01"), plain],
        "a short resolution": [(b"pHYs", b"\x00"), plain],
        "a short gamma": [(b"gAMA", b"\x00"), plain],
        "a bad time": [(b"tIME", b"\xff" * 7), plain],
        "a bad transparency": [(b"tRNS", b"\x00"), plain],
        "chunks of no known kind": [(b"caNv", bytes(16)), (b"prVt", b"x"), plain],
    }.items():
        yield Variant(title, png(6, *chunks))
    turned = photo(6, "PNG")
    yield Variant("Exif after the pixels", turned[:-12] + chunk(*plain) + turned[-12:])
    wrong = chunk(*plain)[:-1] + b"\x00"
    yield Variant("Exif with a wrong checksum", turned[:33] + wrong + turned[33:])
    yield Variant("Exif that is no TIFF", png(1, (b"eXIf", b"\xde\xad\xbe\xef" * 20)))
    yield Variant("empty Exif", png(1, (b"eXIf", b"")))
    yield Variant("an Exif text that is none", png(1, (b"tEXt", profile + b"\nexif\n 12\nno digits")))


def formats() -> Iterator[Variant]:
    """Sound files of every kind."""
    yield Variant("JPEG", photo())
    yield Variant("JPEG, progressive", photo(progressive=True))
    yield Variant("JPEG, restart markers", photo(restart_marker_rows=1))
    yield Variant("JPEG, 4:4:4", photo(subsampling=0))
    yield Variant("JPEG, grey", photo(mode="L"))
    yield Variant("JPEG, CMYK", photo(mode="CMYK"))
    for across, down in ((3, 1), (1, 3), (1, 4), (4, 2)):
        yield Variant(f"JPEG, {across} x {down} blocks to a colour", unusual_sampling(across, down))
    for mode in ("RGB", "RGBA", "L", "LA", "P", "I;16"):
        yield Variant(f"PNG, {mode}", photo(form="PNG", mode=mode))
    yield Variant("PNG, I;16, turned", with_chunks(photo(6, "PNG", "I;16"), (b"eXIf", exif(6))))


def unusual_sampling(across: int, down: int) -> bytes:
    """The scene as a mosaic, encoded here: `across` x `down` blocks of brightness for one of each colour."""
    head = bytearray(photo(subsampling=0))
    head[head.index(b"\xff\xc0") + 11] = 16 * across + down
    scan = head.index(b"\xff\xda")
    scan += 2 + int.from_bytes(head[scan + 2 : scan + 4], "big")
    step = head[head.index(b"\xff\xdb") + 5]  # of the quantisation
    blocks = np.asarray(scene().convert("L")).reshape(HEIGHT // 8, 8, WIDTH // 8, 8).mean(axis=(1, 3))
    rows, columns = blocks.shape
    blocks = np.pad(blocks, ((0, -rows % down), (0, -columns % across)), mode="edge")
    bits, previous = "", 0
    for top in range(0, rows, down):
        for left in range(0, columns, across):
            for level in blocks[top : top + down, left : left + across].flat:
                value = round(8 * (level - 128) / step)
                bits += _difference(value - previous) + "1010"
                previous = value
            bits += "0000" * 2  # no colour
    bits += "1" * (-len(bits) % 8)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return bytes(head[:scan]) + pixels + b"\xff\xd9"


def _difference(value: int) -> str:
    """The bits of a difference of brightness, by the standard's table: its length, then the number."""
    codes = ["00", "010", "011", "100", "101", "110", "1110", "11110", "111110", "1111110", "11111110"]
    length = abs(value).bit_length()
    number = value if value > 0 else value + 2**length - 1
    return codes[length] + (f"{number:0{length}b}" if length else "")


def jpeg_flaws() -> Iterator[Variant]:
    """JPEGs that are not quite valid, and that Pillow opens to the last row."""
    for kind, content in {
        "baseline": photo(),
        "progressive": photo(progressive=True),
        "restarts": photo(restart_marker_rows=1),
    }.items():
        scan = content.index(b"\xff\xda")
        for name, flawed in {
            "4 stray bytes before the end": content[:-2] + b"\x00\x01\x02\x03" + content[-2:],
            "900 stray bytes before the end": content[:-2] + b"\x55" * 900 + content[-2:],
            "stray bytes between segments": content[:20] + b"\x00\x00\x00" + content[20:],
            "an escaped byte between segments": content[:20] + b"\xff\x00" + content[20:],
            "70,000 stray bytes between segments": content[:20] + bytes(70_000) + content[20:],
            "stray bytes before the pixels": content[:scan] + b"\x00ab" + content[scan:],
            "a restart marker in the header": content[:20] + b"\xff\xd0" + content[20:],
            "a segment of length 1": content[:20] + b"\xff\xe5\x00\x01" + content[20:],
            "a segment of length 0": content[:20] + b"\xff\xfe\x00\x00" + content[20:],
            "JFIF 2.1": content.replace(b"JFIF\x00\x01", b"JFIF\x00\x02", 1),
            "JFIF 0.9": content.replace(b"JFIF\x00\x01\x01", b"JFIF\x00\x00\x09", 1),
            "a bad ICC marker": with_segments(content, (0xE2, b"ICC_PROFILE\x00\x05\x02abc")),
            "an unknown colour transform": content[:2]
            + segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\x05")
            + content[20:],
            "zeros after the end": content + bytes(5000),
            "text after the end": content + b"what a camera appends" * 50,
            "a preview after the end": content + photo(),
            "a marker that begins after the end": content + b"\xff",
        }.items():
            yield Variant(f"{kind}: {name}", flawed)
        for size in (4, 16, 500, 4096):
            yield Variant(f"{kind}: {size} zeros for the end", content[:-2] + bytes(size))
    restarts = photo(restart_marker_rows=1)
    third = restarts.index(b"\xff\xd3")
    yield Variant("stray bytes before a restart", restarts[:third] + bytes(7) + restarts[third:])
    yield Variant("a wrong restart", restarts[:third] + b"\xff\xd6" + restarts[third + 2 :], damaged=True)
    yield Variant("a missing restart", restarts[:third] + restarts[third + 2 :], damaged=True)
    scan = photo().index(b"\xff\xda")
    length = int.from_bytes(photo()[scan + 2 : scan + 4], "big")
    spectral = bytearray(photo())
    spectral[scan + length] = 0
    yield Variant("a scan that omits its last coefficient", bytes(spectral))
    content = photo()
    middle = len(content) // 2
    yield Variant("a hole", content[:middle] + bytes(300) + content[middle + 300 :], damaged=True)


def png_flaws() -> Iterator[Variant]:
    content = photo(form="PNG")
    yield Variant("zeros after the end", content + bytes(5000))
    yield Variant("text after the end", content + b"what a camera appends" * 50)
    yield Variant("a wrong checksum of the end", content[:-1] + b"\x00")
    text = chunk(b"tEXt", b"a\x00b")
    yield Variant("a wrong checksum of a text", content[:33] + text[:-1] + b"\x00" + content[33:])


def cut() -> Iterator[Variant]:
    """Files whose pixels end too early, some with zeros in place of the rest."""
    for kind, content in {
        "baseline": photo(),
        "progressive": photo(progressive=True),
        "restarts": photo(restart_marker_rows=1),
        "PNG": photo(form="PNG"),
        "flawed": with_segments(photo(), (0xE2, b"ICC_PROFILE\x00\x05\x02abc")),
    }.items():
        for kept in (0.01, 0.5, 0.9, 0.99):
            part = content[: int(len(content) * kept)]
            yield Variant(f"{kind}: {kept:.0%}", part)
            if kept >= 0.5:
                yield Variant(f"{kind}: {kept:.0%} and 512 zeros", part + bytes(512))
                yield Variant(f"{kind}: {kept:.0%} and 20,000 zeros", part + bytes(20_000))
        yield Variant(f"{kind}: without the last 2 bytes", content[:-2])
        yield Variant(f"{kind}: without the last 3 bytes", content[:-3])
