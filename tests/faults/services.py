"""The service processes of a cluster, and the host that forks them."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from tests.faults.switches import Switches
from tests.support.lares import ROOT
from tests.support.waiting import until

START_SECONDS = 120.0
# How long a supervisor waits before it starts a process again that has ended.
RESTART_SECONDS = 0.3
MAX_ENDS = 10


class ServiceProcess:
    """One replica of a service, with its own home, addresses and log. Its process changes."""

    def __init__(self, host: "ProcessHost", target: str, number: int, folder: Path) -> None:
        self.target, self.number = target, number
        self.name = f"{target}-{number}"
        self.home = folder / self.name
        self.log = folder / f"{self.name}.log"
        self.switches = Switches(folder / f"{self.name}.switches")
        self.environment: dict[str, str] = {}
        self.pid = 0
        # Whether the supervisor starts it again when it ends, and how its process has ended each time.
        self.wanted = False
        self.ended: list[tuple[float, int]] = []
        self._host = host
        # Where the log of the process that runs now begins, and the pid of the last one that was ready.
        self._begins, self._ready_pid = 0, 0

    async def start(self) -> None:
        """Returns as soon as it runs."""
        self.wanted = True
        self.log.touch()
        self._begins = self.log.stat().st_size
        await self._host.start(self)

    async def up(self) -> None:
        """Waits until it says that it is ready. Raises AssertionError if it ends again and again."""
        ends = len(self.ended)

        def is_up() -> bool:
            assert len(self.ended) < ends + MAX_ENDS, f"{self.name} does not start:\n{self.tail()}"
            return self.is_up()

        await until(is_up, START_SECONDS, lambda: f"{self.name} is not ready:\n{self.tail()}")

    def is_up(self) -> bool:
        """Whether the process that runs now has become ready."""
        if self.pid and self._ready_pid != self.pid:
            with self.log.open("rb") as log:
                log.seek(self._begins)
                if b"Lares is ready" in log.read():
                    self._ready_pid = self.pid
        return bool(self.pid) and self._ready_pid == self.pid

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """Returns when it is gone; its supervisor starts it again."""
        await self._end(signal.SIGKILL)

    async def stop(self, seconds: float = 60.0) -> None:
        """Ends it in order, and keeps it from starting again."""
        self.wanted = False
        await self._end(signal.SIGTERM, seconds)

    async def _end(self, number: signal.Signals, seconds: float = 60.0) -> None:
        pid = self.pid
        if pid:
            os.kill(pid, number)
            await until(lambda: self.pid != pid, seconds, lambda: f"{self.name} does not end:\n{self.tail()}")


class ProcessHost:
    """Forks service processes, and starts those again that end and are wanted."""

    def __init__(self, preload: Path | None) -> None:
        """`preload` is a library that all processes load first."""
        self._preload = preload
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        # In the order of their requests, each with what waits for its start.
        self._starting: deque[tuple[ServiceProcess, asyncio.Future[None]]] = deque()
        self._by_pid: dict[int, ServiceProcess] = {}
        self._restarts = set[asyncio.Task[None]]()

    async def open(self) -> None:
        preload = {"LD_PRELOAD": str(self._preload)} if self._preload else {}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.process_host",
            cwd=ROOT,
            # gRPC must not prepare for forks, and numpy must start no threads before them.
            env=clean_environment()
            | preload
            | {"GRPC_ENABLE_FORK_SUPPORT": "0", "OPENBLAS_NUM_THREADS": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def start(self, service: ServiceProcess) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        request = {
            "environment": clean_environment() | service.environment,
            "arguments": ["up", "--target", service.target],
            "log": str(service.log),
        }
        started = asyncio.get_running_loop().create_future()
        self._starting.append((service, started))
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await started

    async def close(self) -> None:
        """Ends all processes."""
        for task in self._restarts:
            task.cancel()
        for service in self._by_pid.values():
            service.wanted = False
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "started" in message:
                service, started = self._starting.popleft()
                service.pid = message["started"]
                self._by_pid[service.pid] = service
                if not started.done():
                    started.set_result(None)
            else:
                self._ended(self._by_pid.pop(message["ended"]), message["status"])

    def _ended(self, service: ServiceProcess, status: int) -> None:
        service.pid = 0
        service.ended.append((time.monotonic(), status))
        if service.wanted:
            task = asyncio.create_task(self._restart(service))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def _restart(self, service: ServiceProcess) -> None:
        await asyncio.sleep(RESTART_SECONDS)
        if service.wanted and not service.pid:
            await service.start()


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of Lares."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LARES_", "FAULTS_"))}
