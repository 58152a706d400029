"""Runs blocking functions on a fixed number of threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    def __init__(self, name: str, threads: int) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Drops queued calls; running ones continue, and are not waited for."""
        self.executor.shutdown(wait=False, cancel_futures=True)
