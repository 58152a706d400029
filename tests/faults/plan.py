"""Which faults a part consists of: chosen by its seed alone, so that the same seed repeats them."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.boundaries import BOUNDARIES, Boundary, Stimulus
from tests.faults.cluster import PEERS, SESSION_SECONDS, STANDBY, USERS_OF_MODELS, WATCHER, Layout

# The kinds beside those at boundaries, with how often each is chosen for one fault at each boundary.
WEIGHTS = {
    "kill a service": 4,
    "kill a server": 3,
    "pause": 4,
    "restart a server": 2,
    "partition": 5,
    "clock jump": 3,
    "disk full": 2,
    "garbage": 2,
    "slow subscriber": 2,
    "terminate": 3,
    "remove a replica": 2,
    "add a replica": 2,
    "take over the watch": 3,
}
BOUNDARY = "boundary"
# Those of them that can act on a model's server.
ON_MODELS = ("kill a server", "pause", "restart a server", "partition")
# What a file system of one blob store alone has: fewer parts use it, so it is chosen more often there.
OF_ONE_STORE = 3
# How many rounds have a second fault at the same time.
OVERLAP = 0.4
MODELS = ("triton", "llama")
# How many faults of a part with one of them are about it: they act on its server or on a link to it, or end
# the service that asks it at a boundary.
ABOUT_THE_MODEL = 0.4
NO_ORDERLY_END = ("s3", "triton")
PAUSED_SECONDS = SESSION_SECONDS + 1.0
# What keeps the process that watches the cameras folder from its lease.
KEPT_AWAY = ("paused", "cut off", "ended")
CLOCK_JUMPS = (-1800, -90, -5, 5, 90, 1800)


@dataclass(frozen=True)
class Fault:
    """`target` is a process, or `near - far` of a link; WATCHER or STANDBY: the process that watches the
    cameras folder, or stands by, when the fault happens. `delay` is counted from the round's first photo; a
    fault at a boundary waits there from before the first. `detail` depends on the kind: the boundary, how a
    link is cut, by how many seconds a clock jumps, why a process does not watch any more."""

    kind: str
    target: str
    delay: float = 0.0
    seconds: float = 0.0
    detail: str = ""

    @property
    def touches(self) -> set[str]:
        """The processes that it acts on."""
        return set(self.target.split(" - "))

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.target, self.detail)))


@dataclass(frozen=True)
class Round:
    number: int
    faults: Sequence[Fault]
    stimuli: Sequence[Stimulus]


class Plan:
    """Chooses the kinds and boundaries that were chosen least so far, by their weights, so that all are
    covered evenly; among those that are almost equal, and for everything else, chance decides."""

    def __init__(self, seed: int, layout: Layout, only: Sequence[str] = (), *, clocks: bool = True) -> None:
        """`only` names the kinds and boundaries to choose from; `clocks`: whether they can be set."""
        self._chance = random.Random(f"plan {seed}")
        self._layout = layout
        cells = {kind: float(weight) for kind, weight in WEIGHTS.items() if clocks or kind != "clock jump"}
        for boundary in BOUNDARIES:
            if boundary.blobs in ("any", layout.blobs):
                cells[boundary.name] = 1.0 if boundary.blobs == "any" else OF_ONE_STORE
        self._cells = {name: weight for name, weight in cells.items() if not only or name in only}
        self._models = [each for each in (layout.detector, layout.reasoner) if each in MODELS]
        # By model, those that are about it.
        self._cells_of = {
            model: {name: weight for name, weight in self._cells.items() if name in _about(model)}
            for model in self._models
        }
        self._models = [model for model in self._models if self._cells_of[model]]
        self._chosen: Counter[tuple[str, str]] = Counter()
        self._chosen_for: Counter[tuple[str, str]] = Counter()
        self._rounds = 0

    def round(self) -> Round:
        self._rounds += 1
        faults = [self._fault()]
        if self._chance.random() < OVERLAP:
            before = self._chosen.copy(), self._chosen_for.copy()
            second = self._fault()
            if not second.touches & faults[0].touches:
                faults.append(second)
            else:
                self._chosen, self._chosen_for = before
        stimuli = [self._boundary(each.detail).stimulus for each in faults if each.kind == BOUNDARY]
        return Round(self._rounds, faults, stimuli)

    def _fault(self) -> Fault:
        chance = self._chance
        cells, model = self._cells, ""
        if self._models and chance.random() < ABOUT_THE_MODEL:
            model = chance.choice(self._models)
            cells = self._cells_of[model]
        name = min(cells, key=lambda each: (self._chosen[model, each] + chance.random()) / cells[each])
        self._chosen[model, name] += 1
        delay = round(chance.uniform(0.0, 0.8), 2)
        if name not in WEIGHTS:
            boundary = self._boundary(name)
            return Fault(BOUNDARY, boundary.service, detail=name)
        seconds = round(chance.uniform(0.5, 3.0), 2)
        if name == "pause":
            target = model or (self._service(name) if chance.random() < 0.8 else self._server())
            return Fault(name, target, delay, PAUSED_SECONDS)
        if name == "kill a service":
            return Fault(name, self._service(name), delay)
        if name in ("kill a server", "restart a server"):
            besides = NO_ORDERLY_END if name == "restart a server" else ()
            return Fault(name, model or self._server(besides), delay, seconds / 3)
        if name == "partition":
            target = self._link_to(model) if model else self._link(name)
            return Fault(name, target, delay, seconds, chance.choice(("refusing", "silent")))
        if name == "clock jump":
            return Fault(name, self._service(name), delay, seconds, str(chance.choice(CLOCK_JUMPS)))
        if name == "disk full":
            return Fault(name, self._writer(), 0.0, seconds)
        if name == "garbage":
            return Fault(name, "kafka", delay)
        if name == "slow subscriber":
            return Fault(name, "subscriber", delay, seconds)
        if name == "take over the watch":
            return Fault(name, WATCHER, delay, detail=chance.choice(KEPT_AWAY))
        if name == "add a replica":
            target = chance.choice([*PEERS])
            return Fault(name, f"{target}-{self._layout.replicas + 1}", delay, seconds)
        return Fault(name, self._service(name), delay, seconds)

    def _service(self, kind: str) -> str:
        """One of those that this kind was chosen for least."""
        targets = [
            {("ingest", 1): WATCHER, ("ingest", 2): STANDBY}.get((target, number), f"{target}-{number}")
            for target, number in self._layout.slots
            if not self._layout.is_extra(number)
        ]
        found = min(targets, key=lambda each: self._chosen_for[kind, each] + self._chance.random())
        self._chosen_for[kind, found] += 1
        return found

    def _server(self, besides: Sequence[str] = ()) -> str:
        names = [*(f"kafka-{number + 1}" for number in range(self._layout.brokers)), "postgres"]
        names += ["s3"] if self._layout.blobs == "s3" else []
        names += self._models
        return self._chance.choice([name for name in names if name not in besides])

    def _link_to(self, model: str) -> str:
        user = self._chance.choice(USERS_OF_MODELS[model])
        return f"{user}-{self._chance.randint(1, self._layout.replicas)} - {model}"

    def _writer(self) -> str:
        """A service that writes photos to its disk: detect_svc has copies of those in a bucket."""
        if self._layout.blobs == "s3" and self._chance.random() < 0.5:
            return f"detect-{self._chance.randint(1, self._layout.replicas)}"
        return WATCHER

    def _link(self, kind: str) -> str:
        """One over which something is said in every round. A gateway, reason_svc and who stands by may have
        nothing to say to one of the brokers for long, so they are separated from all."""
        near = self._service(kind)
        target = near.partition("-")[0]
        far = ["kafka"]
        if target not in ("gateway", "reason") and near != STANDBY:
            far = [f"kafka-{number + 1}" for number in range(self._layout.brokers)]
        far += ["store"] if "store" in PEERS[target] and target != "gateway" else []
        far += ["postgres"] * 3 if target == "store" else []
        far += ["s3"] * 2 if self._layout.blobs == "s3" and (near == WATCHER or target == "detect") else []
        return f"{near} - {self._chance.choice(far)}"

    def _boundary(self, name: str) -> Boundary:
        return next(each for each in BOUNDARIES if each.name == name)


def _about(model: str) -> set[str]:
    """The kinds and boundaries of faults that are about it."""
    kinds = {kind for kind in ON_MODELS if kind != "restart a server" or model not in NO_ORDERLY_END}
    return kinds | {each.name for each in BOUNDARIES if each.service in USERS_OF_MODELS[model]}
