"""A bus on the session's broker; pytest-grpc with async servicers: its server, overridden."""

from collections.abc import AsyncIterator, Iterator

import pytest

from mesh.boundary import Boundary
from mesh.bus import Bus, open_bus
from tests.support.served import LoopThread, Served


@pytest.fixture(scope="module")
async def bus(kafka_url: str) -> AsyncIterator[Bus]:
    """With all the topics."""
    async with open_bus(kafka_url, client_id="test") as bus:
        await bus.create_topics()
        yield bus


@pytest.fixture
def patient_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves a group, or gives partitions away, commits what is done however slow the machine is."""
    for name in ("stream.CLOSE_SECONDS", "intake.REVOKE_SECONDS", "intake.COMMIT_SECONDS"):
        monkeypatch.setattr(f"mesh.bus.{name}", 90.0)


@pytest.fixture(scope="module")
def served() -> Iterator[LoopThread]:
    """The thread that the module's servicers live on."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A private socket: who calls is a sibling, and whoever it names."""
    return f"unix:{tmp_path_factory.mktemp('grpc', numbered=True) / 'socket'}"


@pytest.fixture(scope="module")
def grpc_interceptors() -> list[Boundary]:
    return [Boundary(None)]


@pytest.fixture(scope="module")
def _grpc_server(served: LoopThread, grpc_interceptors: list[Boundary]) -> Served:
    return Served(served, grpc_interceptors)
