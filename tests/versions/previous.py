"""The code of the version before, packed in `tests/fixtures`, so that a clone without history can run it.

`python -m tests.versions.previous` packs it anew from COMMIT. With a new version, COMMIT becomes the one
before, and the file is named for the newest revision of the schema that it knows.
"""

import lzma
import os
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMIT = "8752c29"
REVISION = "0018"
PACKED = ROOT / "tests" / "fixtures" / f"version-{REVISION}.tar.xz"
# What a store and a reasoner run.
PARTS = ("deploy", "mesh", "store_svc", "reason_svc", "proto/gen", "LICENSE")
NOT_RUN = ":(exclude)proto/gen/**/*.pyi"


def pack() -> None:
    """Raises CalledProcessError if this clone does not have the commit."""
    command = ["git", "archive", COMMIT, *PARTS, NOT_RUN]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    PACKED.write_bytes(lzma.compress(archive.stdout, preset=9 | lzma.PRESET_EXTREME))


def unpack(folder: Path) -> Path:
    """Writes the code into a new folder, and returns that."""
    folder.mkdir()
    with tarfile.open(PACKED) as archive:
        archive.extractall(folder, filter="data")
    return folder


def code_of(tree: Path) -> dict[str, str]:
    """The environment variable with which Python imports the code of this tree."""
    return {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "proto" / "gen")])}


if __name__ == "__main__":
    pack()
