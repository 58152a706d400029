"""Version 0 of Kafka's IncrementalAlterConfigs request, which aiokafka 0.14.0 does not have.

The request that it has, AlterConfigs, resets every setting that it does not name. The schema builds on
`aiokafka.protocol`, which is not a documented interface: check it when the version of aiokafka changes.
"""

from collections.abc import Mapping

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

# Numbers of the Kafka protocol.
SET = 0
TOPIC = 2


class ConfigResponse0(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class ConfigRequest0(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = ConfigResponse0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class ConfigRequest(Request[ConfigRequest0]):  # type: ignore[misc]
    """Sets some settings of one topic, or of another kind of resource, and leaves its others as they are."""

    API_KEY = 44

    def __init__(self, name: str, settings: Mapping[str, str], kind: int = TOPIC) -> None:
        self._resource = (kind, name, [(setting, SET, value) for setting, value in settings.items()])

    def build(self, request_struct_class: type[ConfigRequest0]) -> ConfigRequest0:
        return request_struct_class([self._resource], False)
