"""What the benchmarks of Triton share: a graph as large as a real one, and a real Triton that runs it.

The graph is RT-DETRv2-r18 at 640 x 640 with random weights, made once in the export environment. It finds
nothing, and needs as much computation as a trained one.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detect_svc.detectors.detector_url import parse_triton_url
from detect_svc.detectors.triton_client import TritonClient
from mesh.secret import Secret
from tests.support.lares import ROOT
from tests.support.triton import CONFIG, TINY, add_graph, running_triton

MODEL = "bench"
# Generous: a late answer on a busy machine is not a failure here.
SECONDS = 300.0

Images = NDArray[np.uint8]


class ServedModel(NamedTuple):
    """A model of a Triton at `address`. `limit` is how many requests the adapter would have in flight."""

    client: TritonClient
    address: str
    limit: int


def heavy_graph(cache: Path) -> Path:
    """The graph, or the tiny one of the tests if there is no export environment."""
    folder = cache / "bench" / "rtdetrv2-r18-random"
    graph = folder / "repository" / "rtdetrv2-r18" / "1" / "model.onnx"
    python = ROOT / ".venv-export" / "bin" / "python"
    if graph.exists():
        return graph
    if not python.exists():
        print("no export environment (`make model-export`): measuring the tiny graph, which is of little use")
        return TINY
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"}
    subprocess.run([python, "-m", "tests.bench.r18", partial], check=True, cwd=ROOT, env=environment)
    partial.rename(folder)
    return graph


def onnx_runtime_alone(graph: Path, threads: int) -> tuple[Callable[[Images], Any], int]:
    """ONNX Runtime as Triton's model uses it, and the side of its input [n, side, side, 3]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Any:
        return session.run(None, {"images": images})

    return run, session.get_inputs()[0].shape[1]


def name_of(graph: Path) -> str:
    return "rtdetrv2-tiny 160" if graph == TINY else "rtdetrv2-r18 640"


@asynccontextmanager
async def served_graph(folder: Path, graph: Path, threads: int) -> AsyncIterator[ServedModel]:
    """Serves the graph in a Triton of its own with that many threads."""
    add_graph(folder / "models", MODEL, graph, threads)
    async with _served_model(folder) as served:
        yield served


@asynccontextmanager
async def served_paced(folder: Path) -> AsyncIterator[ServedModel]:
    """Serves the model of paced.py, in batches of up to 8 images of 640 x 640."""
    version = folder / "models" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("paced.py"), version / "model.py")
    parameters = {"name": MODEL, "digest": "ab" * 32, "labels": '[\\"person\\"]'}
    config = CONFIG.format(
        name=MODEL,
        batch=8,
        dtype="TYPE_UINT8",
        dims="640, 640, 3",
        queries=1,
        batching="max_queue_delay_microseconds: 3000",
        parameters="\n".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
            for key, value in parameters.items()
        ),
    )
    (version.parent / "config.pbtxt").write_text(config)
    async with _served_model(folder) as served:
        yield served


@asynccontextmanager
async def _served_model(folder: Path) -> AsyncIterator[ServedModel]:
    async with running_triton(folder / "models", folder) as triton:
        url = Secret.of(f"triton://{triton.address}/{MODEL}").parsed(parse_triton_url)
        client = TritonClient(triton.address, url, SECONDS, None)
        try:
            client.expected, limit = await client.read_model()
            yield ServedModel(client, triton.address, limit)
        finally:
            await client.close()
