"""A server that speaks as much of Triton's gRPC as Lares uses, and asks for a token. It finds nothing."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

Metadata = service_pb2.ModelMetadataResponse.TensorMetadata
OUTPUTS = (("scores", "FP32", [-1, 1]), ("labels", "INT32", [-1, 1]), ("boxes", "FP32", [-1, 1, 4]))
PARAMETERS = {"name": "scripted", "digest": "ab" * 32, "labels": json.dumps(["person"])}


class ScriptedTriton(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """`tokens` are those that it accepts now. It refuses others as Triton does itself or, with `as_proxy`, as
    a proxy before it, and counts them."""

    def __init__(self, as_proxy: bool) -> None:
        self.as_proxy, self.tokens, self.refused = as_proxy, set[str](), 0
        self.address = ""

    async def _require_token(self, context: Any) -> None:
        headers = dict(context.invocation_metadata())
        if self.as_proxy:
            given = str(headers.get("authorization", "")).removeprefix("Bearer ")
            status, text = grpc.StatusCode.UNAUTHENTICATED, "no"
        else:
            given = str(headers.get("triton-grpc-protocol-token", ""))
            status = grpc.StatusCode.UNAVAILABLE
            text = "This protocol is restricted, expecting header 'triton-grpc-protocol-token'"
        if given not in self.tokens:
            self.refused += 1
            await context.abort(status, text)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._require_token(context)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await self._require_token(context)
        images = Metadata(name="images", datatype="UINT8", shape=[-1, 32, 32, 3])
        outputs = [Metadata(name=name, datatype=kind, shape=shape) for name, kind, shape in OUTPUTS]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=[images], outputs=outputs)

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        await self._require_token(context)
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=8)
        for name, value in PARAMETERS.items():
            config.parameters[name].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._require_token(context)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name, kind, shape in OUTPUTS:
            response.outputs.add(name=name, datatype=kind, shape=[1, *shape[1:]])
            response.raw_output_contents.append(bytes(int(4 * np.prod(shape[1:]))))
        return response


@asynccontextmanager
async def scripted_triton(*, as_proxy: bool) -> AsyncIterator[ScriptedTriton]:
    triton, server = ScriptedTriton(as_proxy), grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(triton, server)
    triton.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield triton
    finally:
        await server.stop(0)
