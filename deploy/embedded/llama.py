"""An embedded llama.cpp server: one GGUF file, served on loopback to clients that have its key."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

from deploy.embedded.home import private_folder
from mesh.ports import free_port, wait_until_free
from mesh.problems import Invalid, Unavailable
from mesh.processes.supervisor import ChildSpec, open_child
from mesh.url_options import OptionForm, number, read_options

SCHEME = "llama:"
SCRIPT = Path(__file__).with_name("llama_server.py")
HOST = "127.0.0.1"
MAGIC = b"GGUF"
READY_SECONDS = 120.0
# llama.cpp ends within moments if it cannot read the file. After this time it is loading the model.
SETTLE_SECONDS = 3.0
AUTOMATIC = -1
# Makes threads sleep while they wait for each other. By default they spin, and if the detector uses one of
# their cores, an answer takes ten times as long.
SLEEPING = ("OMP_WAIT_POLICY", "passive")
OPTIONS: Mapping[str, OptionForm] = {
    "ctx": number(512, 1 << 24),
    "parallel": number(1, 64),
    "threads": number(1, 1024),
    "family": str,
}


@dataclass(frozen=True)
class LlamaModel:
    """One GGUF file and how to serve it. `context` tokens are divided among `parallel` slots. `threads` may
    be AUTOMATIC. `family` is an option for the reasoner, which decides by
    the model's name if it is empty."""

    path: Path
    context: int = 8192
    parallel: int = 2
    threads: int = AUTOMATIC
    family: str = ""

    @property
    def name(self) -> str:
        return self.path.stem


def parse_llama_url(url: str) -> LlamaModel:
    """Parses `llama:/path/model.gguf[?ctx=&parallel=&threads=&family=]`. Raises Invalid BAD_SETTING, also if
    the file is not a GGUF file."""
    path, _, query = url.removeprefix(SCHEME).partition("?")
    try:
        options = read_options(query, OPTIONS)
    except ValueError as error:
        raise _bad_setting(str(error)) from None
    if "ctx" in options:
        options["context"] = options.pop("ctx")
    return LlamaModel(_gguf_file(Path(path).expanduser()), **options)


@asynccontextmanager
async def open_llama(home: Path, model: LlamaModel) -> AsyncIterator[str]:
    """Serves the model and yields `openai+http://:<key>@127.0.0.1:port/v1?...`, which stays valid when the
    server is restarted. Loading the model can take minutes after that.

    Raises Unavailable: NO_LLAMA if llama.cpp is not installed, or CHILD_NOT_READY with the end of its log.
    """
    if find_spec("xllamacpp") is None:
        hint = "`make .venv/.installed` installs it; or set LARES_REASONER_URL"
        raise Unavailable(f"llama.cpp is not installed: {hint}", "NO_LLAMA")
    process = LlamaProcess(model, free_port(HOST))
    key = secrets.token_urlsafe(24)
    part = ChildSpec(
        name="llama",
        folder=private_folder(home, "run"),
        prepare=process.prepare,
        ready=process.ready,
        ready_seconds=READY_SECONDS,
        environment=(("LLAMA_KEY", key), SLEEPING),
    )
    options = {"server": "llama.cpp", "model": model.name}
    if model.family:
        options["family"] = model.family
    async with open_child(part):
        yield f"openai+http://:{key}@{HOST}:{process.port}/v1?{urlencode(options, quote_via=quote)}"


class LlamaProcess:
    """The command and the readiness check of the server for one model on one port."""

    def __init__(self, model: LlamaModel, port: int) -> None:
        self.port = port
        self._model = model
        self._loading_since: float | None = None

    async def prepare(self) -> Sequence[str]:
        """Returns the command, once the port is free."""
        await wait_until_free(HOST, self.port)
        self._loading_since = None
        numbers = {
            "port": self.port,
            "context": self._model.context,
            "parallel": self._model.parallel,
            "threads": self._model.threads,
        }
        options = [f"--{name}={value}" for name, value in numbers.items()]
        name = f"--name={self._model.name}"
        return [sys.executable, "-I", str(SCRIPT), name, *options, "--", str(self._model.path)]

    async def ready(self) -> bool:
        """Whether the model is loaded, or has been loading for longer than a broken file would take to fail.
        Raises OSError while the server does not respond."""
        if await self._health_status() == 200:
            return True
        now = asyncio.get_running_loop().time()
        if self._loading_since is None:
            self._loading_since = now
        return now - self._loading_since > SETTLE_SECONDS

    async def _health_status(self) -> int:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            words = (await reader.readline()).split()
        finally:
            writer.close()
        if len(words) < 2 or not words[1].isdigit():
            raise ConnectionError("the response is not HTTP")
        return int(words[1])


def _gguf_file(path: Path) -> Path:
    """Returns the absolute path. Raises Invalid if there is no GGUF file that can be read."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise _bad_setting(f"cannot read {path}: {error.strerror}") from None
    if magic != MAGIC:
        raise _bad_setting(f"{path} is not a GGUF file")
    return path.absolute()


def _bad_setting(what: str) -> Invalid:
    return Invalid(f"LARES_REASONER_URL: {what}", "BAD_SETTING")
