"""How much of a photo or clip is in memory while it is imported, measured in a process of its own."""

import asyncio
import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.image_files import jpeg, png
from tests.support.small_clips import small_clip

ROOT = Path(__file__).parents[3]
LARGE_BYTES, LARGE_CLIP_BYTES, MOST_BYTES = 64 * 2**20, 300 * 2**20, 4 * 2**20

PEAK = """
import asyncio, sys
from contextlib import closing
from datetime import UTC, timedelta
from pathlib import Path

from ingest_svc.cameras_root import CamerasRoot
from ingest_svc.fingerprint import fingerprint
from ingest_svc.clip_probing import ClipProbe, probing_sandbox
from ingest_svc.formats.inspection import MediaLimits
from ingest_svc.file_importer import FileImporter
from ingest_svc.facts import SourceCamera, IngestedMedia
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
        limits = MediaLimits(int(most), 10**8, int(most), timedelta(hours=1), clips_installed=True)
        root = CamerasRoot(Path(root))
        restless = RestlessFiles(root, reads, reads)
        async with probing_sandbox() as sandbox:
            clips = ClipProbe(sandbox, limits)
            importer = FileImporter(root, blobs, limits, StorageState(), reads, reads, looks, restless, clips)
            await import_all(importer, root, paths)
    blobs.close()

async def import_all(importer, root, paths):
        for path in paths:
            before = peak()
            photo = await importer.run(fingerprint(root, path), SourceCamera("door", "door", UTC))
            assert isinstance(photo, IngestedMedia), photo
            print(photo.sha256, photo.size, peak() - before)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("small", [jpeg("small"), png()], ids=["jpeg", "png"])
async def test_memory_does_not_grow_with_the_photo(tmp_path: Path, small: bytes) -> None:
    """The end marker is near the beginning of the large file, as if a camera had appended a video, so that
    the search for it reads the whole file."""
    root = tmp_path / "cameras"
    root.mkdir()
    (root / "small").write_bytes(small)
    (root / "large").write_bytes(small)
    os.truncate(root / "large", LARGE_BYTES)  # sparse, so it needs no space before it is imported
    await memory_does_not_grow(tmp_path, small, LARGE_BYTES)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("kind", ["mp4, index first", "mkv"])
async def test_memory_does_not_grow_with_the_clip(tmp_path: Path, kind: str) -> None:
    """Most of the large clip is a part that players skip, and sparse."""
    root, small = tmp_path / "cameras", small_clip(kind)
    root.mkdir()
    (root / "small").write_bytes(small)
    rest = LARGE_CLIP_BYTES - len(small)
    part = rest.to_bytes(4, "big") + b"free" if "mp4" in kind else b"\xec\x01" + (rest - 9).to_bytes(7, "big")
    (root / "large").write_bytes(small + part)
    os.truncate(root / "large", LARGE_CLIP_BYTES)
    await memory_does_not_grow(tmp_path, small, LARGE_CLIP_BYTES)


async def memory_does_not_grow(folder: Path, small: bytes, large_bytes: int) -> None:
    root, media = folder / "cameras", folder / "media"
    media.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PEAK, str(root), str(media), str(large_bytes), "small", "large"),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    first, second = (line.split() for line in output.decode().splitlines())
    assert first[:2] == [sha256(small).hexdigest(), str(len(small))]
    name, size, grown = second
    assert int(size) == large_bytes
    assert int(grown) <= MOST_BYTES
    (media / name[:2] / name).unlink()  # because pytest keeps its folders
