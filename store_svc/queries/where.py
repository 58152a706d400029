"""The conditions of one statement and its arguments, numbered as PostgreSQL wants them."""

from typing import Any


class Where:
    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *arguments: Any) -> None:
        """`{}` in the condition (a constant, never input) is where an argument goes, in order."""
        self._conditions.append(condition.format(*[self.argument(value) for value in arguments]))

    def argument(self, value: Any) -> str:
        """The placeholder of one more argument."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
