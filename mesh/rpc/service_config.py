"""How gRPC treats the calls to a service: which replica gets a call, and which calls are tried again.

https://github.com/grpc/grpc/blob/master/doc/service_config.md. The C core has no hedging.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from google.protobuf.descriptor_pb2 import MethodOptions

from mesh.rpc.protocol import sibling_health

# A call is tried four times within about a second: longer than a replica needs to leave the others' lists.
RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# While more than half of the calls fail, none is tried again: that would be more load for what is overloaded.
THROTTLING = {"maxTokens": 100, "tokenRatio": 0.5}


@cache
def service_config(service: str) -> str:
    """The configuration of a channel to `store`, `detect` and so on, in JSON.

    Calls take turns among the replicas that say by gRPC's health service that siblings can call them. A call
    that ended with UNAVAILABLE is made again if its contract says by `idempotency_level` that this does no
    harm. gRPC itself repeats any call that certainly reached no servicer.
    """
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": sibling_health(service)},
            "methodConfig": [{"name": list(_repeatable(service)), "retryPolicy": RETRY_POLICY}],
            "retryThrottling": THROTTLING,
        }
    )


def _repeatable(service: str) -> Iterator[dict[str, str]]:
    """The methods of a service's contracts that may be called again."""
    for name in _contracts(service):
        file = import_module(name).DESCRIPTOR
        for declared in file.services_by_name.values():
            for method in declared.methods:
                if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN:
                    yield {"service": declared.full_name, "method": method.name}


def _contracts(service: str) -> Iterator[str]:
    """The generated modules with the services of `lares.<service>`."""
    for package in (f"lares.{service}.v1", f"lares.{service}.internal.v1"):
        try:
            found: Any = import_module(package)
        except ModuleNotFoundError:
            continue
        for module in iter_modules(found.__path__):
            if module.name.endswith("_service_pb2"):
                yield f"{package}.{module.name}"
