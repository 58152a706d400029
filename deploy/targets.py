"""The composition root: the only module that knows all services and the parts that each one needs."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from deploy.mesh_factory import open_mesh
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Invalid, Unavailable
from mesh.telemetry.export import open_tracing

log = structlog.get_logger(__name__)

READY_SECONDS = 120.0
GRACE_SECONDS = 1.0

Opener = Callable[[Config, Mesh], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Target:
    """One service: the module with its `open`, and whether it needs the database."""

    module: str
    database: bool = False

    def load(self) -> Opener:
        """Imports the service, so that a process loads only the code of its own targets."""
        opener: Opener = importlib.import_module(self.module).open
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
        # A thread imports the services while Kafka and earlier services start: each import takes seconds.
        reader = ThreadPoolExecutor(1, thread_name_prefix="loading")
        stack.callback(reader.shutdown, wait=False, cancel_futures=True)
        loop = asyncio.get_running_loop()
        openers = {name: loop.run_in_executor(reader, TARGETS[name].load) for name in targets}
        gateway = openers.pop(GATEWAY, None)
        mesh = await stack.enter_async_context(open_mesh(config, targets, database=database))
        for opener in openers.values():
            await stack.enter_async_context((await opener)(config, mesh))
        if config.grpc_reflection:
            mesh.server.add_reflection()
        await mesh.server.start()
        stack.push_async_callback(mesh.server.stop, GRACE_SECONDS)
        # The gateway calls gRPC services and offers none: it opens after the server starts and closes before
        # it stops.
        if gateway:
            await stack.enter_async_context((await gateway)(config, mesh))
        await until_ready(mesh)
        mesh.server.report_health(mesh.missing)
        yield mesh


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
