"""A real Triton server as a child: the one in `nvidia-pytriton`, Python backend, in a venv of its own."""

import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import psutil
import pytest

from tests.support.lares import ROOT, free_ports

ENVIRONMENT = ROOT / ".venv-triton-server"
MODELS = Path(__file__).parent / "triton_models"
TINY = ROOT / "tests" / "fixtures" / "rtdetrv2-tiny.onnx"
START_SECONDS = 90.0
SHARED_MEMORY = Path("/dev/shm")

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: {batch}
input [{{ name: "images" data_type: {dtype} dims: [{dims}] }}]
output [
  {{ name: "scores" data_type: TYPE_FP32 dims: [{queries}] }},
  {{ name: "labels" data_type: TYPE_INT32 dims: [{queries}] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [{queries}, 4] }}
]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{ {batching} }}
{parameters}
"""
QUEUE_OF_FOUR = """default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 500000
  allow_timeout_override: true max_queue_size: 4 }"""


def require_triton() -> None:
    """Skips where there is no wheel of it; fails where there is one that was not installed."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("Triton's wheel is for Linux on x86-64 only")
    assert (ENVIRONMENT / ".installed").exists(), "run `make .venv-triton-server/.installed` first"


def said_by(graph: Path) -> dict[str, str]:
    """`name`, `digest` and `labels` of an ONNX file."""
    import onnxruntime  # here, because only this function needs its 50 MB

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def add_graph(
    repository: Path, name: str = "rtdetrv2-tiny", graph: Path = TINY, threads: int = 1, **said: str
) -> None:
    """The tiny RT-DETRv2 (or `graph`), as a model of that name that says of itself what the file says, or
    `said`."""
    import onnxruntime  # here, because only this function needs its 50 MB

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    words = {**session.get_modelmeta().custom_metadata_map, **said, "threads": str(threads)}
    side, queries = session.get_inputs()[0].shape[1], session.get_outputs()[0].shape[1]
    _add(repository, name, "onnx_model.py", words, batch=8, dims=f"{side}, {side}, 3", queries=queries)
    shutil.copy(graph, repository / name / "1" / "model.onnx")


def add_slow(repository: Path) -> None:
    """A model "slow": 300 ms a batch of two, four more may queue, for half a second each."""
    words = {"name": "slow", "digest": "ab" * 32, "labels": json.dumps(["person"])}
    _add(
        repository,
        "slow",
        "slow_model.py",
        words,
        batch=2,
        dims="32, 32, 3",
        queries=1,
        batching=QUEUE_OF_FOUR,
    )


def add_dazed(repository: Path) -> None:
    """A model "dazed", whose numbers are none; one "dazzled", where only a blank picture has any."""
    for name in ("dazed", "dazzled"):
        words = {"name": name, "digest": "ab" * 32, "labels": json.dumps(["person"])}
        _add(repository, name, "nan_model.py", words, batch=8, dims="32, 32, 3", queries=1)


def add_wrong(repository: Path) -> None:
    """A model "wrong": planes of floats, and silent about its labels."""
    words = {"name": "wrong", "digest": "ab" * 32}
    _add(
        repository,
        "wrong",
        "slow_model.py",
        words,
        batch=8,
        dims="3, 160, 160",
        queries=30,
        dtype="TYPE_FP32",
    )


def _add(
    repository: Path,
    name: str,
    script: str,
    said: Mapping[str, str],
    *,
    batch: int,
    dims: str,
    queries: int,
    dtype: str = "TYPE_UINT8",
    batching: str = "max_queue_delay_microseconds: 3000",
) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODELS / script, version / "model.py")
    parameters = "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'
        for key, value in said.items()
    )
    config = CONFIG.format(
        name=name,
        batch=batch,
        dtype=dtype,
        dims=dims,
        queries=queries,
        batching=batching,
        parameters=parameters,
    )
    (repository / name / "config.pbtxt").write_text(config)


class Triton:
    """One server on one port of 127.0.0.1; its process may come and go."""

    def __init__(self, repository: Path, scratch: Path, arguments: Sequence[str] = ()) -> None:
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self.log = scratch / f"triton-{self.port}.log"
        self._repository, self._arguments = repository, arguments
        self._backends = _backends(scratch)
        # Its own, so that what a killed one leaves behind can be told from what others use.
        self._prefix = f"lares_test_{secrets.token_hex(4)}_"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        packages, libraries = _places()
        server = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LARES_")},
            "PYTHONPATH": str(packages),
            # Its Python finds its packages by the `python3` that it finds.
            "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{libraries}:{packages}/nvidia_pytriton.libs",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--", str(server)),
                    f"--model-repository={self._repository}",
                    f"--backend-directory={self._backends}",
                    f"--backend-config=python,shm-region-prefix-name={self._prefix}",
                    *("--grpc-address=127.0.0.1", f"--grpc-port={self.port}"),
                    *("--allow-http=false", "--allow-metrics=false", "--exit-timeout-secs=5"),
                    *self._arguments,
                ],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Waits until it serves; AssertionError holds the log's end."""
        from tritonclient.grpc.aio import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        async with InferenceServerClient(self.address) as client, asyncio.timeout(seconds):
            while True:
                assert self._process
                assert self._process.poll() is None, self.tail()
                with contextlib.suppress(InferenceServerException):
                    if await client.is_server_ready(client_timeout=5):
                        return
                await asyncio.sleep(0.05)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        """As an out-of-memory killer would: the server alone, by -9. Its stubs follow."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()  # a zombie keeps its stubs alive
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for region in SHARED_MEMORY.glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)
        self._process = None

    def freeze(self) -> None:
        """It and its stubs stop where they are; connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill_stubs(self) -> None:
        """The processes that run the models, by -9: the server lives on and cannot answer."""
        assert self._process
        for child in psutil.Process(self._process.pid).children():
            child.kill()

    def _signal(self, number: int) -> None:
        assert self._process
        os.killpg(self._process.pid, number)


@asynccontextmanager
async def running_triton(
    repository: Path, scratch: Path, arguments: Sequence[str] = (), *, wait: bool = True
) -> AsyncIterator[Triton]:
    """A server of the models in `repository`; `scratch` keeps its log. `wait` False where the plain client of
    `ready` would not be let in."""
    triton = Triton(repository, scratch, arguments)
    triton.start()
    try:
        if wait:
            await triton.ready()
        yield triton
    finally:
        triton.kill()


@lru_cache
def _places() -> tuple[Path, str]:
    """site-packages of its environment, and the folder of the libpython that the stub must load."""
    question = "import sysconfig; print(sysconfig.get_path('purelib'), sysconfig.get_config_var('LIBDIR'))"
    answer = subprocess.check_output([ENVIRONMENT / "bin" / "python", "-c", question], text=True)
    packages, libraries = answer.split()
    return Path(packages), libraries


def _backends(scratch: Path) -> Path:
    """The Python backend and the stub for this Python, together in the one folder where Triton looks."""
    folder = scratch / "backends" / "python"
    if not folder.exists():
        source = _places()[0] / "pytriton" / "tritonserver"
        partial = Path(tempfile.mkdtemp(dir=scratch)) / "python"
        shutil.copytree(source / "backends" / "python", partial)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copy(source / "python_backend_stubs" / version / "triton_python_backend_stub", partial)
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)
    return folder.parent
