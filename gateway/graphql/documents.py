"""Parses and validates GraphQL documents, and caches those that are valid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    parse,
    validate,
)

from gateway.errors import InvalidGraphQL
from gateway.graphql.executor import Plans
from gateway.graphql.limits import OperationLimits
from mesh.problems import Invalid

CACHED_DOCUMENTS = 128
MAX_CHARACTERS = 32 * 1024
MAX_TOKENS = 1000
MAX_ERRORS = 5


@dataclass(frozen=True, slots=True)
class ValidDocument:
    tree: DocumentNode
    limits: OperationLimits
    # Plans of those operations that declare no variables: they are the same for every request.
    plans: Plans = field(default_factory=dict)

    def operation(self, name: str | None, variables: Mapping[str, Any]) -> OperationDefinitionNode:
        """Returns the operation with this name; None means the only one. Raises Invalid: NO_OPERATION, or
        what the limits raise."""
        operations = [node for node in self.tree.definitions if isinstance(node, OperationDefinitionNode)]
        chosen = [node for node in operations if name is None or (node.name and node.name.value == name)]
        if len(chosen) != 1:
            raise Invalid("operationName must name one of the operations in the query", "NO_OPERATION")
        self.limits.check(chosen[0], variables)
        return chosen[0]


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
        return ValidDocument(tree, OperationLimits(self._schema, tree))


def is_subscription(operation: OperationDefinitionNode) -> bool:
    return operation.operation is OperationType.SUBSCRIPTION
