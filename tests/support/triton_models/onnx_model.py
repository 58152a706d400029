"""A model of Triton's Python backend that runs an ONNX graph. Runs inside the test's Triton server only.

The onnxruntime backend, which serves the same graph in production, is not in any wheel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

OUTPUTS = ("scores", "labels", "boxes")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        options = onnxruntime.SessionOptions()
        said = json.loads(args["model_config"])["parameters"]
        options.intra_op_num_threads = int(said["threads"]["string_value"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """The requests that the server put together, in one run."""
        images = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        raw = self.session.run(OUTPUTS, {"images": np.concatenate(images)})
        ends = np.cumsum([len(image) for image in images])
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(array[end - len(image) : end]))
                    for name, array in zip(OUTPUTS, raw, strict=True)
                ]
            )
            for image, end in zip(images, ends, strict=True)
        ]
