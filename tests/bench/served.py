"""What the measures of Triton share: a graph as heavy as a real one, and a real Triton that runs it.

The graph is RT-DETRv2-r18 at 640 x 640 with random weights, made once by the export environment. It finds
nothing and works as much as a trained one.
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

from detect_svc.detectors.detector_url import TritonUrl
from detect_svc.detectors.triton_client import TritonClient
from tests.support.lares import ROOT
from tests.support.triton import CONFIG, TINY, add_graph, running_triton

MODEL = "bench"
# A machine that does other things answers late, and that is no failure here.
SECONDS = 300.0

Images = NDArray[np.uint8]


class Served(NamedTuple):
    """`server` is asked at `address`; `limit` is how many requests at a time the adapter would send it."""

    server: TritonClient
    address: str
    limit: int


def heavy(cache: Path) -> Path:
    """The graph; the tiny one of the tests where nothing can make the heavy one."""
    folder = cache / "bench" / "rtdetrv2-r18-random"
    graph = folder / "repository" / "rtdetrv2-r18" / "1" / "model.onnx"
    python = ROOT / ".venv-export" / "bin" / "python"
    if graph.exists():
        return graph
    if not python.exists():
        print("no export environment (`make model-export`): the tiny graph is measured, which says little")
        return TINY
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"}
    subprocess.run([python, "-m", "tests.bench.r18", partial], check=True, cwd=ROOT, env=environment)
    partial.rename(folder)
    return graph


def alone(graph: Path, threads: int) -> tuple[Callable[[Images], Any], int]:
    """ONNX Runtime as Triton's model uses it, and the side of its images [n, side, side, 3]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Any:
        return session.run(None, {"images": images})

    return run, session.get_inputs()[0].shape[1]


def name_of(graph: Path) -> str:
    return "rtdetrv2-tiny 160" if graph == TINY else "rtdetrv2-r18 640"


@asynccontextmanager
async def served_graph(folder: Path, graph: Path, threads: int) -> AsyncIterator[Served]:
    """The graph behind a Triton of its own, with as many threads."""
    add_graph(folder / "models", MODEL, graph, threads)
    async with _served(folder) as served:
        yield served


@asynccontextmanager
async def served_paced(folder: Path) -> AsyncIterator[Served]:
    """The model of paced.py, in batches of up to 8 images of 640 x 640."""
    version = folder / "models" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("paced.py"), version / "model.py")
    said = {"name": MODEL, "digest": "ab" * 32, "labels": '[\\"person\\"]'}
    config = CONFIG.format(
        name=MODEL,
        batch=8,
        dtype="TYPE_UINT8",
        dims="640, 640, 3",
        queries=1,
        batching="max_queue_delay_microseconds: 3000",
        parameters="\n".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
            for key, value in said.items()
        ),
    )
    (version.parent / "config.pbtxt").write_text(config)
    async with _served(folder) as served:
        yield served


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[Served]:
    async with running_triton(folder / "models", folder) as triton:
        server = TritonClient(triton.address, TritonUrl((triton.address,), MODEL), SECONDS, None)
        try:
            server.expected, limit = await server.read_model()
            yield Served(server, triton.address, limit)
        finally:
            await server.close()
