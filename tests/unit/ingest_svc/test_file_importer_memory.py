"""How much of a photo is in memory while it is imported, measured in a process of its own."""

import asyncio
import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.image_files import jpeg, png

ROOT = Path(__file__).parents[3]
LARGE_BYTES, MOST_BYTES = 64 * 2**20, 4 * 2**20

PEAK = """
import asyncio, sys
from contextlib import closing
from datetime import UTC
from pathlib import Path

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import fingerprint
from ingest_svc.formats.inspection import PhotoLimits
from ingest_svc.file_importer import FileImporter
from ingest_svc.facts import SourceCamera, Photo
from ingest_svc.restless_files import RestlessFiles
from ingest_svc.storage_state import StorageState
from ingest_svc.thread_pool import ThreadPool
from mesh.blobs import FileBlobs

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

async def main(root, media, most, *paths):
    blobs = FileBlobs(Path(media))
    with closing(ThreadPool("reads", 1)) as reads, closing(ThreadPool("looks", 1)) as looks:
        limits = PhotoLimits(int(most), 10**9)
        root = CamerasRoot(Path(root))
        restless = RestlessFiles(root, reads, reads)
        importer = FileImporter(root, blobs, limits, StorageState(), reads, looks, restless)
        for path in paths:
            before = peak()
            photo = await importer.run(fingerprint(root, path), SourceCamera("door", "door", UTC))
            assert isinstance(photo, Photo), photo
            print(photo.sha256, photo.size, peak() - before)
    blobs.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("small", [jpeg("small"), png()], ids=["jpeg", "png"])
async def test_memory_does_not_grow_with_the_photo(tmp_path: Path, small: bytes) -> None:
    """The end marker is near the beginning of the large file, as if a camera had appended a video, so that
    the search for it reads the whole file."""
    root, media = tmp_path / "cameras", tmp_path / "media"
    root.mkdir()
    media.mkdir()
    (root / "small").write_bytes(small)
    (root / "large").write_bytes(small)
    os.truncate(root / "large", LARGE_BYTES)  # sparse, so it needs no space before it is imported
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PEAK, str(root), str(media), str(LARGE_BYTES), "small", "large"),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    first, second = (line.split() for line in output.decode().splitlines())
    assert first[:2] == [sha256(small).hexdigest(), str(len(small))]
    name, size, grown = second
    assert int(size) == LARGE_BYTES
    assert int(grown) <= MOST_BYTES
    (media / name[:2] / name).unlink()  # because pytest keeps its folders
