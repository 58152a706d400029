"""A model of Triton's Python backend whose numbers are none, as of one computed in too few bits. Runs inside
the test's Triton server only."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.always = json.loads(args["model_config"])["name"] == "dazed"

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            self._answer(pb_utils.get_input_tensor_by_name(request, "images").as_numpy())
            for request in requests
        ]

    def _answer(self, images: Any) -> Any:
        blind = self.always or images.any()
        values = {
            "scores": np.full((len(images), 1), np.nan if blind else 0, np.float32),
            "labels": np.zeros((len(images), 1), np.int32),
            "boxes": np.zeros((len(images), 1, 4), np.float32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in values.items()])
