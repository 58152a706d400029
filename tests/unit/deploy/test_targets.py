"""The services that a process runs, and failures of its workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from deploy.targets import TARGETS, Opener, chosen, open_lares, report_renamed_settings, until_ready
from mesh.config import Config, load_config
from mesh.mesh import Mesh
from mesh.problems import Internal, Invalid, Unavailable
from mesh.rpc.health import Missing


def bare_mesh() -> Mesh:
    """A mesh without parts, for tests that do not use any."""
    part: Any = None
    return Mesh(part, part, part, part, part, part)


@pytest.mark.parametrize("names", [[], ["all"], ["all", "store"]])
def test_all_targets_are_the_default(names: list[str]) -> None:
    assert chosen(names) == list(TARGETS)


def test_targets_are_in_the_order_in_which_they_open() -> None:
    assert chosen(["gateway", "store"]) == ["store", "gateway"]


def test_an_unknown_target_is_reported() -> None:
    with pytest.raises(Invalid, match="no such target: kitchen"):
        chosen(["store", "kitchen"])


async def test_a_failed_worker_is_the_failure_of_the_process() -> None:
    mesh = bare_mesh()

    async def work() -> None:
        raise ValueError("a bug")

    async with mesh.running("store sweep", work()):
        await asyncio.wait([mesh.failure], timeout=90)
    with pytest.raises(Internal, match=r"store sweep.*a bug"):
        mesh.failure.result()


async def test_a_worker_that_returns_is_a_failure() -> None:
    mesh = bare_mesh()

    async def work() -> None:
        return

    async with mesh.running("reason worker", work()):
        await asyncio.wait([mesh.failure], timeout=90)
    with pytest.raises(Internal, match="returned before its block ended"):
        mesh.failure.result()


@pytest.mark.parametrize("ends_first", [True, False])
async def test_a_worker_that_ends_cancelled_within_its_block_is_a_failure(
    ends_first: bool,
) -> None:
    mesh = bare_mesh()

    async def work() -> None:
        # A call of another loop or a task of a library can end like this.
        raise asyncio.CancelledError

    async with mesh.running("reason worker", work()):
        if ends_first:
            await asyncio.wait([mesh.failure], timeout=90)
        else:
            # The block ends in the same step as the worker.
            await asyncio.sleep(0)
    with pytest.raises(Internal, match=r"reason worker.*cancelled") as failed:
        mesh.failure.result()
    assert failed.value.reason == "WORKER_FAILED"


async def test_a_worker_that_fails_while_its_block_ends_is_a_failure() -> None:
    mesh = bare_mesh()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("a bug")

    async with mesh.running("reason worker", work()):
        await asyncio.sleep(0)
    with pytest.raises(Internal, match=r"reason worker.*a bug"):
        mesh.failure.result()


async def test_a_problem_of_a_worker_is_raised_unchanged() -> None:
    mesh = bare_mesh()

    async def work() -> None:
        raise Unavailable("the disk is full", "DISK_FULL")

    async with mesh.running("ingest", work()):
        await asyncio.wait([mesh.failure], timeout=90)
    with pytest.raises(Unavailable, match="the disk is full"):
        mesh.failure.result()


async def test_workers_end_with_their_block() -> None:
    mesh = bare_mesh()
    ended: list[str] = []

    @asynccontextmanager
    async def noted() -> AsyncIterator[None]:
        try:
            yield
        finally:
            ended.append("work")

    async def work() -> None:
        async with noted():
            await asyncio.Event().wait()

    async with mesh.running("worker", work()):
        await asyncio.sleep(0)
    assert ended == ["work"]
    assert not mesh.failure.done()


async def test_until_ready_reports_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.targets.READY_SECONDS", 0.2)
    mesh = bare_mesh()

    async def down() -> None:
        raise Unavailable("no broker answers", "BUS_DOWN")

    async def up() -> None:
        return

    mesh.checks |= {"kafka": down, "postgres": up}
    assert await mesh.missing() == {"kafka": "no broker answers"}
    with pytest.raises(Unavailable, match="no broker answers"):
        await until_ready(mesh)
    mesh.checks["kafka"] = up
    await until_ready(mesh)


async def test_a_part_that_comes_later_is_not_waited_for() -> None:
    """As the embedded model server, which may have to load a model for minutes."""
    mesh = bare_mesh()

    async def down() -> None:
        raise Unavailable("the model loads", "LOADING")

    mesh.checks["detector"] = down
    mesh.awaited.add("detector")
    await until_ready(mesh)
    assert list(await mesh.missing()) == ["detector"]


async def test_a_check_that_hangs_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.mesh.CHECK_SECONDS", 0.1)
    mesh = bare_mesh()

    async def hangs() -> None:
        await asyncio.Event().wait()

    mesh.checks["kafka"] = hangs
    assert await mesh.missing() == {"kafka": "TimeoutError"}


class FakeServer:
    """Records when it starts and stops, and from when on it reports its health."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.missing: Missing | None = None
        self.grace: float | None = None

    async def start(self) -> None:
        self.notes.append("server started")

    async def stop(self, grace: float) -> None:
        self.notes.append("server stopped")
        self.grace = grace

    def report_health(self, missing: Missing) -> None:
        self.missing = missing

    def drain(self) -> None:
        self.notes.append("draining")


@dataclass
class FakeTarget:
    """Records when it opens and closes."""

    name: str
    notes: list[str]
    database: bool = False

    def load(self) -> Opener:
        return self.open

    @asynccontextmanager
    async def open(self, config: Config, mesh: Mesh) -> AsyncIterator[None]:
        self.notes.append(f"{self.name} opened")
        yield
        self.notes.append(f"{self.name} closed")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The server of the Lares that the test opens. Its services are fakes that record to the same notes."""
    server = FakeServer([])
    mesh = bare_mesh()
    mesh.server = cast(Any, server)

    @asynccontextmanager
    async def open_mesh(*_: object, **__: object) -> AsyncIterator[Mesh]:
        yield mesh

    monkeypatch.setattr("deploy.targets.open_mesh", open_mesh)
    for name in TARGETS:
        monkeypatch.setitem(TARGETS, name, FakeTarget(name, server.notes))
    return server


async def test_the_gateway_closes_before_the_server_that_it_calls(server: FakeServer) -> None:
    async with open_lares(Config(), ["store", "gateway"]):
        pass
    assert server.notes == [
        *("store opened", "server started", "gateway opened", "draining"),
        *("gateway closed", "server stopped", "store closed"),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"mesh_listen": "127.0.0.1:1"}, [1.0]),  # siblings need a moment
        ({"mesh_listen": "127.0.0.1:1", "drain_seconds": 0}, []),
        ({"drain_seconds": 7.5}, [7.5]),
    ],
)
async def test_a_process_that_ends_answers_for_a_while_although_it_is_not_ready(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: list[float]
) -> None:
    waits = list[float]()
    async with open_lares(Config(**settings), ["store"]) as mesh:

        async def sleep(seconds: float) -> None:
            assert (mesh.readiness.stopping, server.notes[-1]) == (True, "draining")
            waits.append(seconds)

        monkeypatch.setattr("deploy.targets.asyncio", Mock(wraps=asyncio, sleep=sleep))
    assert waits == expected
    assert mesh.readiness.stopping
    assert server.grace == 5.0


async def test_a_process_that_failed_does_not_answer_for_longer(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = AsyncMock()
    async with open_lares(Config(drain_seconds=300), ["store"]) as mesh:
        monkeypatch.setattr("deploy.targets.asyncio", Mock(wraps=asyncio, sleep=sleep))
        mesh.failure.set_exception(Internal("a bug", "WORKER_FAILED"))
        assert mesh.failure.exception()
    sleep.assert_not_awaited()
    assert server.notes[-1] == "store closed"


async def test_a_lares_without_a_gateway_starts_its_server(server: FakeServer) -> None:
    async with open_lares(Config(), ["store"]):
        pass
    assert server.notes == [
        "store opened",
        "server started",
        "draining",
        "server stopped",
        "store closed",
    ]


async def test_grpc_health_reports_what_is_missing(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down() -> None:
        raise Unavailable("no server answers", "DATABASE_UNAVAILABLE")

    async with open_lares(Config(), ["store"]) as mesh:
        assert server.missing is not None
        assert not await server.missing(None)
        mesh.checks |= {"postgres": down, "kafka": down}
        monkeypatch.setattr("mesh.readiness.FRESH_SECONDS", 0.0)
        mesh.readiness._fresh_until = 0.0
        assert list(await server.missing(["postgres"])) == ["postgres"]
        assert list(await server.missing(None)) == ["postgres", "kafka"]


async def test_grpc_health_reports_the_process_only_after_everything_was_ready(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, list[str]]()

    async def never(_: Mesh) -> None:
        assert server.missing
        seen["whole"], seen["service"] = list(await server.missing(None)), list(await server.missing([]))
        raise Unavailable("not ready", "NOT_READY")

    monkeypatch.setattr("deploy.targets.until_ready", never)
    with pytest.raises(Unavailable):
        async with open_lares(Config(), ["store"]):
            pass
    assert "server started" in server.notes
    # Siblings that start at the same time can call each other.
    assert seen == {"whole": ["start"], "service": []}


@pytest.mark.parametrize("targets", [["all"], ["store"], ["detect", "store"], ["gateway"]])
def test_old_names_of_settings_are_aliases_with_a_warning(
    targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARES_DETECT_THRESHOLD", "0.25")
    log = Mock()
    monkeypatch.setattr("deploy.targets.log", log)
    config = load_config()
    report_renamed_settings(config, chosen(targets))
    assert config.watch_threshold == 0.25
    log.warning.assert_called_once_with(
        "setting was renamed", setting="LARES_DETECT_THRESHOLD is now LARES_WATCH_THRESHOLD"
    )


async def test_old_names_are_refused_by_detect_without_store(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARES_DETECT_CLASSES", "person")
    monkeypatch.setenv("LARES_DETECT_FAST_CLASSES", "")
    renamed = "LARES_DETECT_CLASSES is now LARES_WATCH_CLASSES, LARES_DETECT_FAST_CLASSES is .*"
    with pytest.raises(Invalid, match=f"{renamed}process that runs store") as refused:
        async with open_lares(load_config(home=tmp_path), ["detect", "ingest"]):
            pass
    assert refused.value.reason == "BAD_SETTING"


def test_settings_that_were_not_renamed_give_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Mock()
    monkeypatch.setattr("deploy.targets.log", log)
    monkeypatch.setenv("LARES_WATCH_THRESHOLD", "0.25")
    monkeypatch.setenv("LARES_DETECT_BATCH", "4")
    report_renamed_settings(load_config(), ["detect"])
    log.warning.assert_not_called()


def test_a_service_whose_packages_are_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_sqlalchemy(_: str) -> None:
        raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")

    monkeypatch.setattr("deploy.targets.importlib.import_module", without_sqlalchemy)
    with pytest.raises(
        Unavailable, match=r"store_svc is not installed, sqlalchemy is missing: .*lares\[store\]"
    ):
        TARGETS["store"].load()
