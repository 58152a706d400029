"""What every test may ask for: a real Kafka and a real PostgreSQL, started when first asked for."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "proto" / "gen")) if path not in sys.path]

from mesh.security import as_itself  # noqa: E402
from tests.support.llama import running_llama, smollm2_file  # noqa: E402
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first test, whose time limit it would exceed on a slow line."""
    if session.config.option.collectonly:
        return
    if any(item.path.is_relative_to(ROOT / "tests" / "mesh") for item in session.items):
        asyncio.run(fetch_parts())
    if any("smollm2" in getattr(item, "fixturenames", ()) for item in session.items):
        smollm2_file()


@pytest.fixture
def calling_as_itself() -> Iterator[None]:
    """The test calls siblings as a service of Lares does."""
    with as_itself():
        yield


@pytest.fixture(scope="session")
async def kafka_url() -> AsyncIterator[str]:
    """`kafka://user:password@127.0.0.1:port` of the session's broker: name your topics and groups apart."""
    async with running_kafka() as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[str]:
    """The session's server; use `postgres_url`."""
    async with running_postgres() as url:
        await migrated_template(url)
        yield url


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """`postgresql+asyncpg://...` of a database of this test's own, with the tables of this version."""
    async with fresh_database(postgres_server, MIGRATED) as url:
        yield url


@pytest.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The same without any table."""
    async with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The session's S3 server with a bucket `lares`: use a prefix of your own."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("lares")
        yield server


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A small LLM, as a GGUF file."""
    return smollm2_file()


@pytest.fixture(scope="session")
async def llama_url(smollm2: Path) -> AsyncIterator[str]:
    """LARES_REASONER_URL of the session's llama.cpp, with two slots of 4096 tokens."""
    async with running_llama(smollm2) as url:
        yield url


@pytest.fixture(scope="session")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Triton]:
    """The session's, with the models `rtdetrv2-tiny`, `slow` and `wrong`. Who stops it starts it again."""
    require_triton()
    scratch = tmp_path_factory.mktemp("triton")
    for add in (add_graph, add_slow, add_nan, add_wrong):
        add(scratch / "models")
    async with running_triton(scratch / "models", scratch) as server:
        yield server
