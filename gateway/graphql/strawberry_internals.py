"""Everything that the gateway takes from inside Strawberry (0.341.2), which has no public name for it.

Strawberry declares the schema. graphql-core runs it, because Strawberry's own `Schema.execute` costs ten
times as much. For that the gateway needs the graphql-core schema that Strawberry has built, Strawberry's
cheap check for awaitables, and the way from a field of that schema back to the Python resolver. Check this
module, with tests/unit/gateway/test_executor.py, when Strawberry is upgraded."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, cast

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


def direct_reader(field: GraphQLField) -> FieldReader | None:
    """Returns a function that reads the field from its object without Strawberry's resolver machinery, or
    None if the field takes arguments, is asynchronous or needs the request's context."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryField) or field.args or definition.extensions:
        return None
    if READER in definition.metadata:
        return cast("FieldReader", definition.metadata[READER])
    resolver = definition.base_resolver
    if resolver is None:
        return attrgetter(definition.python_name)
    if resolver.is_async or resolver.info_parameter or definition.is_subscription:
        return None
    return cast("Callable[[Any], Any]", resolver.wrapped_func)
