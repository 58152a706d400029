"""The composition root: the only module that knows all services and the parts that each one needs."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from deploy.mesh_factory import open_mesh, open_process_endpoint
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Invalid, Unavailable
from mesh.readiness import Readiness
from mesh.telemetry.export import open_tracing
from mesh.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

READY_SECONDS = 120.0
# How long a process that ends still answers although it is not ready, if LARES_DRAIN_SECONDS does not say so
# and siblings in other processes call it. They learn at once that it is not ready.
DRAIN_SECONDS = 1.0
# How long calls may then take to their end. Those that wait for something to happen end at once.
GRACE_SECONDS = 5.0

Opener = Callable[[Config, Mesh], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Target:
    """One service: the module with its `open`, and whether it needs the database."""

    module: str
    database: bool = False

    def load(self) -> Opener:
        """Imports the service, so that a process loads only the code of its own targets. Raises Unavailable
        NOT_INSTALLED if packages of it are missing."""
        try:
            opener: Opener = importlib.import_module(self.module).open
        except ModuleNotFoundError as error:
            package = self.module.partition(".")[0]
            extra = package.removesuffix("_svc")
            raise Unavailable(
                f"{package} is not installed, {error.name} is missing: pip install 'lares[{extra}]'",
                "NOT_INSTALLED",
            ) from error
        return opener


GATEWAY = "gateway"
# In the order in which they open: those that take longest to start come first. They close in reverse.
TARGETS: dict[str, Target] = {
    "detect": Target("detect_svc.service"),
    "store": Target("store_svc.service", database=True),
    "reason": Target("reason_svc.service"),
    "ingest": Target("ingest_svc.service"),
    GATEWAY: Target("gateway.service"),
}


def chosen(names: Collection[str]) -> list[str]:
    """The targets with these names, in the order in which they open; all targets for `all` or no name. Raises
    Invalid BAD_TARGET."""
    unknown = set(names) - TARGETS.keys() - {"all"}
    if unknown:
        raise Invalid(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", "BAD_TARGET"
        )
    return [name for name in TARGETS if not names or name in names or "all" in names]


@asynccontextmanager
async def open_lares(config: Config, names: Collection[str]) -> AsyncIterator[Mesh]:
    """Opens the targets in `names` with all parts that they need, and yields when they are ready. Raises a
    Problem that says what is missing."""
    targets = chosen(names)
    report_renamed_settings(config, targets)
    database = any(TARGETS[name].database for name in targets)
    async with AsyncExitStack() as stack:
        name = "lares" if len(targets) == len(TARGETS) else f"lares-{'-'.join(targets)}"
        await stack.enter_async_context(open_tracing(name))
        readiness, metrics = Readiness(), Metrics()
        stack.enter_context(metrics.sampling(readiness.sample))
        # Before everything that may take long or fail: a process that starts is live.
        endpoint = await stack.enter_async_context(open_process_endpoint(config, readiness, metrics))
        # A thread imports the services while Kafka and earlier services start: each import takes seconds.
        reader = ThreadPoolExecutor(1, thread_name_prefix="loading")
        stack.callback(reader.shutdown, wait=False, cancel_futures=True)
        loop = asyncio.get_running_loop()
        openers = {name: loop.run_in_executor(reader, TARGETS[name].load) for name in targets}
        gateway = openers.pop(GATEWAY, None)
        mesh = await stack.enter_async_context(
            open_mesh(config, targets, database=database, readiness=readiness, metrics=metrics)
        )
        if endpoint:
            mesh.addresses["metrics"] = endpoint
        await stack.enter_async_context(mesh.running("event loop lag", metrics.measure_lag()))
        for opener in openers.values():
            await stack.enter_async_context((await opener)(config, mesh))
        if config.grpc_reflection:
            mesh.server.add_reflection()
        mesh.server.report_health(partial(_missing, mesh))
        await mesh.server.start()
        stack.push_async_callback(mesh.server.stop, GRACE_SECONDS)
        stack.push_async_callback(mesh.prepare_stop)
        # The gateway calls gRPC services and offers none: it opens after the server starts and closes before
        # it stops.
        if gateway:
            await stack.enter_async_context((await gateway)(config, mesh))
        await until_ready(mesh)
        mesh.readiness.started = True
        stack.push_async_callback(drain, mesh, config)
        yield mesh


async def _missing(mesh: Mesh, parts: Collection[str] | None) -> Collection[str]:
    """What gRPC's health service asks: of the process as a whole, or of the parts that a service needs."""
    return await mesh.readiness.missing() if parts is None else await mesh.missing(parts)


async def drain(mesh: Mesh, config: Config) -> None:
    """Lets clients and load balancers turn to other replicas before this process refuses calls."""
    mesh.readiness.stopping = True
    mesh.server.drain()
    seconds = config.drain_seconds
    if seconds is None:
        seconds = DRAIN_SECONDS if config.mesh_listen else 0.0
    if seconds and not mesh.failure.done():
        log.info("draining", seconds=seconds)
        await asyncio.sleep(seconds)


def report_renamed_settings(config: Config, targets: Collection[str]) -> None:
    """Logs a warning for each setting that is set under an old name. Raises Invalid if this process runs
    detect without store, because the process that uses the settings now would not see them."""
    moved = [f"{old} is now {new}" for old, new in config.renamed.items()]
    if moved and "detect" in targets and "store" not in targets:
        raise Invalid(
            f"{', '.join(moved)}: store_svc decides what counts, so set it for the process that runs store,"
            " and remove it here",
            "BAD_SETTING",
        )
    for sentence in moved:
        log.warning("setting was renamed", setting=sentence)


async def until_ready(mesh: Mesh) -> None:
    """Waits until every part is ready. Raises Unavailable with what is still missing after 120 s."""
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while missing := {part: why for part, why in (await mesh.missing()).items() if part not in mesh.awaited}:
        if mesh.failure.done():
            mesh.failure.result()
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"not ready: {missing}", "NOT_READY")
        await asyncio.sleep(0.05)
