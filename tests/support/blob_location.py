"""Blobs in a location of their own, for tests that must pass wherever blobs are stored."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.blobs import Blob, Blobs, open_blobs
from mesh.config import Config, load_config

ROOT = Path(__file__).parents[2]
CONTENT = os.urandom(700_000)  # several buffers
# S3 reports times in whole seconds; two puts with this pause have different times.
APART_SECONDS = 2.2


@dataclass(frozen=True)
class BlobLocation:
    """Where blobs are stored: the `settings` of a process that uses it, and its `spool` on the local disk."""

    settings: dict[str, str]
    spool: Path

    @property
    def config(self) -> Config:
        return load_config(**{name.removeprefix("LARES_").lower(): v for name, v in self.settings.items()})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blobs]:
        """Opens the blobs as another process would."""
        blobs = await open_blobs(self.config)
        await blobs.prepare()
        try:
            yield blobs
        finally:
            blobs.close()

    @asynccontextmanager
    async def steps(self) -> AsyncIterator["Steps"]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LARES_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.blob_steps"),
            cwd=ROOT,
            env=environment | self.settings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/proto/gen"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Steps(process)
        finally:
            process.kill()
            await process.wait()


class Steps:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, operation: str, what: str, before: int, sent: signal.Signals) -> int:
        """Starts an operation that gets signal `sent` after `before` steps. Returns the process id."""
        assert self._process.stdin
        self._process.stdin.write(f"{operation} {what} {before} {int(sent)}\n".encode())
        return int(await self.answer())

    async def answer(self) -> str:
        assert self._process.stdout
        return (await asyncio.wait_for(self._process.stdout.readline(), 90)).decode().strip()


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.sha256(content).hexdigest(), len(content))


async def names(blobs: Blobs) -> list[str]:
    return sorted([name async for name in blobs.list()])
