"""A server that the harness starts, kills, stops and starts again on the same folder and ports: a broker of
Kafka, PostgreSQL, or S3."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mesh.processes.parent_death import tied_to_parent
from tests.support.waiting import until_async

READY_SECONDS = 120.0


class ServerProcess:
    """`command` is asked before every start; `is_ready` may raise OSError. `stop_signal` ends it in order."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Awaitable[Sequence[str]]],
        is_ready: Callable[[], Awaitable[bool]],
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: tuple[int, int] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name, self.log = name, log
        self._command, self._is_ready = command, is_ready
        self._stop_signal, self._user, self._environment = stop_signal, user, environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now, or 0."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    async def start(self) -> None:
        """Returns as soon as it runs; `ready` waits until it serves."""
        command = tied_to_parent(await self._command(), user=self._user)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    async def ready(self) -> None:
        async def serves() -> bool:
            assert self.pid, f"{self.name} has ended: see {self.log}"
            try:
                return await self._is_ready()
            except OSError:
                return False

        await until_async(serves, READY_SECONDS)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """As an out-of-memory killer does. Returns when it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """In order, and by SIGKILL if that takes too long."""
        await self._end(self._stop_signal)

    async def _end(self, number: signal.Signals, seconds: float = 30.0) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


async def accepts(host: str, port: int) -> bool:
    """Whether a server listens there. Raises OSError if not."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True
