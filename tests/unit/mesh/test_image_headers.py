"""Headers of JPEG and PNG files. tests/unit/ingest_svc/test_inspection.py covers sizes."""

import pytest
import simplejpeg

from mesh.image_headers import WINDOW_BYTES, FileBytes, ImageFormat, bare_jpeg, image_format
from tests.support.image_files import jpeg, png
from tests.support.photo_variants import jpeg_flaws, jpeg_metadata


def test_the_format_is_told_by_the_signature() -> None:
    assert image_format(jpeg()) is ImageFormat.JPEG
    assert image_format(png()) is ImageFormat.PNG
    assert image_format(b"GIF89a") is None
    assert image_format(b"") is None


@pytest.mark.parametrize("position", [0, 10, WINDOW_BYTES - 1, WINDOW_BYTES, 2 * WINDOW_BYTES + 7])
def test_bytes_of_a_file_are_searched_across_windows(position: int) -> None:
    content = bytes(position) + b"\xff\xd9" + bytes(3 * WINDOW_BYTES)
    file = FileBytes(lambda start, length: content[start : start + length], len(content))
    assert len(file) == len(content)
    assert file.rfind(b"\xff\xd9", 0) == position
    assert file.rfind(b"\xff\xd9", position + 1) == -1
    assert file[position : position + 2] == b"\xff\xd9"
    assert file[len(content) - 1 : len(content) + 10] == content[-1:]


HEADER_FLAWS = {
    each.name: each.content
    for each in [*jpeg_metadata(), *jpeg_flaws()]
    if "ICC" in each.name or "JFIF" in each.name or "segment" in each.name or "header" in each.name
}


@pytest.mark.parametrize("name", HEADER_FLAWS)
def test_a_bare_jpeg_has_the_same_pixels_and_nothing_to_warn_about(name: str) -> None:
    content = HEADER_FLAWS[name]
    bare = bare_jpeg(content)
    assert b"Exif" not in bare
    height, width, *_ = simplejpeg.decode_jpeg_header(content, strict=False)
    assert simplejpeg.decode_jpeg(bare, strict=True).shape == (height, width, 3)
    assert bare_jpeg(bare) == bare
