"""`llama:` URLs, and when the server counts as ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded import llama
from deploy.embedded.llama import AUTOMATIC, LlamaModel, LlamaProcess, open_llama, parse_llama_url
from mesh.ports import free_port
from mesh.problems import Invalid, Unavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Nemotron 3 Nano.Q4_K_M.gguf"
    path.write_bytes(b"GGUF and more")
    return path


def test_a_path_alone_has_the_default_options(file: Path) -> None:
    model = parse_llama_url(f"llama:{file}")
    assert model == LlamaModel(file, context=8192, parallel=2, threads=AUTOMATIC)
    assert model.name == "Nemotron 3 Nano.Q4_K_M"


def test_relative_paths_and_the_home_folder_are_resolved(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.chdir(file.parent)
    assert parse_llama_url(f"llama:~/{file.name}").path == parse_llama_url(f"llama:{file.name}").path == file


def test_options_are_read(file: Path) -> None:
    model = parse_llama_url(f"llama:{file}?ctx=16384&parallel=4&threads=6&family=nemotron-3-nano")
    assert model == LlamaModel(file, 16384, 4, 6, "nemotron-3-nano")


@pytest.mark.parametrize(
    "query",
    [
        "ctx=",
        "ctx=many",
        "ctx=-1",
        "ctx=511",
        "parallel=0",
        "parallel=65",
        "threads=0",
        "ctx=٤٠٩٦",
        "slots=2",
    ],
)
def test_a_wrong_option_is_named_in_the_error(file: Path, query: str) -> None:
    with pytest.raises(Invalid, match=f"LARES_REASONER_URL: .*{query.partition('=')[0]}") as refused:
        parse_llama_url(f"llama:{file}?{query}")
    assert refused.value.reason == "BAD_SETTING"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("", "cannot read"),
        (".", "directory"),
        ("/nowhere/x.gguf", "No such file"),
        ("zip.gguf", "not a GGUF"),
    ],
)
def test_a_file_that_cannot_be_served_is_named_in_the_error(
    place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zip.gguf").write_bytes(b"PK")
    with pytest.raises(Invalid, match=f"LARES_REASONER_URL: .*{why}") as refused:
        parse_llama_url(f"llama:{place}?ctx=4096")
    assert refused.value.reason == "BAD_SETTING"


async def test_without_llama_cpp_the_error_says_what_to_install(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"`make \.venv/\.installed` installs it") as refused:
        async with open_llama(tmp_path, parse_llama_url(f"llama:{file}")):
            pass
    assert refused.value.reason == "NO_LLAMA"


@asynccontextmanager
async def answering(server: LlamaProcess, line: bytes) -> AsyncIterator[None]:
    """Listens in place of llama.cpp and answers `line`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(line)
        writer.close()

    async with await asyncio.start_server(answer, llama.HOST, server.port):
        yield


@pytest.fixture
def server(file: Path) -> LlamaProcess:
    return LlamaProcess(parse_llama_url(f"llama:{file}"), free_port(llama.HOST))


async def test_a_loaded_model_is_ready(server: LlamaProcess) -> None:
    async with answering(server, b"HTTP/1.1 200 OK\r\n\r\n"):
        assert await server.ready()


async def test_a_model_that_takes_long_to_load_counts_as_ready(
    server: LlamaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(server, b"HTTP/1.1 503 Service Unavailable\r\n\r\n"):
        assert not await server.ready()
        monkeypatch.setattr(llama, "SETTLE_SECONDS", 0.0)
        assert await server.ready()
    await server.prepare()  # as for a restart
    monkeypatch.setattr(llama, "SETTLE_SECONDS", 60.0)
    async with answering(server, b"HTTP/1.1 503 Service Unavailable\r\n\r\n"):
        assert not await server.ready()


@pytest.mark.parametrize("line", [b"", b"\x16\x03\x01", b"SSH-2.0-OpenSSH\r\n"])
async def test_a_server_that_does_not_answer_with_http_is_not_ready(
    server: LlamaProcess, line: bytes
) -> None:
    async with answering(server, line):
        with pytest.raises(OSError, match="not HTTP"):
            await server.ready()
    with pytest.raises(OSError, match="Connect call failed"):
        await server.ready()
