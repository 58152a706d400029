"""Leases that this process holds in the store (lares.store.internal.v1.LeaseService)."""

import asyncio
import math
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from lares.store.internal.v1 import lease_service_pb2 as pb
from lares.store.internal.v1.lease_service_pb2_grpc import LeaseServiceStub
from mesh.durable_files import write_private
from mesh.lease_clock import lease_time
from mesh.problems import Problem
from mesh.rpc import call

log = structlog.get_logger(__name__)

# A lease is extended this often within its length. At its end it counts as lost a little earlier here than in
# the store, since what is begun with it takes a moment.
EXTENSIONS, MARGIN_SHARE = 4, 0.2
ANSWER_SECONDS = 5.0
END_SECONDS = 1.0


class Lease:
    """`asked` is when it was asked for, as `lease_time`; its end is counted from then, because it is not
    known when the store has answered."""

    def __init__(self, token: int, seconds: float, asked: float) -> None:
        self.token, self.seconds = token, seconds
        # When the store was last asked for it, with or without success.
        self.asked = asked
        # Whether another may have it: then it is over for ever.
        self.lost = False
        self._changed = asyncio.Event()
        self.extended(asked)

    @property
    def held(self) -> bool:
        """Certainly not held by another. False for as long as the store does not answer, too."""
        return not self.lost and lease_time() < self._until

    @property
    def extend_at(self) -> float:
        """When it is to be extended, as `lease_time`."""
        return self.asked + self.seconds / EXTENSIONS

    async def until_held(self) -> None:
        """Waits while it is not known whether another has it, and for ever once it is lost: whoever works
        with it is cancelled then."""
        while not self.held:
            self._changed.clear()
            await self._changed.wait()

    async def until_lost(self) -> None:
        while not self.lost:
            self._changed.clear()
            await self._changed.wait()

    def extended(self, asked: float) -> None:
        self._until = asked + self.seconds * (1 - MARGIN_SHARE)
        self._changed.set()

    def lose(self) -> None:
        self.lost = True
        self._changed.set()


class Leases:
    """`run` is its loop, which extends what is held. `holder` names this process, and no other that runs at
    the same time."""

    def __init__(self, store: grpc.aio.Channel, holder: str) -> None:
        self._store, self.holder = LeaseServiceStub(store), holder
        self._held: dict[int, Lease] = {}
        self._more = asyncio.Event()

    async def take(self, name: str, seconds: float) -> Lease | str:
        """Returns the lease, or who holds it. Raises Unavailable."""
        asked = lease_time()
        request = pb.TakeLeaseRequest(name=name, holder=self.holder, length=length(seconds))
        taken = await call(self._store.TakeLease, request, timeout=ANSWER_SECONDS)
        return self.keep(taken.token, seconds, asked) if taken.token else taken.holder

    def keep(self, token: int, seconds: float, asked: float) -> Lease:
        """Extends a lease that was taken by another call, until `forget` or `end`."""
        lease = self._held[token] = Lease(token, seconds, asked)
        self._more.set()
        return lease

    def forget(self, lease: Lease) -> None:
        self._held.pop(lease.token, None)
        lease.lose()

    async def end(self, lease: Lease) -> None:
        """Lets others take it at once; if the store does not answer, when it expires."""
        self.forget(lease)
        with suppress(Problem):
            await call(self._store.EndLeases, pb.EndLeasesRequest(tokens=[lease.token]), timeout=END_SECONDS)

    async def last_held(self, name: str) -> pb.GetLeaseResponse:
        """Who holds a lease, or was the last to hold it. Raises Unavailable."""
        return await call(self._store.GetLease, pb.GetLeaseRequest(name=name), timeout=ANSWER_SECONDS)

    async def run(self) -> None:
        while True:
            self._more.clear()
            due = min((lease.extend_at for lease in self._held.values()), default=math.inf)
            if due <= lease_time():
                await self._extend(list(self._held))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due == math.inf else due - lease_time()):
                    await self._more.wait()

    async def _extend(self, tokens: Collection[int]) -> None:
        asked = lease_time()
        for token in tokens:
            self._held[token].asked = asked
        seconds = min(self._held[token].seconds for token in tokens) / EXTENSIONS
        try:
            request = pb.ExtendLeasesRequest(tokens=tokens)
            answer = await call(self._store.ExtendLeases, request, timeout=max(seconds, 0.5))
        except Problem as problem:
            log.warning("leases not extended", leases=len(tokens), error=problem.message)
            return
        for token in tokens:
            lease = self._held.get(token)
            if lease is None:
                continue
            if token in answer.tokens:
                lease.extended(asked)
            else:
                log.warning("lease lost", token=token)
                self.forget(lease)


def holder_of(home: Path) -> str:
    """Names the process that uses a home, which is one at a time. One that was killed and is started again
    has the same name, so that its leases need not expire. Blocks."""
    file = home / "ingest.id"
    with suppress(OSError):
        if not file.exists():
            write_private(file, f"{uuid4().hex[:12]}\n")
        return f"{socket.gethostname()}/{file.read_text().strip()}"
    return f"{socket.gethostname()}/{uuid4().hex[:12]}"


def length(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
