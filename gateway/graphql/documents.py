"""Parses and validates GraphQL documents, and caches those that are valid."""

from collections.abc import Mapping
from typing import Any

from cachetools import LRUCache
from graphql import (
    DirectiveNode,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    parse,
    validate,
    visit,
)

from gateway.errors import InvalidGraphQL
from gateway.graphql.executor import CollectedSelections, PlanningExecutor
from gateway.graphql.limits import OperationLimits
from mesh.problems import Invalid

CACHED_DOCUMENTS = 128
# Of each document, by the values of the variables in directives.
CACHED_CHOICES = 16
MAX_CHARACTERS = 32 * 1024
MAX_TOKENS = 1000
MAX_ERRORS = 5


class ValidDocument:
    """A document that is valid, and what its executions share."""

    def __init__(self, schema: GraphQLSchema, tree: DocumentNode) -> None:
        self.tree = tree
        self._limits = OperationLimits(schema, tree)
        self._operations = [node for node in tree.definitions if isinstance(node, OperationDefinitionNode)]
        # Operations without variables that are within the limits, which nothing can change.
        self._checked: dict[str | None, OperationDefinitionNode] = {}
        # Of operations without variables, to make others from.
        self.executors: dict[str | None, PlanningExecutor] = {}
        switches = _Switches()
        visit(tree, switches)
        self._switches = sorted(switches.names)
        self._collected: LRUCache[tuple[object, ...], CollectedSelections] = LRUCache(CACHED_CHOICES)

    def operation(self, name: str | None, variables: Mapping[str, Any]) -> OperationDefinitionNode:
        """Returns the operation with this name; None means the only one. Raises Invalid: NO_OPERATION, or
        what the limits raise."""
        if name in self._checked:
            return self._checked[name]
        chosen = [
            node for node in self._operations if name is None or (node.name and node.name.value == name)
        ]
        if len(chosen) != 1:
            raise Invalid("operationName must name one of the operations in the query", "NO_OPERATION")
        self._limits.check(chosen[0], variables)
        if not chosen[0].variable_definitions:
            self._checked[name] = chosen[0]
        return chosen[0]

    def collected(
        self, operation: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> CollectedSelections:
        """Returns what is shared by executions of this operation with equal values of those `variables` that
        decide which fields are selected."""
        key = (id(operation), *[variables.get(name) for name in self._switches])
        found = self._collected.get(key)
        if found is None:
            found = self._collected[key] = CollectedSelections()
        return found


class _Switches(Visitor):
    """Finds the names of the variables in directives, such as `yes` in `@include(if: $yes)`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        for argument in (node.arguments or ()) if node.name.value in ("skip", "include") else ():
            if isinstance(argument.value, VariableNode):
                self.names.add(argument.value.name.value)


class DocumentCache:
    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._documents: LRUCache[str, ValidDocument] = LRUCache(CACHED_DOCUMENTS)

    def get(self, query: str) -> ValidDocument:
        """Raises InvalidGraphQL, Invalid QUERY_TOO_LONG."""
        document = self._documents.get(query)
        if document is None:
            document = self._documents[query] = self._parse(query)
        return document

    def _parse(self, query: str) -> ValidDocument:
        if len(query) > MAX_CHARACTERS:
            raise Invalid(f"a query may have at most {MAX_CHARACTERS} characters", "QUERY_TOO_LONG")
        try:
            tree = parse(query, max_tokens=MAX_TOKENS)
            errors = validate(self._schema, tree, max_errors=MAX_ERRORS, hide_suggestions=True)
        except GraphQLError as error:
            errors = [error]
        if errors:
            raise InvalidGraphQL(errors)
        return ValidDocument(self._schema, tree)


def is_subscription(operation: OperationDefinitionNode) -> bool:
    return operation.operation is OperationType.SUBSCRIPTION
