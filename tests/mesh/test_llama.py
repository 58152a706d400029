"""llama.cpp's own server as our child, with a small model."""

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
from mesh.processes.parent_death import start_time
from tests.support.lares import ROOT
from tests.support.waiting import until


class Asking:
    """A client of the server behind LARES_REASONER_URL."""

    def __init__(self, url: str) -> None:
        at = httpx.URL(url.removeprefix("openai+"))
        self.key = at.password
        self._client = httpx.AsyncClient(
            base_url=at.copy_with(userinfo=b"", query=None, path="/"), timeout=90
        )

    async def status(self, path: str, **headers: str) -> int:
        """Of a GET; 0 where nobody listens."""
        try:
            return (await self._client.get(path, headers=headers)).status_code
        except httpx.TransportError:
            return 0

    async def until_read(self) -> None:
        """Until the model is."""
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
async def asking(url: str) -> Asking:
    asking = Asking(url)
    await asking.until_read()
    return asking


async def test_it_answers_and_shows_what_a_judge_asks_for(asking: Asking) -> None:
    answer = (await asking.ask()).json()
    assert answer["choices"][0]["message"]["content"]
    props = await asking.json("/props")
    assert isinstance(props, dict)
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] == 512
    slots = await asking.json("/slots")
    assert isinstance(slots, list)
    assert len(slots) == 2
    models = await asking.json("/v1/models")
    assert isinstance(models, dict)
    assert [card["id"] for card in models["data"]] == ["SmolLM2-135M-Instruct.Q4_1"]
    assert await asking.status("/metrics", **asking.authorized) == 200
    assert await asking.status("/") == 404  # no page of its own


async def test_only_who_has_the_key_is_answered(asking: Asking, home: Path) -> None:
    for path in ("/props", "/slots", "/metrics", "/v1/models"):
        assert await asking.status(path) == 401, path
        assert await asking.status(path, authorization="Bearer guess") == 401, path
    server = psutil.Process(pid_of(home))
    assert asking.key
    told = [word for one in [server, *server.children(recursive=True)] for word in one.cmdline()]
    assert "SmolLM2" in " ".join(told)
    assert asking.key not in " ".join(told)
    assert asking.key not in (home / "run" / "llama.log").read_text()


async def test_it_listens_on_loopback_alone(asking: Asking, home: Path) -> None:
    server = psutil.Process(pid_of(home))
    listening = [
        connection.laddr.ip
        for one in [server, *server.children(recursive=True)]
        for connection in one.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


async def test_it_comes_back_after_kill_9_at_the_same_url(asking: Asking, home: Path) -> None:
    first = pid_of(home)
    os.kill(first, signal.SIGKILL)
    await until(lambda: start_time(first) is None)
    await asking.until_read()
    answer = (await asking.ask()).json()
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
        asking = Asking(url)
        assert await asking.status("/health")
        pid = pid_of(tmp_path)
        born = start_time(pid)
        assert born
    finally:
        parent.kill()
        parent.communicate()
    await until(lambda: start_time(pid) != born)
    assert await asking.status("/health") == 0


async def test_a_broken_model_is_a_clear_error(
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
