"""One GraphQL request, as HTTP and WebSocket carry it."""

import json
from dataclasses import dataclass, field
from typing import Any

from mesh.problems import Invalid


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    query: str
    operation_name: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_payload(cls, payload: object) -> "GraphQLRequest":
        """Reads `{query, operationName?, variables?}`. Raises Invalid BAD_REQUEST."""
        if not isinstance(payload, dict):
            raise Invalid("the request must be a JSON object with a query", "BAD_REQUEST")
        query, name, variables = payload.get("query"), payload.get("operationName"), payload.get("variables")
        if not isinstance(query, str) or not query.strip():
            raise Invalid("query must be a string that is not empty", "BAD_REQUEST")
        if not isinstance(name, str | None):
            raise Invalid("operationName must be a string", "BAD_REQUEST")
        if not isinstance(variables, dict | None):
            raise Invalid("variables must be an object", "BAD_REQUEST")
        return cls(query, name or None, variables or {})

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Equal for equal requests."""
        return self.query, self.operation_name, json.dumps(self.variables, sort_keys=True)
