"""A real Triton server as a child process: the one in `nvidia-pytriton`, with its Python backend, in a
virtual environment of its own."""

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
    """Skips the test on platforms that Triton has no wheel for. Fails if the wheel was not installed."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("Triton's wheel is for Linux on x86-64 only")
    assert (ENVIRONMENT / ".installed").exists(), "run `make .venv-triton-server/.installed` first"


def metadata_of(graph: Path) -> dict[str, str]:
    """The `name`, `digest` and `labels` in the metadata of an ONNX file."""
    import onnxruntime  # imported here because it takes 50 MB

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def add_graph(
    repository: Path, name: str = "rtdetrv2-tiny", graph: Path = TINY, threads: int = 1, **overrides: str
) -> None:
    """Adds the tiny RT-DETRv2 (or `graph`) under that name. `overrides` replace parts of the file's
    metadata."""
    import onnxruntime  # imported here because it takes 50 MB

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    parameters = {**session.get_modelmeta().custom_metadata_map, **overrides, "threads": str(threads)}
    side, queries = session.get_inputs()[0].shape[1], session.get_outputs()[0].shape[1]
    _add(repository, name, "onnx_model.py", parameters, batch=8, dims=f"{side}, {side}, 3", queries=queries)
    shutil.copy(graph, repository / name / "1" / "model.onnx")


def add_slow(repository: Path) -> None:
    """Adds a model "slow": 300 ms for a batch of two; four more may queue for half a second each."""
    parameters = {"name": "slow", "digest": "ab" * 32, "labels": json.dumps(["person"])}
    _add(
        repository,
        "slow",
        "slow_model.py",
        parameters,
        batch=2,
        dims="32, 32, 3",
        queries=1,
        batching=QUEUE_OF_FOUR,
    )


def add_nan(repository: Path) -> None:
    """Adds a model "nan", whose scores are always NaN, and "nan-unless-blank", whose scores are NaN except
    for a blank picture."""
    for name in ("nan", "nan-unless-blank"):
        parameters = {"name": name, "digest": "ab" * 32, "labels": json.dumps(["person"])}
        _add(repository, name, "nan_model.py", parameters, batch=8, dims="32, 32, 3", queries=1)


def add_wrong(repository: Path) -> None:
    """Adds a model "wrong", whose input is planes of floats, and which has no labels."""
    parameters = {"name": "wrong", "digest": "ab" * 32}
    _add(
        repository,
        "wrong",
        "slow_model.py",
        parameters,
        batch=8,
        dims="3, 160, 160",
        queries=30,
        dtype="TYPE_FP32",
    )


def _add(
    repository: Path,
    name: str,
    script: str,
    parameters: Mapping[str, str],
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
    parameter_lines = "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'
        for key, value in parameters.items()
    )
    config = CONFIG.format(
        name=name,
        batch=batch,
        dtype=dtype,
        dims=dims,
        queries=queries,
        batching=batching,
        parameters=parameter_lines,
    )
    (repository / name / "config.pbtxt").write_text(config)


class Triton:
    """One server on a fixed port of 127.0.0.1. Its process can be killed and started again."""

    def __init__(self, repository: Path, scratch: Path, arguments: Sequence[str] = (), port: int = 0) -> None:
        """`port` 0 means any."""
        self.port = port or free_ports(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        self.log = scratch / f"triton-{self.port}.log"
        self._repository, self._arguments = repository, arguments
        self._backends = _backends(scratch)
        # Its own prefix, so that the regions that a killed server leaves behind can be removed.
        self._prefix = f"lares_test_{secrets.token_hex(4)}_"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        packages, libraries = _paths()
        server = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LARES_")},
            "PYTHONPATH": str(packages),
            # The stub finds its packages through the first `python3` on the PATH.
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
        """Waits until it serves. Raises AssertionError with the end of its log if it exits."""
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
        return bool(self.pid)

    @property
    def pid(self) -> int:
        """Of the server that runs now, or 0."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        """Kills the server with SIGKILL, as an out-of-memory killer would, and then its stubs."""
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
        """Stops the server and its stubs with SIGSTOP; connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill_stubs(self) -> None:
        """Kills the processes that run the models with SIGKILL. The server lives on and every inference
        fails."""
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
    """Runs a server with the models in `repository`; `scratch` is the folder of its log. `wait` must be False
    for a server that refuses the client of `ready`."""
    triton = Triton(repository, scratch, arguments)
    triton.start()
    try:
        if wait:
            await triton.ready()
        yield triton
    finally:
        triton.kill()


@lru_cache
def _paths() -> tuple[Path, str]:
    """The site-packages of its environment, and the folder of the libpython that the stub loads."""
    question = "import sysconfig; print(sysconfig.get_path('purelib'), sysconfig.get_config_var('LIBDIR'))"
    answer = subprocess.check_output([ENVIRONMENT / "bin" / "python", "-c", question], text=True)
    packages, libraries = answer.split()
    return Path(packages), libraries


def _backends(scratch: Path) -> Path:
    """A folder with the Python backend and the stub for this version of Python, as Triton expects them."""
    folder = scratch / "backends" / "python"
    if not folder.exists():
        source = _paths()[0] / "pytriton" / "tritonserver"
        partial = Path(tempfile.mkdtemp(dir=scratch)) / "python"
        shutil.copytree(source / "backends" / "python", partial)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copy(source / "python_backend_stubs" / version / "triton_python_backend_stub", partial)
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)
    return folder.parent
