"""GraphQL texts, parsed and validated once and then remembered."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    parse,
    validate,
)

from gateway.executor import Plans
from gateway.faults import Refused
from gateway.limits import Limits
from mesh.problems import Invalid

REMEMBERED = 128
LONGEST = 32 * 1024
TOKENS = 1000
ERRORS = 5


@dataclass(frozen=True, slots=True)
class Document:
    """One valid text."""

    text: str
    tree: DocumentNode
    limits: Limits
    # Of its operations without variables: the same for every request.
    plans: Plans = field(default_factory=dict)

    def operation(self, name: str | None, variables: Mapping[str, Any]) -> OperationDefinitionNode:
        """The operation meant by `name`, which may be None where there is one only; within the limits.
        Raises Invalid."""
        operations = [node for node in self.tree.definitions if isinstance(node, OperationDefinitionNode)]
        chosen = [node for node in operations if name is None or (node.name and node.name.value == name)]
        if len(chosen) != 1:
            raise Invalid("operationName must name one of the operations", "NO_OPERATION")
        self.limits.check(chosen[0], variables)
        return chosen[0]


class Documents:
    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._known: OrderedDict[str, Document] = OrderedDict()

    def read(self, text: str) -> Document:
        """Raises Refused with what is wrong, Invalid QUERY_TOO_LONG."""
        known = self._known.get(text)
        if known:
            self._known.move_to_end(text)
            return known
        if len(text) > LONGEST:
            raise Invalid(f"a query may have {LONGEST} characters, not more", "QUERY_TOO_LONG")
        try:
            tree = parse(text, max_tokens=TOKENS)
            errors = validate(self._schema, tree, max_errors=ERRORS, hide_suggestions=True)
        except GraphQLError as error:
            errors = [error]
        if errors:
            raise Refused(errors)
        document = self._known[text] = Document(text, tree, Limits(self._schema, tree))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return document


def is_subscription(operation: OperationDefinitionNode) -> bool:
    return operation.operation is OperationType.SUBSCRIPTION
