"""Files of packages of the npm registry, pinned by sha256. They need `npm` on the PATH."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from mesh.artifacts import sha256_of
from tests.support.parts import CACHE

FETCH_SECONDS = 300


def npm_package(name: str, version: str, sha256: str) -> Path:
    """The folder of a package's files, without its dependencies. Blocks while it is fetched, the first time.
    Skips the test on a machine without npm, and says what is not checked."""
    target = CACHE / "npm" / sha256
    if not target.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip(f"{name} is not checked: there is no npm on the PATH to fetch its package with")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch.") as scratch:
            command = [npm, "pack", "--silent", "--ignore-scripts", f"{name}@{version}"]
            subprocess.run(command, cwd=scratch, check=True, timeout=FETCH_SECONDS, stdout=subprocess.DEVNULL)
            (archive,) = Path(scratch).glob("*.tgz")
            assert sha256_of(archive) == sha256, f"{name}@{version} is not the pinned package"
            with tarfile.open(archive) as members:
                members.extractall(scratch, filter="data")
            try:
                (Path(scratch) / "package").rename(target)
            except OSError:
                assert target.exists()  # another process was faster
    return target


def npm_program(folder: Path, name: str) -> list[str]:
    """The command line of a program that `package-lock.json` in `folder` pins with all it needs. Skips
    the test as `npm_package` does."""
    lock = (folder / "package-lock.json").read_bytes()
    target = CACHE / "npm" / hashlib.sha256(lock).hexdigest()
    if not target.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip(f"{name} is not run: there is no npm on the PATH to fetch it with")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix="fetch.", ignore_cleanup_errors=True
        ) as scratch:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(folder / file, scratch)
            command = [npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=scratch, check=True, timeout=FETCH_SECONDS)
            try:
                Path(scratch).rename(target)
            except OSError:
                assert target.exists()  # another process was faster
    return ["node", str(target / "node_modules" / ".bin" / name)]
