"""Puts or deletes a blob in a process that is killed or stopped before a given step.

A step is whatever has an effect outside the process: a system call, or a request to the server. Of a step
that is repeated many times in a row, the first seven count. The program reads an order from each line of
standard input and forks for it: `put PATH 3 9` puts that file and sends signal 9 before the fourth step. It
prints the process id, and then the exit status or `stopped`.
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore

from mesh.blobs import open_blobs
from mesh.blobs.spool import SpooledFile
from mesh.config import load_config

STEPS: list[tuple[Any, str]] = [
    *((os, name) for name in ("fsync", "fdatasync", "rename", "link", "unlink", "utime", "mkdir", "pread")),
    (fcntl, "flock"),
    (SpooledFile, "_append"),
    *((obstore, f"{name}_async") for name in ("put", "head", "delete", "get_range")),
    (obstore, "list"),
]


def count_steps(before: int, signal: int) -> None:
    taken: list[Callable[..., Any]] = []

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if taken[-7:] != [step] * 7:
                taken.append(step)
                if len(taken) == before + 1:
                    os.kill(os.getpid(), signal)
            return step(*args, **kwargs)

        return call

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))


async def work(operation: str, what: str) -> None:
    blobs = await open_blobs(load_config())
    if operation == "put":
        await blobs.put(Path(what))
    else:
        name, older_than = what.split(",")
        await blobs.delete(name, datetime.fromisoformat(older_than))
    blobs.close()


def main() -> None:
    for line in sys.stdin:
        operation, what, before, signal = line.split()
        process = os.fork()
        if not process:
            count_steps(int(before), int(signal))
            asyncio.run(work(operation, what))
            os._exit(0)
        print(process, flush=True)
        status = 0
        while True:
            _, status = os.waitpid(process, os.WUNTRACED)
            print(os.waitstatus_to_exitcode(status) if not os.WIFSTOPPED(status) else "stopped", flush=True)
            if not os.WIFSTOPPED(status):
                break


if __name__ == "__main__":
    main()
