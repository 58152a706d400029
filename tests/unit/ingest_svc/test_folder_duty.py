"""How the watching of the cameras folder ends."""

import asyncio

import pytest

from mesh.rpc import GrpcServer
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import as_itself
from tests.support.ingest_harness import IngestHarness


@pytest.mark.parametrize("cancelled", [False, True])
async def test_who_stops_does_not_wait_for_what_has_ended_already(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """A process whose worker has failed stops, and would never end."""

    async def fail(_: str) -> None:
        if cancelled:
            await asyncio.Event().wait()
        raise RuntimeError("a bug")

    server = GrpcServer(CallInterceptor)
    async with harness.composed(server.channel()) as ingest:
        monkeypatch.setattr(ingest.duty, "_take", fail)
        with as_itself():
            running = asyncio.create_task(ingest.duty.run())
        if cancelled:
            await asyncio.sleep(0)
            running.cancel()
        await asyncio.wait([running])
        async with asyncio.timeout(20):
            await ingest.duty.stop()
