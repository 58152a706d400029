"""llama.cpp's server as a child of ours: a GGUF file, served on loopback to whoever has the key."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from deploy.embedded.home import private_folder
from mesh.ports import free_port, wait_until_free
from mesh.problems import Invalid, Unavailable
from mesh.processes.supervisor import ChildSpec, open_child

SCHEME = "llama:"
SCRIPT = Path(__file__).with_name("llama_server.py")
HOST = "127.0.0.1"
MAGIC = b"GGUF"
READY_SECONDS = 120.0
# A file that llama.cpp cannot read ends it within moments; after these, it is loading what it can.
SETTLE_SECONDS = 3.0
AUTOMATIC = -1
# Threads that wait for each other sleep. Where they spin, as they do by default, and the detector has one of
# their cores, an answer takes ten times as long.
SLEEPING = ("OMP_WAIT_POLICY", "passive")
# Bounds of the numbers, and what they are when not given.
NUMBERS = {"ctx": (512, 1 << 24, 8192), "parallel": (1, 64, 2), "threads": (1, 1024, AUTOMATIC)}


@dataclass(frozen=True)
class Model:
    """One GGUF file and how to serve it. `context` tokens are divided among `parallel` slots; `threads` may
    be AUTOMATIC; `family` is for the judge, empty when it shall see by itself."""

    path: Path
    context: int
    parallel: int
    threads: int = AUTOMATIC
    family: str = ""

    @property
    def name(self) -> str:
        return self.path.stem


def model_of(url: str) -> Model:
    """What `llama:/path/model.gguf[?ctx=&parallel=&threads=&family=]` names; raises Invalid BAD_SETTING."""
    place, _, query = url.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - NUMBERS.keys() - {"family"}:
        raise _bad(f"there is no option {', '.join(sorted(unknown))}; there are {', '.join(NUMBERS)}, family")
    context, parallel, threads = (_number(name, options.get(name)) for name in NUMBERS)
    return Model(_gguf(Path(place).expanduser()), context, parallel, threads, options.get("family", ""))


@asynccontextmanager
async def open_llama(home: Path, model: Model) -> AsyncIterator[str]:
    """`openai+http://:<key>@127.0.0.1:port/v1?...` of a server that reads the model, which can take minutes;
    the same after each restart. Raises Unavailable: NO_LLAMA, or CHILD_NOT_READY with the end of its log."""
    if find_spec("xllamacpp") is None:
        hint = "`make .venv/.installed` installs it; or set LARES_REASONER_URL"
        raise Unavailable(f"llama.cpp is not installed: {hint}", "NO_LLAMA")
    server = _Server(model, free_port(HOST))
    key = secrets.token_urlsafe(24)
    part = ChildSpec(
        name="llama",
        folder=private_folder(home, "run"),
        prepare=server.prepare,
        ready=server.ready,
        ready_seconds=READY_SECONDS,
        environment=(("LLAMA_KEY", key), SLEEPING),
    )
    options = {"server": "llama.cpp", "model": model.name}
    if model.family:
        options["family"] = model.family
    async with open_child(part):
        yield f"openai+http://:{key}@{HOST}:{server.port}/v1?{urlencode(options, quote_via=quote)}"


class _Server:
    """One model on one port; the process that serves it may be another one after a death."""

    def __init__(self, model: Model, port: int) -> None:
        self.port = port
        self._model = model
        self._loading_since: float | None = None

    async def prepare(self) -> Sequence[str]:
        await wait_until_free(HOST, self.port)
        self._loading_since = None
        numbers = {
            "port": self.port,
            "context": self._model.context,
            "parallel": self._model.parallel,
            "threads": self._model.threads,
        }
        options = [f"--{name}={number}" for name, number in numbers.items()]
        name = f"--name={self._model.name}"
        return [sys.executable, "-I", str(SCRIPT), name, *options, "--", str(self._model.path)]

    async def ready(self) -> bool:
        """The model is read, or is being read for longer than a bad file would take to fail."""
        if await self._health() == 200:
            return True
        now = asyncio.get_running_loop().time()
        if self._loading_since is None:
            self._loading_since = now
        return now - self._loading_since > SETTLE_SECONDS

    async def _health(self) -> int:
        """The status of its answer; raises OSError while there is none."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            words = (await reader.readline()).split()
        finally:
            writer.close()
        if len(words) < 2 or not words[1].isdigit():
            raise ConnectionError("no HTTP answer")
        return int(words[1])


def _number(name: str, text: str | None) -> int:
    least, most, default = NUMBERS[name]
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise _bad(f"{name}={text} is no number from {least} to {most}")
    return int(text)


def _gguf(path: Path) -> Path:
    """The path, absolute; raises Invalid where there is no GGUF file that we may read."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise _bad(f"cannot read {path}: {error.strerror}") from None
    if magic != MAGIC:
        raise _bad(f"{path} is no GGUF file")
    return path.absolute()


def _bad(what: str) -> Invalid:
    return Invalid(f"LARES_REASONER_URL: {what}", "BAD_SETTING")
