"""A model of Triton's Python backend that runs an ONNX graph. Runs only inside the tests' Triton server.

In production the onnxruntime backend serves the same graph, but no wheel contains it.
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
        parameters = json.loads(args["model_config"])["parameters"]
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests of one batch together."""
        images = [pb_utils.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        outputs = self.session.run(OUTPUTS, {"images": np.concatenate(images)})
        ends = np.cumsum([len(image) for image in images])
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(array[end - len(image) : end]))
                    for name, array in zip(OUTPUTS, outputs, strict=True)
                ]
            )
            for image, end in zip(images, ends, strict=True)
        ]
