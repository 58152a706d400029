"""RT-DETRv2 with its pre- and post-processing in one ONNX graph. Runs in the export environment, which has
torch."""

import io
import json
import warnings
from pathlib import Path

import onnx
import torch
from safetensors import SafetensorError
from transformers import RTDetrV2ForObjectDetection

from deploy.model.checkpoint import Checkpoint, CheckpointError

# The newest opset that the legacy exporter writes well and that all current versions of Triton read.
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
        # The cast to floats comes first: TensorRT accepts bytes as an input, but can only cast them.
        output = self.model(pixel_values=images.to(torch.float32).permute(0, 3, 1, 2) / 255.0)
        # A query may be one object of several classes: the best pairs of query and class are the findings.
        scores, pairs = torch.topk(torch.sigmoid(output.logits).flatten(1), self.queries, dim=1)
        query = (pairs // self.classes).unsqueeze(-1).expand(-1, -1, 4)
        centre, size = torch.gather(output.pred_boxes, 1, query).split(2, dim=-1)
        boxes = torch.cat((centre - size / 2, centre + size / 2), dim=-1)
        return scores, (pairs % self.classes).to(torch.int32), boxes


def load(checkpoint: Checkpoint) -> RTDetrV2ForObjectDetection:
    """Reads the model with transformers. Raises CheckpointError if weights are missing or broken."""
    try:
        model, loading_info = RTDetrV2ForObjectDetection.from_pretrained(
            checkpoint.folder, local_files_only=True, output_loading_info=True
        )
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: transformers cannot read it: {error}") from None
    # transformers initialises missing weights at random and only warns.
    missing = sorted(loading_info["missing_keys"]) + sorted(
        str(key) for key in loading_info["mismatched_keys"]
    )
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder}: {len(missing)} weights are missing or of another shape: {missing[0]}..."
        )
    return model.eval()


def write_onnx(model: RTDetrV2ForObjectDetection, checkpoint: Checkpoint, path: Path) -> None:
    """Writes the fused graph with a variable batch size. Its metadata has the name, digest and labels."""
    example = torch.zeros((2, checkpoint.side, checkpoint.side, 3), dtype=torch.uint8)
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns about every shape that it treats as fixed. All but the batch size are.
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
    # TensorRT's cache of engines identifies a graph by this name and its nodes, not by its weights.
    graph.graph.name = f"{checkpoint.name}-{checkpoint.side}-{checkpoint.digest[:12]}"
    for output in graph.graph.output:
        # The exporter declares the number of queries as variable.
        output.type.tensor_type.shape.dim[1].dim_value = model.config.num_queries
    onnx.helper.set_model_props(
        graph,
        {"name": checkpoint.name, "digest": checkpoint.digest, "labels": json.dumps(checkpoint.labels)},
    )
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
