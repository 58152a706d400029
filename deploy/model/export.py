"""`lares model export` where torch is: `python -m deploy.model.export --from CHECKPOINT --out FOLDER`."""

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

# Batches of these sizes are compared: a graph that froze its batch size fails here.
BATCHES = (1, 2, 3)
HUB_SECONDS = 20


def main(arguments: list[str] | None = None) -> None:
    """Ends with status 1 and a sentence when the checkpoint does not fit or the graph says other things."""
    parser = argparse.ArgumentParser(prog="lares model export", description=__doc__)
    parser.add_argument("--from", dest="source", required=True, help="folder, or a model's id on the hub")
    parser.add_argument("--out", type=Path, required=True, help="the Triton model repository, a new folder")
    parser.add_argument("--name", default="", help="the model's name; else by its backbone, or the folder's")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    try:
        export(options.source, options.out, options.name)
    except (CheckpointError, OSError) as problem:
        sys.exit(f"lares model export: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


def export(source: str, out: Path, name: str = "") -> None:
    """Writes the repository `out` in one move, after the numeric check. Raises CheckpointError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} is there already; choose a new folder")
    checkpoint = read_checkpoint(folder_of(source), name, Path(source).resolve().name)
    print(
        f"{checkpoint.name}: {checkpoint.side} x {checkpoint.side} pixels, {len(checkpoint.labels)} classes"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, never in it: a Triton may look there.
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        model = load(checkpoint)
        graph = write_repository(checkpoint, model.config.num_queries, partial)
        write_onnx(model, checkpoint, graph)
        agreement = check(model, graph, checkpoint)
        print(f"against transformers: {agreement}")
        if not agreement.holds:
            raise CheckpointError("the graph does not say what transformers says; nothing was written")
        partial.chmod(0o755)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"written: {out}; see {out / 'README.md'}")


def folder_of(source: str) -> Path:
    """The folder itself, or where a model's id was fetched to. Raises CheckpointError."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[*FILES, WEIGHTS], etag_timeout=HUB_SECONDS))
    except HFValidationError:
        raise CheckpointError(
            f"{source}: no such folder, and no model's id such as PekingU/rtdetr_v2_r18vd"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{source}: no such folder, and not to be had from the hub: {_line(error)}"
        ) from None


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def check(model: Any, graph: Path, checkpoint: Checkpoint) -> Agreement:
    """ONNX Runtime with the graph against transformers with its own post-processing, on the same pixels."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = scenes(sum(BATCHES), checkpoint.side)
    ours: list[ModelOutput] = []
    for batch in np.split(images, np.cumsum(BATCHES)[:-1]):
        answers = session.run(list(OUTPUTS), {"images": batch})
        ours += [ModelOutput(*one) for one in zip(*answers, strict=True)]
    return compare(ours, reference(model, images))


@torch.no_grad()
def reference(model: Any, images: NDArray[np.uint8]) -> list[ModelOutput]:
    """What transformers makes of [N, side, side, 3] pixels."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
    seen = RTDetrImageProcessorPil().post_process_object_detection(model(pixel_values=pixels), threshold=0.0)
    return [ModelOutput(*(one[name].numpy() for name in OUTPUTS)) for one in seen]


def scenes(count: int, side: int) -> NDArray[np.uint8]:
    """[count, side, side, 3]: blots of all sizes in all colours, the same in every run."""
    random = np.random.RandomState(7)
    images = np.zeros((count, side, side, 3))
    for cells in (4, 8, 16, 32):
        coarse = random.uniform(-1, 1, (count, cells, cells, 3))
        at = np.arange(side) * cells // side
        images += coarse[:, at][:, :, at]
    return np.asarray(np.clip(127 + images * 64, 0, 255), np.uint8)


if __name__ == "__main__":
    main()
