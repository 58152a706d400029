"""Fixtures for all tests. The real parts start when a test first needs them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "proto" / "gen")) if path not in sys.path]

from mesh.security import as_itself  # noqa: E402
from tests.support.llama import running_llama, smollm2_file  # noqa: E402
from tests.support.loop_thread import LoopThread, SyncGrpcServer  # noqa: E402
from tests.support.parts import (  # noqa: E402
    MIGRATED,
    fetch_parts,
    fresh_database,
    migrated_template,
    running_kafka,
    running_postgres,
)
from tests.support.s3 import S3, running_s3  # noqa: E402
from tests.support.triton import (  # noqa: E402
    Triton,
    add_graph,
    add_nan,
    add_slow,
    add_wrong,
    require_triton,
    running_triton,
)

# An example may take any time on a slow machine. `make test` uses the same examples in every run, so that a
# failure is due to the change; `make test-deep` looks for new ones (--hypothesis-profile=deep).
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("lares", SLOW, derandomize=True)
settings.register_profile("deep", SLOW, max_examples=1000)
settings.load_profile("lares")

# With rich installed, structlog's default renderer takes half a second for each traceback.
PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], PLAIN])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints what tests have recorded as `figures`, also those that ran in other processes."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    for report in reports:
        for name, text in getattr(report, "user_properties", ()):
            if name == "figures" and report.when == "call":
                terminalreporter.write_line(text)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Downloads what the tests need before the first one: a download may exceed a test's time limit."""
    if session.config.option.collectonly:
        return
    if any(item.path.is_relative_to(ROOT / "tests" / "mesh") for item in session.items):
        asyncio.run(fetch_parts())
    if any("smollm2" in getattr(item, "fixturenames", ()) for item in session.items):
        smollm2_file()


@pytest.fixture
def calling_as_itself() -> Iterator[None]:
    """Calls of the test are made as a service of Lares itself."""
    with as_itself():
        yield


@pytest.fixture(scope="module")
def loop_thread() -> Iterator[LoopThread]:
    """The thread on which pytest-grpc's server and its servicers run."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def _grpc_server(
    loop_thread: LoopThread, grpc_interceptors: Sequence[grpc.aio.ServerInterceptor] | None
) -> SyncGrpcServer:
    """Replaces pytest-grpc's own server, which cannot serve async servicers."""
    return SyncGrpcServer(loop_thread, grpc_interceptors or ())


@pytest.fixture(scope="session")
async def kafka_url() -> AsyncIterator[str]:
    """The LARES_BUS_URL of the session's broker. Tests share it, so topics and groups need unique names."""
    async with running_kafka() as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[str]:
    """The URL of the session's server. Tests use a database of it: `postgres_url`."""
    async with running_postgres() as url:
        await migrated_template(url)
        yield url


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The LARES_DATABASE_URL of a new database with all tables, for one test."""
    async with fresh_database(postgres_server, MIGRATED) as url:
        yield url


@pytest.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The LARES_DATABASE_URL of a new database without tables, for one test."""
    async with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The session's S3 server with the bucket `lares`. Tests share it, so prefixes must be unique."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("lares")
        yield server


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of a small language model."""
    return smollm2_file()


@pytest.fixture(scope="session")
async def llama_url(smollm2: Path) -> AsyncIterator[str]:
    """The LARES_REASONER_URL of the session's llama.cpp, with two slots of 4096 tokens each."""
    async with running_llama(smollm2) as url:
        yield url


@pytest.fixture(scope="session")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Triton]:
    """The session's Triton with the models that are added here. A test that stops it must start it again."""
    require_triton()
    scratch = tmp_path_factory.mktemp("triton")
    for add in (add_graph, add_slow, add_nan, add_wrong):
        add(scratch / "models")
    async with running_triton(scratch / "models", scratch) as server:
        yield server
