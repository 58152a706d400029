"""A model of Triton's Python backend that takes 300 ms for a batch and finds nothing. Runs only inside the
tests' Triton server."""

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        time.sleep(0.3)
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor("scores", np.zeros((1, 1), np.float32)),
                    pb_utils.Tensor("labels", np.zeros((1, 1), np.int32)),
                    pb_utils.Tensor("boxes", np.zeros((1, 1, 4), np.float32)),
                ]
            )
            for _ in requests
        ]
