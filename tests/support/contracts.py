"""All services of the contracts, and a server that has them."""

import importlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import lares
from mesh.rpc import GrpcServer


def services() -> list[ServiceDescriptor]:
    folder = Path(next(iter(lares.__path__)))
    found: list[ServiceDescriptor] = []
    for file in sorted(folder.rglob("*_service_pb2.py")):
        module = ".".join(file.with_suffix("").relative_to(folder.parent).parts)
        found += importlib.import_module(module).DESCRIPTOR.services_by_name.values()
    return found


def methods() -> list[MethodDescriptor]:
    return [method for service in services() for method in service.methods]


def path(method: MethodDescriptor) -> str:
    """Returns the method's path in gRPC."""
    return f"/{method.containing_service.full_name}/{method.name}"


def is_internal(method: MethodDescriptor) -> bool:
    return ".internal." in method.full_name


class EmptyServicer:
    """Answers every method of a service with an empty message, and calls `seen` with the method."""

    def __init__(self, service: ServiceDescriptor, seen: Callable[[MethodDescriptor], None]) -> None:
        self._methods = {method.name: method for method in service.methods}
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        method = self._methods[name]

        def empty() -> Message:
            self._seen(method)
            return GetMessageClass(method.output_type)()

        async def unary(request: Any, context: object) -> Message:
            if method.client_streaming:
                async for _ in request:
                    pass
            return empty()

        async def streaming(request: object, context: object) -> AsyncIterator[Message]:
            yield empty()

        return streaming if method.server_streaming else unary


def add_every_service(server: GrpcServer, seen: Callable[[MethodDescriptor], None]) -> None:
    for service in services():
        stubs = importlib.import_module(
            f"{service.file.name.removesuffix('.proto').replace('/', '.')}_pb2_grpc"
        )
        register = getattr(stubs, f"add_{service.name}Servicer_to_server")
        operator = service.name == "KeyService"
        server.add(register, EmptyServicer(service, seen), service.full_name, operator=operator)
