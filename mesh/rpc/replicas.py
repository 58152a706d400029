"""Asks every replica of a service, where each one's answer is about itself: its state, counts or partitions.

All other calls go to any replica, by the channel to the service.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from mesh.problems import Problem
from mesh.rpc.client import call

Response = TypeVar("Response")


async def ask_each(
    channels: Sequence[grpc.aio.Channel],
    method: Callable[[grpc.aio.Channel], Callable[..., Awaitable[Response]]],
    request: object,
    *,
    timeout: float,
) -> list[Response]:
    """The answers of the replicas that answer within `timeout` seconds. Raises the first Problem if none
    does."""
    asked = (call(method(channel), request, timeout=timeout) for channel in channels)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in failures:
        if not isinstance(failure, Problem):
            raise failure
    if len(failures) == len(answers):
        raise failures[0]
    return [answer for answer in answers if not isinstance(answer, BaseException)]
