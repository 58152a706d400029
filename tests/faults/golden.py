"""What must come of a load: the state that one process of Lares, without faults, is left in by it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import asyncpg
import grpc

from tests.faults.cluster import Layout
from tests.faults.load import Batch, Item
from tests.faults.models import running_models
from tests.faults.ports import Ports
from tests.faults.sending import Sender
from tests.faults.service_process import STUB
from tests.kills.outcome import Outcome, read_outcome
from tests.support.home_database import home_database
from tests.support.kept import detection_ids, read_kept
from tests.support.lares import Lares
from tests.support.readable_lares import ReadableLares

IDLE_SECONDS = 300.0


@dataclass(frozen=True)
class PartOutcome:
    """`kept` has the detections of each media on store.kept.v1."""

    outcome: Outcome
    kept: dict[str, set[str]]

    def without_judgements(self) -> "PartOutcome":
        """Without what a reasoner says, and which one it was: only what it has assessed."""
        events = {}
        for id, event in self.outcome.events.items():
            assessment = event["assessment"] and {"evidenceDigest": event["assessment"]["evidenceDigest"]}
            history = [{"evidenceDigest": one["evidenceDigest"]} for one in event["assessments"]]
            events[id] = event | {"assessment": assessment, "assessments": history, "lastFailure": None}
        return replace(self, outcome=replace(self.outcome, events=events))

    def differences(self, other: "PartOutcome") -> list[str]:
        """A line for each entry in which the other differs.

        How often an assessment is on the log may differ: a worker that was stopped past the end of its lease
        publishes once more what another one has done meanwhile, and the store ignores it.
        """
        lines = [
            line
            for line in self.outcome.differences(other.outcome)
            if not line.startswith("assessed ")
            or " ".join(line.split()[1:4]).rstrip(":") in self._assessed(other)
        ]
        return lines + [
            f"store.kept.v1 has other detections of {media}"
            for media in sorted(self.kept.keys() | other.kept.keys())
            if self.kept.get(media) != other.kept.get(media)
        ]

    def _assessed(self, other: "PartOutcome") -> set[str]:
        return self.outcome.assessed.keys() ^ other.outcome.assessed.keys()


async def read_part(lares: ReadableLares) -> PartOutcome:
    kept = {id: detection_ids(message) for id, message in (await read_kept(lares)).items()}
    return PartOutcome(await read_outcome(lares), kept)


class _Whole:
    """One process of Lares as a receiver of the load."""

    def __init__(self, lares: Lares) -> None:
        self._lares = lares
        self.cameras = lares.cameras

    @property
    def key(self) -> str:
        return self._lares.key

    def grpc_channel(self, target: str = "") -> grpc.aio.Channel:
        return self._lares.grpc_channel()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        async with home_database(self._lares.home) as connection:
            yield connection


async def golden_outcome(
    home: Path, batches: Sequence[Batch], layout: Layout, settings: dict[str, str]
) -> PartOutcome:
    """Sends the same load to `lares up`, with its own PostgreSQL and Kafka, and no fault."""
    models = running_models(home.with_name("golden-models"), layout.detector, layout.reasoner, Ports().one())
    async with models as running:
        own = {STUB: "stub"} if layout.detector == "stub" else {}
        own |= running.settings_without_links()
        lares = Lares(home, settings | own, program="tests.faults.service_process")
        return await _outcome_of(lares, batches)


async def _outcome_of(lares: Lares, batches: Sequence[Batch]) -> PartOutcome:
    lares.start()
    try:
        await lares.ready()
        sender = Sender(_Whole(lares))
        by_camera: dict[str, list[Item]] = {}
        for item in chain.from_iterable((*batch.early, *batch.probes) for batch in batches):
            by_camera.setdefault(item.camera, []).append(item)

        async def send(items: list[Item]) -> None:
            for item in items:
                await sender.send(item)

        sending: list[Any] = [send(items) for items in by_camera.values()]
        try:
            await asyncio.gather(*sending)
        finally:
            await sender.close()
        await lares.idle(IDLE_SECONDS)
        return await read_part(lares)
    finally:
        await lares.close()
