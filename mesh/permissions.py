"""The permission that each RPC needs, as its contract declares it."""

from functools import cache
from typing import TypeAlias

from google.protobuf import descriptor_pool

from lares.access.v1 import permission_pb2
from mesh.problems import Internal

Permission: TypeAlias = permission_pb2.Permission.ValueType

READ = permission_pb2.PERMISSION_READ
UPLOAD = permission_pb2.PERMISSION_UPLOAD
SIBLING = permission_pb2.PERMISSION_SIBLING
MANAGE_KEYS = permission_pb2.PERMISSION_MANAGE_KEYS
REPORT_PRESENCE = permission_pb2.PERMISSION_REPORT_PRESENCE
UNDECLARED = permission_pb2.PERMISSION_UNSPECIFIED

EVERY: frozenset[Permission] = frozenset(permission_pb2.Permission.values()) - {UNDECLARED}
# All that an API key can give.
OF_A_KEY = EVERY - {SIBLING}

# The contracts of these services come with gRPC and declare no permission. Everyone may call Health.
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


@cache
def permission_of(method: str) -> Permission:
    """The permission that `/package.Service/Method` needs. It is UNDECLARED if the method declares none or
    does not exist."""
    service, _, name = method.removeprefix("/").partition("/")
    if service == REFLECTION:
        return READ
    try:
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return UNDECLARED
    permission: Permission = found.GetOptions().Extensions[permission_pb2.permission]
    return permission


def require_declared(service: str) -> None:
    """Raises Internal PERMISSION_NOT_DECLARED if a method of this service, given by its full name, declares
    none."""
    for method in descriptor_pool.Default().FindServiceByName(service).methods:
        if permission_of(f"/{service}/{method.name}") not in EVERY:
            raise Internal(
                f"{method.full_name} does not declare which permission it needs", "PERMISSION_NOT_DECLARED"
            )


def short_name(permission: Permission) -> str:
    """The name without its prefix: `READ` for PERMISSION_READ."""
    return permission_pb2.Permission.Name(permission).removeprefix("PERMISSION_")
