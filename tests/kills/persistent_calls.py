"""Calls that are repeated while Lares is killed, until it has answered them."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import grpc

# The status of a call that a kill interrupts, or that is made before Lares is ready.
_TEMPORARY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_PAUSE = 0.3


async def persist(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Repeats the attempt until it returns True. Of one that a kill interrupts, nobody knows whether Lares
    has heard it, so doing it again must change nothing.

    Raises what an attempt raises, unless that is because Lares was killed or is not ready yet.
    """
    while True:
        try:
            if await attempt():
                return
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TEMPORARY:
                raise
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
            pass  # there is no home yet, or its database is away
        await asyncio.sleep(_PAUSE)
