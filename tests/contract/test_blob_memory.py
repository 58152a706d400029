"""The memory that a process needs to put and to read a large blob."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.blob_location import CONTENT, ROOT, BlobLocation

# 4 GiB through an S3 server on this machine would take minutes.
MEMORY_BYTES = {"file": 4 * 2**30, "s3": int(os.environ.get("BLOB_TEST_S3_BYTES", 2**28 + 1))}

PEAK = """
import asyncio, sys
from pathlib import Path
from mesh.blobs import open_blobs
from mesh.config import load_config

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

async def put(blobs, path):
    return (await blobs.put(Path(path))).sha256

async def get(blobs, name):
    async for _ in blobs.open_range(name, 0, await blobs.size(name)):
        pass
    async with blobs.local(name):
        pass

async def main(small, what):
    blobs = await open_blobs(load_config())
    name = await put(blobs, small)
    await get(blobs, name)
    before = peak()
    print(await put(blobs, what) if what.startswith("/") else await get(blobs, what))
    print(peak() - before)
    blobs.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak")
async def test_memory_does_not_grow_with_the_blob(location: BlobLocation, tmp_path: Path) -> None:
    """Uploads to S3 have parts of 5 MiB, and two of them are in memory."""
    kind = location.settings["LARES_BLOBS_URL"].partition(":")[0]
    size, most = MEMORY_BYTES[kind], {"file": 4 * 2**20, "s3": 24 * 2**20}[kind]
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(CONTENT)
    with large.open("wb") as file:
        file.truncate(size)  # a sparse file

    async def peak(what: str, cache: str) -> tuple[str, int]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
        paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen", "LARES_CACHE": str(tmp_path / cache)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PEAK, str(small), what),
            cwd=ROOT,
            env=environment | location.settings | paths,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate()
        assert process.returncode == 0
        name, grown = answer.decode().split()
        return name, int(grown)

    name, grown = await peak(str(large), "cache")
    assert grown <= most
    _, grown = await peak(name, "another cache")
    assert grown <= most
    async with location.open() as blobs:
        assert await blobs.size(name) == size
        await blobs.delete(name, older_than=datetime.now(UTC))  # pytest keeps its folders
