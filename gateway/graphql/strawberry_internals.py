"""Everything that the gateway takes from inside Strawberry (0.341.2), which has no public name for it.

Strawberry declares the schema. graphql-core runs it, because Strawberry's own `Schema.execute` costs ten
times as much. For that the gateway needs the graphql-core schema that Strawberry has built, Strawberry's
cheap check for awaitables, and the way from a field of that schema back to the Python resolver. Check this
module, with tests/unit/gateway/test_executor.py, when Strawberry is upgraded."""

from collections.abc import Callable
from typing import cast

import strawberry
from graphql import GraphQLField, GraphQLSchema
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from gateway.schema.message_fields import READER, FieldReader

is_awaitable: Callable[[object], bool] = optimized_is_awaitable


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Returns the graphql-core schema that Strawberry has built."""
    return schema._schema


def field_reader(field: GraphQLField) -> FieldReader | None:
    """Returns how to read the field from its object without Strawberry, or None if it has a resolver."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryField) or definition.extensions:
        return None
    if definition.base_resolver is None:
        return FieldReader(definition.python_name)
    return cast("FieldReader | None", definition.metadata.get(READER))
