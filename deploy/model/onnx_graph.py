"""RT-DETRv2 with its pre- and post-processing in one ONNX graph. Runs in the export environment (torch)."""

import io
import json
import warnings
from pathlib import Path

import onnx
import torch
from safetensors import SafetensorError
from transformers import RTDetrV2ForObjectDetection

from deploy.model.checkpoint import Checkpoint, CheckpointError

# The newest that the legacy exporter writes well and every Triton of these years reads.
OPSET = 17
OUTPUTS = ("scores", "labels", "boxes")


class FusedModel(torch.nn.Module):
    """images uint8 [N, side, side, 3] RGB -> scores float32 [N, Q] descending, labels int32 [N, Q], boxes
    float32 [N, Q, 4] as x_min, y_min, x_max, y_max in 0..1. Q is the model's number of queries."""

    def __init__(self, model: RTDetrV2ForObjectDetection) -> None:
        super().__init__()
        self.model = model
        self.queries, self.classes = model.config.num_queries, model.config.num_labels

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Floats first: TensorRT takes bytes at the door, but can do nothing else with them.
        seen = self.model(pixel_values=images.to(torch.float32).permute(0, 3, 1, 2) / 255.0)
        # Each query may stand for several classes: the best pairs of both count.
        scores, pairs = torch.topk(torch.sigmoid(seen.logits).flatten(1), self.queries, dim=1)
        query = (pairs // self.classes).unsqueeze(-1).expand(-1, -1, 4)
        centre, size = torch.gather(seen.pred_boxes, 1, query).split(2, dim=-1)
        boxes = torch.cat((centre - size / 2, centre + size / 2), dim=-1)
        return scores, (pairs % self.classes).to(torch.int32), boxes


def load(checkpoint: Checkpoint) -> RTDetrV2ForObjectDetection:
    """Reads the model with transformers. Raises CheckpointError when weights are missing or broken."""
    try:
        model, told = RTDetrV2ForObjectDetection.from_pretrained(
            checkpoint.folder, local_files_only=True, output_loading_info=True
        )
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: transformers cannot read it: {error}") from None
    # transformers makes up what a file lacks, and only warns.
    lacking = sorted(told["missing_keys"]) + sorted(str(key) for key in told["mismatched_keys"])
    if lacking:
        raise CheckpointError(
            f"{checkpoint.folder}: {len(lacking)} weights are missing or of another shape: {lacking[0]}..."
        )
    return model.eval()


def write_onnx(model: RTDetrV2ForObjectDetection, checkpoint: Checkpoint, path: Path) -> None:
    """The fused graph with a free batch size; name, digest and labels ride in its metadata."""
    example = torch.zeros((2, checkpoint.side, checkpoint.side, 3), dtype=torch.uint8)
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of every shape that it takes as fixed: all but the batch are.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            FusedModel(model).eval(),
            (example,),
            written,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("images", *OUTPUTS)},
            opset_version=OPSET,
            # The newer exporter freezes the batch size silently.
            dynamo=False,
        )
    graph = onnx.load_from_string(written.getvalue())
    # TensorRT's cache of engines knows a graph by this name and its nodes, not by its weights.
    graph.graph.name = f"{checkpoint.name}-{checkpoint.side}-{checkpoint.digest[:12]}"
    for output in graph.graph.output:
        # The exporter gives the number of queries a name, as if it were free.
        output.type.tensor_type.shape.dim[1].dim_value = model.config.num_queries
    onnx.helper.set_model_props(
        graph,
        {"name": checkpoint.name, "digest": checkpoint.digest, "labels": json.dumps(checkpoint.labels)},
    )
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
