"""`lares model export`. Runs in the export environment, which has torch:
`python -m deploy.model.export --from CHECKPOINT --out FOLDER`."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from transformers import RTDetrImageProcessorPil
from transformers.utils.logging import disable_progress_bar

from deploy.model.agreement import Agreement, ModelOutput, compare
from deploy.model.checkpoint import FILES, WEIGHTS, Checkpoint, CheckpointError, read_checkpoint
from deploy.model.onnx_graph import OUTPUTS, load, write_onnx
from deploy.model.repository import write_repository

# Sizes of the batches that are compared. A graph with a fixed batch size fails.
BATCHES = (1, 2, 3)
HUB_SECONDS = 20


def main(arguments: list[str] | None = None) -> None:
    """Exits with status 1 and a message if the checkpoint is not supported, or the graph's output differs."""
    parser = argparse.ArgumentParser(prog="lares model export", description=__doc__)
    parser.add_argument(
        "--from", dest="source", required=True, help="a folder, or the id of a model on the hub"
    )
    parser.add_argument("--out", type=Path, required=True, help="the Triton model repository, a new folder")
    parser.add_argument(
        "--name", default="", help="the model's name; by default that of its backbone or the folder"
    )
    options = parser.parse_args(arguments)
    disable_progress_bar()
    try:
        export(options.source, options.out, options.name)
    except (CheckpointError, OSError) as problem:
        sys.exit(f"lares model export: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


def export(source: str, out: Path, name: str = "") -> None:
    """Writes the repository, which appears as `out` only after the numeric check. Raises CheckpointError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists already; choose a new folder")
    checkpoint = read_checkpoint(folder_of(source), name, Path(source).resolve().name)
    print(
        f"{checkpoint.name}: {checkpoint.side} x {checkpoint.side} pixels, {len(checkpoint.labels)} classes"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Next to the folder, not in it: a Triton may be reading it.
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        model = load(checkpoint)
        graph = write_repository(checkpoint, model.config.num_queries, partial)
        write_onnx(model, checkpoint, graph)
        agreement = check(model, graph, checkpoint)
        print(f"against transformers: {agreement}")
        if not agreement.holds:
            raise CheckpointError(
                "the output of the graph differs from that of transformers; nothing was written"
            )
        partial.chmod(0o755)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"written: {out}; see {out / 'README.md'}")


def folder_of(source: str) -> Path:
    """The folder itself, or the folder that the model was downloaded to. Raises CheckpointError."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[*FILES, WEIGHTS], etag_timeout=HUB_SECONDS))
    except HFValidationError:
        raise CheckpointError(
            f"{source}: no such folder, and not an id of a model such as PekingU/rtdetr_v2_r18vd"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{source}: no such folder, and the hub does not provide it: {_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def check(model: Any, graph: Path, checkpoint: Checkpoint) -> Agreement:
    """Compares the graph in ONNX Runtime with transformers and its post-processing, on the same pixels."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = scenes(sum(BATCHES), checkpoint.side)
    outputs: list[ModelOutput] = []
    for batch in np.split(images, np.cumsum(BATCHES)[:-1]):
        arrays = session.run(list(OUTPUTS), {"images": batch})
        outputs += [ModelOutput(*one) for one in zip(*arrays, strict=True)]
    return compare(outputs, reference(model, images))


@torch.no_grad()
def reference(model: Any, images: NDArray[np.uint8]) -> list[ModelOutput]:
    """The output of transformers for [N, side, side, 3] pixels."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
    results = RTDetrImageProcessorPil().post_process_object_detection(
        model(pixel_values=pixels), threshold=0.0
    )
    return [ModelOutput(*(result[name].numpy() for name in OUTPUTS)) for result in results]


def scenes(count: int, side: int) -> NDArray[np.uint8]:
    """[count, side, side, 3]: coloured blocks of several sizes, the same in every run."""
    random = np.random.RandomState(7)
    images = np.zeros((count, side, side, 3))
    for cells in (4, 8, 16, 32):
        coarse = random.uniform(-1, 1, (count, cells, cells, 3))
        at = np.arange(side) * cells // side
        images += coarse[:, at][:, :, at]
    return np.asarray(np.clip(127 + images * 64, 0, 255), np.uint8)


if __name__ == "__main__":
    main()
