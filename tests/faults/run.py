"""One part of a fault run: a cluster from a clean home, its load in rounds with a fault or two in each, and
what is left at the end."""

import asyncio
import random
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg

from mesh.topics import DEAD_LETTER_SERVICES, dead_letters
from tests.faults import clock_shift
from tests.faults.boundaries import BOUNDARIES
from tests.faults.cluster import Cluster, Layout, running_cluster
from tests.faults.golden import PartOutcome, golden_outcome, read_part
from tests.faults.inflicting import Scene, inflict
from tests.faults.load import GAP, SPAN, Batch, Load
from tests.faults.plan import Fault, Plan, Round
from tests.faults.sending import Sender
from tests.faults.subscribers import GatewaySubscriber, Subscriber
from tests.support.topic_values import topic_values

# A round whose photos are not in the store by then has a consumer that is stuck.
ROUND_SECONDS = 180.0
IDLE_SECONDS = {"rules": 120.0, "llama": 900.0}
CATCH_UP_SECONDS = 60.0
# The photos of a round are sent within this time.
SPREAD_SECONDS = 0.6
SETTINGS = {
    "LARES_EVENT_GAP_SECONDS": str(GAP),
    "LARES_EVENT_SPAN_SECONDS": str(SPAN),
    "LARES_LEASE_SECONDS": "3",
    "LARES_WATCH_LEASE_SECONDS": "3",
}
HANDOVERS = "rounds after which another process watched the cameras folder"
LEFT = {
    "jobs": "SELECT count(*) FROM jobs",
    "events that are open": "SELECT count(*) FROM events WHERE NOT closed",
    "unpublished feed entries": "SELECT (SELECT max(sequence) FROM feed) - sequence FROM feed_published",
    "gaps in the feed": "SELECT max(sequence) - count(*) FROM feed",
    "cameras in the outbox": "SELECT count(*) FROM camera_outbox",
    "media in the outbox": "SELECT count(*) FROM kept_outbox",
    "renditions that wait": "SELECT count(*) FROM renditions WHERE state = 1",
}


@dataclass
class FiredFault:
    """`healed` is when the fault was over, and `recovered` how many seconds later everything that was sent
    was in the store; None for two faults at once, of which nobody knows which one took so long."""

    kind: str
    target: str
    detail: str
    round: int
    proof: str
    recovered: float | None = None


@dataclass
class PartResult:
    """The log of a part, as JSON. `wrong` is empty if all is as it must be."""

    seed: int
    layout: dict[str, Any]
    rounds: int = 0
    seconds: float = 0.0
    golden_seconds: float = 0.0
    faults: list[FiredFault] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)
    ended_by_themselves: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def run_part(
    seed: int, rounds: int, minutes: float, layout: Layout, folder: Path, only: tuple[str, ...] = ()
) -> PartResult:
    """Runs at most so many rounds, and begins none after so many minutes; then the same load without faults.

    `only` names the kinds and boundaries to choose faults from.
    """
    began = time.monotonic()
    preload = clock_shift.compiled(folder)
    result = PartResult(seed, {**asdict(layout), "settings": {}})
    if preload is None:
        result.not_run.append("clock jump: this machine has no C compiler")
    batches: list[Batch] = []
    taking = replace(layout, settings=SETTINGS | {"LARES_INGEST_ORIGINALS": "take"} | layout.settings)
    load = Load(seed, folder, few_events=layout.reasoner == "llama")
    async with running_cluster(taking, folder / "cluster", preload) as cluster:
        part = _Part(seed, cluster, result, load, Plan(seed, taking, only, clocks=bool(preload)))
        try:
            deadline = time.monotonic() + 60 * minutes
            while result.rounds < rounds and time.monotonic() < deadline:
                batches.append(await part.round())
                result.rounds += 1
            outcome = await part.end()
        except Exception as error:  # whatever it is, the log has to say it
            result.wrong.append(f"round {result.rounds + 1}: {error!r}; {part.state()}")
            outcome = None
        finally:
            part.note_ends()
            await part.close()
    result.seconds = time.monotonic() - began
    if outcome is not None:
        began = time.monotonic()
        # What a language model says differs from run to run, so there the golden run asks the rules.
        by_rules = replace(layout, reasoner="rules")
        golden = await golden_outcome(folder / "golden", batches, by_rules, SETTINGS | layout.settings)
        if layout.reasoner == "llama":
            golden, outcome = golden.without_judgements(), outcome.without_judgements()
        result.golden_seconds = time.monotonic() - began
        result.wrong += [f"different: {line}" for line in golden.differences(outcome)]
        result.counts |= {
            "media": len(golden.outcome.media),
            "events": len(golden.outcome.events),
            "rejections": len(golden.outcome.rejections),
            "renditions": len(golden.outcome.renditions),
            "assessments on the log twice": len(outcome.outcome.twice),
        }
    if not result.wrong:
        shutil.rmtree(folder / "cluster", ignore_errors=True)
        shutil.rmtree(folder / "golden", ignore_errors=True)
    return result


class _Part:
    """The cluster with all that watches it."""

    def __init__(self, seed: int, cluster: Cluster, result: PartResult, load: Load, plan: Plan) -> None:
        self._cluster, self._result, self._load, self._plan = cluster, result, load, plan
        self._sender = Sender(cluster)
        self._subscribers = [Subscriber(cluster), GatewaySubscriber(cluster), Subscriber(cluster)]
        self._scene = Scene(cluster, self._subscribers[-1], random.Random(f"scene {seed}"))
        self._round: Round | None = None
        # Who watched the cameras folder at the end of the last round, and after how many it was another.
        self._watcher, self._handovers = "", 0

    async def round(self) -> Batch:
        """One round: photos, faults while they are on their way, and when those are over, a photo for each
        partition. Returns what was sent."""
        planned = self._round = self._plan.round()
        self._watcher = self._watcher or await self._cluster.watcher()
        batch = self._load.batch(planned.stimuli)
        async with asyncio.timeout(ROUND_SECONDS):
            faults = [asyncio.create_task(self._inflict(fault)) for fault in planned.faults]
            early = asyncio.create_task(self._sender.send_all(batch.early, SPREAD_SECONDS))
            try:
                proofs = await asyncio.gather(*faults)
                over = time.monotonic()
                await self._sender.send_all(batch.probes)
                await early
            finally:
                for task in (*faults, early):
                    task.cancel()
                await asyncio.gather(*faults, early, return_exceptions=True)
        sent = [self._sender.stored_at[item.path] for item in (*batch.early, *batch.probes)]
        recovered = round(max(sent) - over, 3) if len(proofs) == 1 else None
        for fault, proof in zip(planned.faults, proofs, strict=True):
            self._result.faults.append(
                FiredFault(fault.kind, fault.target, fault.detail, planned.number, proof, recovered)
            )
            print(f"{planned.number:4} {fault}: {proof}", flush=True)
        print(f"{planned.number:4} all stored {max(sent) - over:.1f} s after", flush=True)
        if watcher := await self._cluster.watcher():
            self._handovers += self._watcher not in ("", watcher)
            self._watcher = watcher
        return batch

    async def _inflict(self, fault: Fault) -> str:
        await asyncio.sleep(fault.delay)
        return await inflict(fault, self._scene)

    async def end(self) -> PartOutcome:
        """Waits until nothing is left to do, and checks all that needs no other run."""
        began = time.monotonic()
        await self._idle()
        print(f"nothing left to do {time.monotonic() - began:.1f} s after the last round", flush=True)
        async with self._cluster.database() as connection:
            head = int(await connection.fetchval("SELECT COALESCE(max(sequence), 0) FROM feed"))
            self._result.wrong += await _left_in(connection)
        for subscriber in self._subscribers:
            await subscriber.caught_up(head, CATCH_UP_SECONDS)
            self._result.wrong += subscriber.problems(head)
        self._result.wrong += await self._dead_letters()
        self._result.counts |= {
            "feed": head,
            "connections of subscribers": sum(each.connections for each in self._subscribers),
            "dead letters": len(self._scene.garbage),
            HANDOVERS: self._handovers,
        }
        outcome = await read_part(self._cluster)
        self._result.wrong += _problems_of(outcome, self._cluster.models.model_of_reasoner)
        return outcome

    async def _idle(self) -> None:
        seconds = IDLE_SECONDS[self._cluster.layout.reasoner]
        deadline = time.monotonic() + seconds
        status: Any = None
        while time.monotonic() < deadline:
            with suppress(Exception):
                status = await self._cluster.graphql("{ status { idle } }")
                if status["status"]["idle"]:
                    return
            await asyncio.sleep(0.2)
        raise AssertionError(f"not idle after {seconds} s: {status}")

    async def _dead_letters(self) -> list[str]:
        """What is among the dead letters and was not garbage, and the garbage that is not among them."""
        found: set[bytes] = set()
        for topic in map(dead_letters, DEAD_LETTER_SERVICES):
            found |= set(await topic_values(self._cluster, topic))
        garbage = {value for _, value in self._scene.garbage}
        return [
            *(f"{len(lost)} records of garbage became no dead letter" for lost in [garbage - found] if lost),
            *(f"dead letters that are no garbage: {other}" for other in [found - garbage] if other),
        ]

    def note_ends(self) -> None:
        """Which processes have ended without a fault's doing, and how often each boundary was crossed."""
        for service in self._cluster.services.values():
            for _, status in service.ended:
                if status not in (0, 130, -9):
                    self._result.ended_by_themselves.append(f"{service.name}: status {status}")
        for number, boundary in enumerate(BOUNDARIES):
            services = self._cluster.services.values()
            self._result.passes[boundary.name] = sum(each.switches.passes(number) for each in services)

    def state(self) -> str:
        """For the report of a round that failed."""
        faults = ", ".join(map(str, self._round.faults)) if self._round else ""
        missing, error = self._sender.missing, self._sender.last_error
        return f"faults: {faults}; not stored: {missing}; last error of a call: {error}"

    async def close(self) -> None:
        await self._sender.close()
        for subscriber in self._subscribers:
            await subscriber.close()


async def _left_in(connection: asyncpg.Connection) -> list[str]:
    """What the database must not have once all is done."""
    wrong = []
    for what, query in LEFT.items():
        if count := await connection.fetchval(query):
            wrong.append(f"{count} {what}")
    return wrong


def _problems_of(part: PartOutcome, model: str) -> list[str]:
    """What is wrong with the outcome, whatever another run says. `model` is the language model that must have
    assessed all events, or empty."""
    wrong = []
    found = {id: {one["id"] for one in node["detections"]} for id, node in part.outcome.media.items()}
    if part.kept != found:
        wrong.append("store.kept.v1 has other detections than the store")
    not_assessed = [event["id"] for event in part.outcome.events.values() if event["status"] != "ASSESSED"]
    if not_assessed or not part.outcome.events:
        wrong.append(f"of {len(part.outcome.events)} events, these are not assessed: {not_assessed}")
    assessed_by = {one["model"] for event in part.outcome.events.values() for one in event["assessments"]}
    if model and assessed_by != {model}:
        wrong.append(f"events are assessed by {sorted(assessed_by)} instead of {model}")
    if part.outcome.jobs:
        wrong.append(f"jobs are left: {part.outcome.jobs}")
    return wrong
