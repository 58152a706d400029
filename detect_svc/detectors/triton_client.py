"""The gRPC client of one Triton server. The only user of tritonclient."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from detect_svc.detectors.detector_url import TritonUrl
from detect_svc.detectors.model_metadata import (
    INPUT,
    OUTPUTS,
    ModelMetadata,
    TensorSpec,
    UnsupportedModel,
    read_metadata,
)
from detect_svc.detectors.rtdetr_output import is_plausible
from mesh.problems import Invalid, Problem, Unavailable
from mesh.secret import ParsedSecret

PROBE_SECONDS = 5.0
# Measured by `python -m tests.bench in_flight`: answers arrive a batch at a time, so with two batches in
# flight the next one is sent three quarters full; with four it is full.
BATCHES_IN_FLIGHT, MAX_IN_FLIGHT = 4, 64
# By default gRPC's pauses between connection attempts grow to two minutes, longer than a server needs to
# restart. The keep-alive notices a host that vanished.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 * 2**20),
]
# What proxies say of a wrong token; and Triton itself, with UNAVAILABLE.
DENIED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
RESTRICTED = "This protocol is restricted"
HINT = "(is the token in LARES_DETECTOR_URL or LARES_DETECTOR_TOKEN right?)"
REASONS = {
    "DEADLINE_EXCEEDED": "DETECTOR_SLOW",
    "INTERNAL": "DETECTOR_BROKEN",
    "NOT_FOUND": "MODEL_NOT_FOUND",
}

Pixels = bytes


class InferenceOutput(NamedTuple):
    """The model's output for one image: [q] scores, [q] class numbers, [q, 4] boxes."""

    scores: NDArray[np.float32]
    classes: NDArray[np.int32]
    boxes: NDArray[np.float32]


class TritonClient:
    """An InferenceServer of a ServerPool. `expected` is the model when the detector was opened; a server that
    holds another one under the same name gets no requests."""

    def __init__(
        self, address: str, login: ParsedSecret[TritonUrl], seconds: float, authority: Path | None
    ) -> None:
        """Of `login` only the token may change. `seconds` is the deadline of an inference; `authority` a PEM
        file, None for the system's."""
        url = login.value
        self.address, self._login, self._url, self._seconds = address, login, url, seconds
        self.expected: ModelMetadata | None = None
        self._output_was_implausible = False
        self._client = InferenceServerClient(
            address,
            ssl=url.tls,
            root_certificates=str(authority) if authority and url.tls else None,
            channel_args=CHANNEL_OPTIONS,
        )

    async def close(self) -> None:
        await self._client.close()

    async def read_model(self) -> tuple[ModelMetadata, int]:
        """Returns the model's metadata, and how many concurrent requests keep it busy.

        Raises UnsupportedModel, and Unavailable while the server or the model is not ready.
        """
        name = {"model_name": self._url.model, "model_version": self._url.version}
        if not await self._call(self._client.is_model_ready, PROBE_SECONDS, **name):
            raise Unavailable(
                f"{self.address}: model {self._model} is not ready: it is loading, could not be loaded, "
                "or its name is wrong",
                "MODEL_NOT_READY",
            )
        metadata, response = await asyncio.gather(
            self._call(self._client.get_model_metadata, PROBE_SECONDS, **name),
            self._call(self._client.get_model_config, PROBE_SECONDS, **name),
        )
        tensors = {
            tensor.name: TensorSpec(_dtype(tensor.datatype), tuple(tensor.shape))
            for tensor in (*metadata.inputs, *metadata.outputs)
        }
        parameters = {key: value.string_value for key, value in response.config.parameters.items()}
        in_flight = self._url.in_flight or in_flight_of(response.config)
        return read_metadata(tensors, parameters), in_flight

    async def probe(self) -> int:
        """Raises Unavailable if the model is not ready, has changed, or computes nonsense."""
        try:
            metadata, in_flight = await self.read_model()
        except UnsupportedModel as error:
            raise Unavailable(f"{self.address}: {self._model} changed: {error}", "MODEL_CHANGED") from None
        if self.expected is not None and metadata != self.expected:
            raise Unavailable(
                f"{self.address}: {self._model} is {metadata.name}@{metadata.digest[:12]} now, no longer "
                f"{self.expected.name}@{self.expected.digest[:12]}: restart Lares to detect with it",
                "MODEL_CHANGED",
            )
        if self._output_was_implausible and self.expected:
            blank = await self._infer(bytes(self.expected.side**2 * 3))
            if not is_plausible(blank.scores, blank.boxes):
                raise Unavailable(
                    f"{self.address}: the output of {self._model} makes no sense even for a blank picture: "
                    "does it need more than FP16?",
                    "DETECTOR_NONSENSE",
                )
            self._output_was_implausible = False
        return in_flight

    async def infer(self, request: Pixels) -> InferenceOutput:
        """`request` is one image, uint8 [side, side, 3].

        Raises Invalid DETECTOR_REFUSED and DETECTOR_NONSENSE, after which `probe` shows whether only this
        image is at fault, and Unavailable for everything else.
        """
        output = await self._infer(request)
        if not is_plausible(output.scores, output.boxes):
            self._output_was_implausible = True
            raise Invalid(f"{self.address}: the model's output makes no sense", "DETECTOR_NONSENSE")
        return output

    async def _infer(self, request: Pixels) -> InferenceOutput:
        assert self.expected
        shape = (1, self.expected.side, self.expected.side, 3)
        images = InferInput(INPUT, shape, "UINT8")
        images.set_data_from_numpy(np.frombuffer(request, np.uint8).reshape(shape))
        result = await self._call(
            self._client.infer,
            self._seconds,
            model_name=self._url.model,
            model_version=self._url.version,
            inputs=[images],
            outputs=[InferRequestedOutput(name) for name in OUTPUTS],
        )
        arrays = [result.as_numpy(name) for name in OUTPUTS]
        if any(array is None or array.shape[:1] != (1,) for array in arrays):
            raise Unavailable(
                f"{self.address}: the response lacks {', '.join(OUTPUTS)} of one image", "DETECTOR_BROKEN"
            )
        return InferenceOutput(*(array[0] for array in arrays))

    async def watch_connection(self, on_lost: Callable[[], None]) -> None:
        # tritonclient 2.73 offers no public access to its channel. A server that restarts within a moment may
        # hold other weights, and without this its next response would look like any other.
        channel: grpc.aio.Channel = self._client._channel
        while True:
            state = channel.get_state()
            await channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                on_lost()

    @property
    def _model(self) -> str:
        version = self._url.version
        return f"{self._url.model}{f' (version {version})' if version else ''}"

    async def _call(self, method: Callable[..., Any], seconds: float, **arguments: Any) -> Any:
        login = self._login.value
        try:
            return await method(**arguments, headers=_headers(login.token), client_timeout=seconds)
        except InferenceServerException as error:
            refused = _status(error) in DENIED or _is_restricted(error)
            if refused and self._login.renewed(login):
                return await self._call(method, seconds, **arguments)
            raise self._problem(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # This task was not cancelled: gRPC cancelled the call because its channel closes.
            raise Unavailable(f"{self.address}: the connection was closed", "DETECTOR_AWAY") from None

    def _problem(self, error: InferenceServerException) -> Problem:
        status = _status(error)
        message = f"{self.address}: {(error.message() or status)[:300]}"
        if status == "INVALID_ARGUMENT":
            return Invalid(message, "DETECTOR_REFUSED")
        if status in DENIED:
            return Unavailable(f"{message} {HINT}", "DETECTOR_DENIED")
        if _is_restricted(error):
            message += f" {HINT}"
        if status == "NOT_FOUND":
            message += f" (is model {self._model} loading, or is its name wrong?)"
        if status == "DEADLINE_EXCEEDED":
            message = f"{self.address}: no answer in time"
        return Unavailable(message, REASONS.get(status, "DETECTOR_AWAY"))


def _status(error: InferenceServerException) -> str:
    return (error.status() or "").removeprefix("StatusCode.")


def _is_restricted(error: InferenceServerException) -> bool:
    return RESTRICTED in (error.message() or "")


def _headers(token: str) -> dict[str, str] | None:
    """For a proxy in front of Triton, and for Triton itself (`--grpc-restricted-protocol=...:token=...`)."""
    if not token:
        return None
    return {"authorization": f"Bearer {token}", "triton-grpc-protocol-token": token}


def in_flight_of(config: Any) -> int:
    """How many concurrent requests of one image keep a model with this ModelConfig busy: BATCHES_IN_FLIGHT
    full batches for each instance, at most MAX_IN_FLIGHT. Without dynamic batching a batch is one image."""
    instances = sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group) or 1
    batch = max(1, config.max_batch_size) if config.HasField("dynamic_batching") else 1
    return int(min(MAX_IN_FLIGHT, BATCHES_IN_FLIGHT * batch * instances))


def _dtype(datatype: str) -> str:
    """numpy's name of a Triton type; unknown types keep their own."""
    dtype = triton_to_np_dtype(datatype)
    return datatype.lower() if dtype is None else np.dtype(dtype).name
