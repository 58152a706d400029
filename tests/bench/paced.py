# mypy: ignore-errors
"""A model of Triton's Python backend that takes its time as a small GPU would, and sees nothing.

It stands in for a GPU where there is none: 20 ms for a batch and 10 ms more for each of its images, during
which the processor is free. Runs inside the measure's Triton server only.
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
