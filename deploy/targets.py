"""The composition root: the only code that knows every service, and which parts each one needs."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from deploy.opening import open_mesh
from mesh.config import Config
from mesh.mesh import Mesh
from mesh.problems import Invalid, Unavailable
from mesh.tracing import open_tracing

log = structlog.get_logger(__name__)

READY_SECONDS = 120.0
GRACE_SECONDS = 1.0
HEALTH_SECONDS = 2.0

Opener = Callable[[Config, Mesh], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Target:
    """One service: where its `open` is, and whether it needs the database."""

    module: str
    database: bool = False

    def load(self) -> Opener:
        """Imported here, so that a process holds only the code of the targets it runs."""
        opener: Opener = importlib.import_module(self.module).open
        return opener


GATEWAY = "gateway"
# In the order in which they open, those first whose own start takes longest; they close in reverse.
TARGETS: dict[str, Target] = {
    "detect": Target("detect_svc.service"),
    "store": Target("store_svc.service", database=True),
    "reason": Target("reason_svc.service"),
    "ingest": Target("ingest_svc.service"),
    GATEWAY: Target("gateway.service"),
}


def chosen(names: Collection[str]) -> list[str]:
    """The targets of these names in the order of opening; `all`, or no name, is every one."""
    unknown = set(names) - TARGETS.keys() - {"all"}
    if unknown:
        raise Invalid(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", "BAD_TARGET"
        )
    return [name for name in TARGETS if not names or name in names or "all" in names]


@asynccontextmanager
async def open_lares(config: Config, names: Collection[str]) -> AsyncIterator[Mesh]:
    """Everything that `names` need, up and ready. Raises a Problem that says what is missing."""
    targets = chosen(names)
    heed_renamed(config, targets)
    database = any(TARGETS[name].database for name in targets)
    async with AsyncExitStack() as stack:
        name = "lares" if len(targets) == len(TARGETS) else f"lares-{'-'.join(targets)}"
        await stack.enter_async_context(open_tracing(name))
        # The services' code is read while Kafka starts, and while those before open: each takes seconds.
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
        # It offers no gRPC and asks by it: so it opens once there is a server, and closes while there is one.
        if gateway:
            await stack.enter_async_context((await gateway)(config, mesh))
        await until_ready(mesh)
        await stack.enter_async_context(mesh.running("gRPC health", keep_telling(mesh)))
        yield mesh


def heed_renamed(config: Config, targets: Collection[str]) -> None:
    """Says which settings have a new name. Raises Invalid where they were set for detect_svc alone: the
    process that decides now would never see them."""
    moved = [f"{old} is {new} now" for old, new in config.renamed.items()]
    if moved and "detect" in targets and "store" not in targets:
        raise Invalid(
            f"{', '.join(moved)}: store_svc decides what counts, so set it for the process that runs store,"
            " and remove it here",
            "BAD_SETTING",
        )
    for sentence in moved:
        log.warning("a setting has a new name", setting=sentence)


async def until_ready(mesh: Mesh) -> None:
    """Waits for every part of ours to answer; raises Unavailable with the last answers after 120 s."""
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while missing := {part: why for part, why in (await mesh.missing()).items() if part not in mesh.awaited}:
        if mesh.failure.done():
            mesh.failure.result()
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"not ready: {missing}", "NOT_READY")
        await asyncio.sleep(0.05)


async def keep_telling(mesh: Mesh) -> None:
    """Runs for ever: gRPC health says what `/ready` says."""
    while True:
        await mesh.server.tell(await mesh.missing())
        await asyncio.sleep(HEALTH_SECONDS)
