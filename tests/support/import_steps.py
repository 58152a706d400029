"""Imports the photos of a home in a process that gets a signal before a given step.

A step is whatever changes a disk or announces photos. The program reads an order from each line of standard
input and forks for it: `HOME keep 3 9` imports all photos of that home, with `keep` for their originals, and
sends itself signal 9 before the fourth step. It prints the exit status.

What was done is in the file `steps` of the home, a line each, in its order: `started`, `written INODE`,
`flushed INODE`, `renamed INODE NAME`, `folder-flushed INODE`, `removed NAME` and `announced SHA256
FINGERPRINT`.
"""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opentelemetry.trace import Span

from ingest_svc.fingerprint import Fingerprint
from mesh.blobs import SpooledFile
from mesh.topics import M, Topic
from tests.support.ingest_harness import FakeBus, IngestHarness
from tests.support.waiting import until


class Steps:
    """Sends `signal` before a step, after `before` others."""

    def __init__(self, home: Path, before: int, signal: int) -> None:
        self._file = os.open(home / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._before, self._signal, self._taken = before, signal, list[None]()
        self.add("started")

    def begin(self) -> None:
        self._taken.append(None)
        if len(self._taken) == self._before + 1:
            os.kill(os.getpid(), self._signal)

    def add(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())

    def spy(self, owner: Any, name: str, line: Callable[..., str]) -> None:
        """Makes each call of a function a step; `line` gets its arguments afterwards."""
        function = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.begin()
            result = function(*arguments, **options)
            self.add(line(*arguments, **options))
            return result

        setattr(owner, name, call)


class RecordedBus(FakeBus):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    async def publish(self, topic: Topic[M], *messages: M, parents: Sequence[Span] = ()) -> None:
        self._steps.begin()
        first = len(self.media)
        await super().publish(topic, *messages, parents=parents)
        self._steps.add(*(f"announced {media.sha256} {_fingerprint(media)}" for media in self.media[first:]))
        self._steps.begin()


def _flushed(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return f"{'folder-' if stat.S_ISDIR(status.st_mode) else ''}flushed {status.st_ino}"


def _renamed(_: str, there: str, dst_dir_fd: int | None = None, **__: Any) -> str:
    return f"renamed {os.stat(there, dir_fd=dst_dir_fd).st_ino} {Path(there).name}"


def _fingerprint(media: Any) -> str:
    file = media.file
    return json.dumps(
        asdict(Fingerprint(file.path, file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode))
    )


def announced(home: Path) -> list[tuple[Fingerprint, str]]:
    """The files of a home that were announced, in order, with the names of their blobs."""
    lines = [line.split(maxsplit=2) for line in (home / "steps").read_text().splitlines()]
    return [(Fingerprint(**json.loads(line[2])), line[1]) for line in lines if line[0] == "announced"]


async def import_all(home: Path, originals: str, before: int, signal: int) -> None:
    steps = Steps(home, before, signal)
    steps.spy(SpooledFile, "_append", lambda _, file, piece: f"written {os.fstat(file.fileno()).st_ino}")
    steps.spy(os, "fsync", _flushed)
    steps.spy(os, "rename", _renamed)
    steps.spy(os, "unlink", lambda path, **_: f"removed {Path(path).name}")
    harness = IngestHarness(home)
    harness.settings = {"ingest_originals": originals, "ingest_settle_seconds": 0.05}
    harness.bus = RecordedBus(steps)
    harness.known_files.files |= {file for file, _ in announced(home)}
    async with harness.running():
        await until(lambda: harness.idle)


def main() -> None:
    for line in sys.stdin:
        home, originals, before, signal = line.split()
        process = os.fork()
        if not process:
            os.dup2(2, 1)  # the log
            asyncio.run(import_all(Path(home), originals, int(before), int(signal)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
