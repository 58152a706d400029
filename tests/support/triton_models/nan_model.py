"""A model of Triton's Python backend whose scores are NaN, like those of a model that overflows in FP16. Runs
only inside the tests' Triton server."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.always = json.loads(args["model_config"])["name"] == "nan"

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            self._respond(pb_utils.get_input_tensor_by_name(request, "images").as_numpy())
            for request in requests
        ]

    def _respond(self, images: Any) -> Any:
        is_nan = self.always or images.any()
        values = {
            "scores": np.full((len(images), 1), np.nan if is_nan else 0, np.float32),
            "labels": np.zeros((len(images), 1), np.int32),
            "boxes": np.zeros((len(images), 1, 4), np.float32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in values.items()])
