"""One Triton server, by its gRPC. The only user of tritonclient."""

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

from detect_svc.detectors.model_metadata import (
    IMAGES,
    OUTPUTS,
    ModelMetadata,
    TensorSpec,
    UnsupportedModel,
    read_metadata,
)
from detect_svc.detectors.rtdetr_output import is_plausible
from detect_svc.detectors.triton_url import TritonUrl
from mesh.problems import Invalid, Problem, Unavailable

LOOK_SECONDS = 5.0
# By `python -m tests.bench in_flight`: answers come back together, so with two batches ahead the next one
# leaves three quarters full; with four it is full.
BATCHES_AHEAD, MOST_IN_FLIGHT = 4, 64
# gRPC's own pauses between connections grow to two minutes, longer than a server needs to restart. A host
# that vanished without a word is noticed by the keep-alive.
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 * 2**20),
]
DENIED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
REASONS = {
    "DEADLINE_EXCEEDED": "DETECTOR_SLOW",
    "INTERNAL": "DETECTOR_BROKEN",
    "NOT_FOUND": "MODEL_NOT_FOUND",
}

Pixels = bytes


class InferenceOutput(NamedTuple):
    """[q] scores, [q] class numbers, [q, 4] boxes: the model's answer to one image."""

    scores: NDArray[np.float32]
    kinds: NDArray[np.int32]
    boxes: NDArray[np.float32]


class TritonClient:
    """One address of an TritonUrl, as the pool asks it. `card` is what the model was when the detector
    opened: another one behind the same name is not asked."""

    def __init__(self, address: str, endpoint: TritonUrl, seconds: float, authority: Path | None) -> None:
        self.address, self._endpoint, self._seconds = address, endpoint, seconds
        self.card: ModelMetadata | None = None
        self._dazed = False
        self._headers = _headers(endpoint.token)
        self._client = InferenceServerClient(
            address,
            ssl=endpoint.tls,
            root_certificates=str(authority) if authority and endpoint.tls else None,
            channel_args=CHANNEL,
        )

    async def close(self) -> None:
        await self._client.close()

    async def read(self) -> tuple[ModelMetadata, int]:
        """What the model is, and how many requests at a time keep it busy.

        Raises UnsupportedModel, and Unavailable while the server or the model is not there.
        """
        name = {"model_name": self._endpoint.model, "model_version": self._endpoint.version}
        if not await self._call(self._client.is_model_ready, LOOK_SECONDS, **name):
            raise Unavailable(
                f"{self.address}: model {self._model} is not ready: it is loading, could not be loaded, "
                "or its name is wrong",
                "MODEL_NOT_READY",
            )
        metadata, answer = await asyncio.gather(
            self._call(self._client.get_model_metadata, LOOK_SECONDS, **name),
            self._call(self._client.get_model_config, LOOK_SECONDS, **name),
        )
        tensors = {
            one.name: TensorSpec(_dtype(one.datatype), tuple(one.shape))
            for one in (*metadata.inputs, *metadata.outputs)
        }
        said = {key: value.string_value for key, value in answer.config.parameters.items()}
        return read_metadata(tensors, said), self._endpoint.in_flight or in_flight_of(answer.config)

    async def look(self) -> int:
        try:
            card, in_flight = await self.read()
        except UnsupportedModel as misfit:
            raise Unavailable(f"{self.address}: {self._model} changed: {misfit}", "MODEL_CHANGED") from None
        if self.card is not None and card != self.card:
            raise Unavailable(
                f"{self.address}: {self._model} is {card.name}@{card.digest[:12]} now, no longer "
                f"{self.card.name}@{self.card.digest[:12]}: restart Lares to detect with it",
                "MODEL_CHANGED",
            )
        if self._dazed and self.card:
            blank = await self._infer(bytes(self.card.side**2 * 3))
            if not is_plausible(blank.scores, blank.boxes):
                raise Unavailable(
                    f"{self.address}: {self._model} makes no sense even of a blank picture: "
                    "does it need more than FP16?",
                    "DETECTOR_NONSENSE",
                )
            self._dazed = False
        return in_flight

    async def ask(self, request: Pixels) -> InferenceOutput:
        """`request`: one image, uint8 [side, side, 3]. Raises Invalid DETECTOR_REFUSED and DETECTOR_NONSENSE,
        which may be for this image alone: a `look` tells; Unavailable for everything else."""
        raw = await self._infer(request)
        if not is_plausible(raw.scores, raw.boxes):
            self._dazed = True
            raise Invalid(f"{self.address}: the model's answer makes no sense", "DETECTOR_NONSENSE")
        return raw

    async def _infer(self, request: Pixels) -> InferenceOutput:
        assert self.card
        shape = (1, self.card.side, self.card.side, 3)
        images = InferInput(IMAGES, shape, "UINT8")
        images.set_data_from_numpy(np.frombuffer(request, np.uint8).reshape(shape))
        answer = await self._call(
            self._client.infer,
            self._seconds,
            model_name=self._endpoint.model,
            model_version=self._endpoint.version,
            inputs=[images],
            outputs=[InferRequestedOutput(name) for name in OUTPUTS],
        )
        arrays = [answer.as_numpy(name) for name in OUTPUTS]
        if any(array is None or array.shape[:1] != (1,) for array in arrays):
            raise Unavailable(f"{self.address}: an answer without {', '.join(OUTPUTS)}", "DETECTOR_BROKEN")
        return InferenceOutput(*(array[0] for array in arrays))

    async def watch(self, lost: Callable[[], None]) -> None:
        # The client does not show its channel. But who restarts within a moment may hold other weights, and
        # answers the next request as if nothing had been.
        channel: grpc.aio.Channel = self._client._channel
        while True:
            state = channel.get_state()
            await channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                lost()

    @property
    def _model(self) -> str:
        version = self._endpoint.version
        return f"{self._endpoint.model}{f' (version {version})' if version else ''}"

    async def _call(self, call: Callable[..., Any], seconds: float, **arguments: Any) -> Any:
        try:
            return await call(**arguments, headers=self._headers, client_timeout=seconds)
        except InferenceServerException as error:
            raise self._problem(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task was cancelled: gRPC gave up the call, because its channel closes.
            raise Unavailable(f"{self.address}: the call was given up", "DETECTOR_AWAY") from None

    def _problem(self, error: InferenceServerException) -> Problem:
        status = (error.status() or "").removeprefix("StatusCode.")
        said = f"{self.address}: {(error.message() or status)[:300]}"
        if status == "INVALID_ARGUMENT":
            return Invalid(said, "DETECTOR_REFUSED")
        if status in DENIED:
            return Unavailable(f"{said} (is the token in LARES_DETECTOR_URL right?)", "DETECTOR_DENIED")
        if status == "NOT_FOUND":
            said += f" (is model {self._model} loading, or is its name wrong?)"
        if status == "DEADLINE_EXCEEDED":
            said = f"{self.address}: no answer in time"
        return Unavailable(said, REASONS.get(status, "DETECTOR_AWAY"))


def _headers(token: str) -> dict[str, str] | None:
    """For a proxy in front of Triton, and for Triton itself (`--grpc-restricted-protocol=...:token=...`)."""
    if not token:
        return None
    return {"authorization": f"Bearer {token}", "triton-grpc-protocol-token": token}


def in_flight_of(config: Any) -> int:
    """How many requests of one image keep a model of this configuration (ModelConfig) busy: four full batches
    for each of its instances, 64 at most. Without dynamic batching a batch is one."""
    instances = sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group) or 1
    batch = max(1, config.max_batch_size) if config.HasField("dynamic_batching") else 1
    return int(min(MOST_IN_FLIGHT, BATCHES_AHEAD * batch * instances))


def _dtype(name: str) -> str:
    kind = triton_to_np_dtype(name)
    return name.lower() if kind is None else np.dtype(kind).name
