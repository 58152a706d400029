# mypy: ignore-errors
"""A model for Triton's Python backend that takes as long as a small GPU and finds nothing.

It replaces a GPU on machines without one: a batch takes 20 ms and 10 ms more for each image, and needs no CPU
meanwhile. It runs only within the Triton server of the measurement.
"""

import time

import numpy as np
import triton_python_backend_utils as pb_utils

BATCH_SECONDS, IMAGE_SECONDS = 0.020, 0.010


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(BATCH_SECONDS + IMAGE_SECONDS * len(requests))
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
