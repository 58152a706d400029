"""One request in GraphQL's own terms, as HTTP and WebSocket bring it."""

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mesh.problems import Invalid


@dataclass(frozen=True, slots=True)
class Operation:
    text: str
    name: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, payload: object) -> "Operation":
        """From `{query, operationName?, variables?}`; raises Invalid BAD_REQUEST."""
        if not isinstance(payload, dict):
            raise Invalid("one JSON object with a query is needed", "BAD_REQUEST")
        text, name, variables = payload.get("query"), payload.get("operationName"), payload.get("variables")
        if not isinstance(text, str) or not text.strip():
            raise Invalid("query must be a text", "BAD_REQUEST")
        if not isinstance(name, str | None):
            raise Invalid("operationName must be a text", "BAD_REQUEST")
        if not isinstance(variables, dict | None):
            raise Invalid("variables must be an object", "BAD_REQUEST")
        return cls(text, name or None, variables or {})

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Equal for those that ask the same."""
        return self.text, self.name, json.dumps(self.variables, sort_keys=True)


def read_json(text: str | bytes) -> Any:
    """Strict JSON that can also be written again: no NaN, no half of a surrogate pair. Raises Invalid."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Invalid("this is no JSON", "BAD_JSON") from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
