"""The model repository that `lares model export` writes, under a real Triton, asked by `lares model check`.

The server at hand has no ONNX Runtime backend and no GPU: a Python model runs the same graph instead. What
else config.pbtxt says (tensors, batching, warm-up, parameters) is read and obeyed by Triton itself.
"""

import json
import shutil
from pathlib import Path

import pytest

from deploy.model.check import check
from deploy.model.checkpoint import Checkpoint
from deploy.model.repository import write_repository
from mesh.config import Config
from tests.support.photos import CACHE
from tests.support.triton import MODELS, TINY, require_triton, running_triton, said_by


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As written, but for the two lines that need what is not here."""
    require_triton()
    said = said_by(TINY)
    checkpoint = Checkpoint(tmp_path, said["name"], tuple(json.loads(said["labels"])), 160, said["digest"])
    folder = tmp_path / "models"
    graph = write_repository(checkpoint, 30, folder)
    shutil.copy(TINY, graph)
    shutil.copy(MODELS / "onnx_model.py", graph.parent / "model.py")
    config = folder / said["name"] / "config.pbtxt"
    text = config.read_text()
    for ours, here in (('backend: "onnxruntime"', 'backend: "python"'), ("KIND_GPU", "KIND_CPU")):
        assert text.count(ours) == 1
        text = text.replace(ours, here)
    config.write_text(text + 'parameters { key: "threads" value { string_value: "1" } }\n')
    return folder


async def test_triton_takes_the_repository_and_the_check_sees_through_it(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_triton(repository, tmp_path) as server:
        url = f"triton://{server.address}/rtdetrv2-tiny"
        await check(Config(detector_url=url, cache=CACHE), None, 3)
    remote = capsys.readouterr().out
    await check(Config(detector_url=f"onnx:{TINY}?processes=1", cache=CACHE), None, 3)
    local = capsys.readouterr().out
    assert url in remote
    # The same findings as without a server, to the digits that are printed.
    assert seen(remote) == seen(local)


def seen(printed: str) -> str:
    """From the detector's identity to the timings."""
    return printed[printed.index("rtdetrv2-tiny@") : printed.index("first call ")]
