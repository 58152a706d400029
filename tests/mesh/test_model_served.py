"""The model repository that `lares model export` writes, in a real Triton, with `lares model check`.

The server here has no ONNX Runtime backend and no GPU, so a Python model runs the same graph. Triton itself
reads the rest of config.pbtxt: tensors, batching, warm-up, parameters.
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
from tests.support.triton import MODELS, TINY, metadata_of, require_triton, running_triton


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As the export writes it, except for the two lines that need the backend and a GPU."""
    require_triton()
    metadata = metadata_of(TINY)
    checkpoint = Checkpoint(
        tmp_path, metadata["name"], tuple(json.loads(metadata["labels"])), 160, metadata["digest"]
    )
    folder = tmp_path / "models"
    graph = write_repository(checkpoint, 30, folder)
    shutil.copy(TINY, graph)
    shutil.copy(MODELS / "onnx_model.py", graph.parent / "model.py")
    config = folder / metadata["name"] / "config.pbtxt"
    text = config.read_text()
    for written, replacement in (('backend: "onnxruntime"', 'backend: "python"'), ("KIND_GPU", "KIND_CPU")):
        assert text.count(written) == 1
        text = text.replace(written, replacement)
    config.write_text(text + 'parameters { key: "threads" value { string_value: "1" } }\n')
    return folder


async def test_triton_loads_the_repository_and_the_check_detects_with_it(
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
    assert findings_in(remote) == findings_in(local)


def findings_in(printed: str) -> str:
    """The output from the detector's id to the timings."""
    return printed[printed.index("rtdetrv2-tiny@") : printed.index("first call ")]
