"""Everything that the gateway takes from inside Strawberry (0.341.2), which has no public name for it.

Strawberry declares the schema. graphql-core runs it, because Strawberry's own `Schema.execute` costs ten
times as much. For that the gateway needs the graphql-core schema that Strawberry has built, Strawberry's
cheap check for awaitables, and the way from a field of that schema back to the Python resolver. Check this
module, with tests/unit/gateway/test_executor.py and test_plans.py, when Strawberry is upgraded."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import strawberry
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, get_nullable_type, is_scalar_type
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.arguments import convert_argument
from strawberry.types.field import StrawberryField

from gateway.schema.message_fields import READER, FieldReader

is_awaitable: Callable[[object], bool] = optimized_is_awaitable


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Returns the graphql-core schema that Strawberry has built. It calls asynchronous resolvers directly:
    Strawberry's way to them costs more than most of them. Extensions of fields, permission classes and
    exception handlers must not be used in it."""
    core = schema._schema
    for type_ in core.type_map.values():
        if isinstance(type_, GraphQLObjectType):
            for field in type_.fields.values():
                definition = _definition(field)
                if definition and definition.is_async and not definition.is_subscription:
                    field.resolve = _direct_resolver(schema.schema_converter, definition, field)
    return core


def field_reader(field: GraphQLField) -> FieldReader | None:
    """Returns how to read the field from its object without Strawberry, or None if it has a resolver."""
    definition = _definition(field)
    if definition is None:
        return None
    if definition.base_resolver is None:
        return FieldReader(definition.python_name)
    return cast("FieldReader | None", definition.metadata.get(READER))


def _definition(field: GraphQLField) -> StrawberryField | None:
    """Returns what Strawberry made the field from; None for fields of introspection."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return definition if isinstance(definition, StrawberryField) else None


def _direct_resolver(
    converter: GraphQLCoreConverter, definition: StrawberryField, field: GraphQLField
) -> Callable[..., Any]:
    resolver = definition.base_resolver
    assert resolver
    assert not definition.extensions
    function = cast("Callable[..., Awaitable[Any]]", resolver.wrapped_func)
    takes_source, info_parameter = resolver.self_parameter is not None, resolver.info_parameter
    arguments = {converter.config.name_converter.from_argument(each): each for each in definition.arguments}
    # Strawberry converts input types, enums and lists, but no scalars.
    scalars = {name for name in arguments if is_scalar_type(get_nullable_type(field.args[name].type))}

    async def resolve(source: Any, raw_info: Any, **given: Any) -> Any:
        info: strawberry.Info[Any, Any] = strawberry.Info(_raw_info=raw_info, _field=definition)
        values: dict[str, Any] = {info_parameter.name: info} if info_parameter else {}
        for name, value in given.items():
            argument = arguments[name]
            if not (name in scalars or value is None):
                value = convert_argument(
                    value, argument.type, converter.scalar_registry, converter.config, info, path=(name,)
                )
            values[argument.python_name] = value
        return await (function(source, **values) if takes_source else function(**values))

    return resolve
