"""A real llama.cpp server as a child of Lares, with a small model."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.embedded import llama
from deploy.embedded.llama import LlamaModel, open_llama
from mesh.problems import Unavailable
from mesh.processes.child_process import start_time
from tests.support.lares import ROOT
from tests.support.waiting import until


class LlamaClient:
    """A client of the server at an `openai+http` URL."""

    def __init__(self, url: str) -> None:
        at = httpx.URL(url.removeprefix("openai+"))
        self.key = at.password
        self._client = httpx.AsyncClient(
            base_url=at.copy_with(userinfo=b"", query=None, path="/"), timeout=90
        )

    async def status(self, path: str, **headers: str) -> int:
        """Returns the status of a GET; 0 if there is no server."""
        try:
            return (await self._client.get(path, headers=headers)).status_code
        except httpx.TransportError:
            return 0

    async def until_loaded(self) -> None:
        """Waits until the model is loaded."""
        deadline = time.monotonic() + 90
        while await self.status("/health") != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def ask(self, text: str = "Say yes.") -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0}
        return await self._client.post("/v1/chat/completions", json=body, headers=self.authorized)

    @property
    def authorized(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def json(self, path: str) -> object:
        return (await self._client.get(path, headers=self.authorized)).json()


def pid_of(home: Path) -> int:
    return int((home / "run" / "llama.pid").read_text().split()[0])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llama") / "home"


@pytest.fixture(scope="module")
async def url(home: Path, smollm2: Path) -> AsyncIterator[str]:
    async with open_llama(home, LlamaModel(smollm2, context=1024, parallel=2)) as served:
        yield served


@pytest.fixture
async def client(url: str) -> LlamaClient:
    client = LlamaClient(url)
    await client.until_loaded()
    return client


async def test_it_answers_and_describes_itself(client: LlamaClient) -> None:
    answer = (await client.ask()).json()
    assert answer["choices"][0]["message"]["content"]
    props = await client.json("/props")
    assert isinstance(props, dict)
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] == 512
    slots = await client.json("/slots")
    assert isinstance(slots, list)
    assert len(slots) == 2
    models = await client.json("/v1/models")
    assert isinstance(models, dict)
    assert [card["id"] for card in models["data"]] == ["SmolLM2-135M-Instruct.Q4_1"]
    assert await client.status("/metrics", **client.authorized) == 200
    assert await client.status("/") == 404  # its web page is switched off


async def test_only_requests_with_the_key_are_answered(client: LlamaClient, home: Path) -> None:
    for path in ("/props", "/slots", "/metrics", "/v1/models"):
        assert await client.status(path) == 401, path
        assert await client.status(path, authorization="Bearer guess") == 401, path
    server = psutil.Process(pid_of(home))
    assert client.key
    arguments = [word for one in [server, *server.children(recursive=True)] for word in one.cmdline()]
    assert "SmolLM2" in " ".join(arguments)
    assert client.key not in " ".join(arguments)
    assert client.key not in (home / "run" / "llama.log").read_text()


async def test_it_listens_on_loopback_only(client: LlamaClient, home: Path) -> None:
    server = psutil.Process(pid_of(home))
    listening = [
        connection.laddr.ip
        for one in [server, *server.children(recursive=True)]
        for connection in one.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


async def test_it_is_restarted_at_the_same_url_after_kill_9(client: LlamaClient, home: Path) -> None:
    first = pid_of(home)
    os.kill(first, signal.SIGKILL)
    await until(lambda: start_time(first) is None)
    await client.until_loaded()
    answer = (await client.ask()).json()
    assert answer["choices"][0]["message"]["content"]
    assert pid_of(home) != first


async def test_it_dies_with_a_killed_parent(tmp_path: Path, smollm2: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.support.llama", str(tmp_path)],
        stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert parent.stdout
        url = (await asyncio.wait_for(asyncio.to_thread(parent.stdout.readline), 90)).decode().strip()
        client = LlamaClient(url)
        assert await client.status("/health")
        pid = pid_of(tmp_path)
        started = start_time(pid)
        assert started
    finally:
        parent.kill()
        parent.communicate()
    await until(lambda: start_time(pid) != started)
    assert await client.status("/health") == 0


async def test_a_broken_model_stops_the_start_with_the_end_of_the_log(
    tmp_path: Path, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama, "SETTLE_SECONDS", 90.0)
    monkeypatch.setattr(llama, "READY_SECONDS", 120.0)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2.read_bytes()[:1_000_000])
    with pytest.raises(Unavailable, match="llama ended") as refused:
        async with open_llama(tmp_path, LlamaModel(broken, 512, 1)):
            pass
    assert refused.value.reason == "CHILD_NOT_READY"
    assert str(broken) in refused.value.message
    assert not (tmp_path / "run" / "llama.pid").exists()
