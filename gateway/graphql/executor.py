"""graphql-core's executor (3.3.2), with a fast path for fields that are only read (`gateway.graphql.plans`).

Of each object, the fields in its plan are read first, all at once. If that fails (null in a field that cannot
be null, an enum number without a name), graphql-core executes all fields of the object, and reports the
error as the GraphQL specification requires. No resolver runs twice, because plans call none, and no error is
hidden, because then the result of graphql-core is the one that counts.

The methods that are overridden here are documented as private. tests/unit/gateway/test_executor.py compares
the results with those of the base class; check both when graphql-core is upgraded."""

from collections.abc import Awaitable
from typing import Any, TypeAlias, cast

from graphql import Executor, GraphQLError, GraphQLObjectType, OperationType

from gateway.graphql.plans import MAX_PLANS, Fields, Plan, Planner, Plans, Selection

# The name of a type, and the ids of the nodes of the document that select its fields.
NodesKey: TypeAlias = "tuple[str | int, ...]"


class CollectedSelections:
    """What executions of an operation share if @skip and @include leave them the same fields: the fields of
    each selection set, and their plans."""

    def __init__(self) -> None:
        self.root: Any = None
        self.subfields: dict[NodesKey, Any] = {}
        self.plans: Plans = {}


class PlanningExecutor(Executor[None]):
    """Returns the same results as its base class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # To be replaced by what earlier executions of the document have collected.
        self.collected = CollectedSelections()

    def again(self, root_value: object, context_value: object) -> "PlanningExecutor":
        """Returns an executor for the same operation with the same variables."""
        executor = PlanningExecutor(
            self.schema,
            self.fragment_definitions,
            self.fragments,
            root_value,
            context_value,
            self.operation,
            self.variable_values,
            self.field_resolver,
            self.type_resolver,
            self.subscribe_field_resolver,
            is_awaitable=self.is_awaitable,
            hide_suggestions=self.hide_suggestions,
        )
        executor.collected = self.collected
        return executor

    def execute_operation(self, serially: bool | None = None) -> Any:
        """Does what its base class does, but collects the root's fields only once."""
        operation = self.operation.operation
        root_type = self.schema.get_root_type(operation)
        if self.collected.root is None or root_type is None:
            return super().execute_operation(serially)
        serially = operation is OperationType.MUTATION if serially is None else serially
        try:
            data = self.execute_collected_root_fields(
                root_type, self.root_value, self.collected.root, serially, []
            )
        except GraphQLError as error:
            return self._failed(error)
        return self._respond(data) if self.is_awaitable(data) else self.build_response(data)

    async def _respond(self, data: Awaitable[Any]) -> Any:
        try:
            return self.build_response(await data)
        except GraphQLError as error:
            return self._failed(error)

    def _failed(self, error: GraphQLError) -> Any:
        self.collected_errors.add(error, None)
        return self.build_response(None)

    def execute_collected_root_fields(
        self, root_type: GraphQLObjectType, root_value: Any, grouped_field_set: Any, *rest: Any
    ) -> Any:
        self.collected.root = grouped_field_set
        return super().execute_collected_root_fields(root_type, root_value, grouped_field_set, *rest)

    def execute_fields(
        self, parent_type: GraphQLObjectType, source_value: Any, path: Any, grouped_field_set: Any, *rest: Any
    ) -> Any:
        plan = self._plan(parent_type, grouped_field_set)
        if plan is None:
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, *rest)
        try:
            results = plan.read(source_value)
        except Exception:  # graphql-core reports it; see the module's docstring
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, *rest)
        if not plan.others:
            return results
        others = super().execute_fields(parent_type, source_value, path, cast("Any", plan.others), *rest)
        if self.is_awaitable(others):
            return _complete(results, others)
        results.update(cast("dict[str, Any]", others))
        return results

    def collect_subfields(self, return_type: GraphQLObjectType, field_details_list: Selection) -> Any:
        key: NodesKey = (return_type.name, *[id(details.node) for details in field_details_list])
        collected = self.collected.subfields.get(key)
        if collected is None:
            collected = super().collect_subfields(return_type, field_details_list)
            if len(self.collected.subfields) < MAX_PLANS:
                self.collected.subfields[key] = collected
        return collected

    def _plan(self, parent: GraphQLObjectType, fields: Fields) -> Plan | None:
        known = self.collected.plans.get(id(fields))
        if known:
            return known[1]
        return Planner(self.schema, self.collected.plans, self._subfields).plan(parent, fields)

    def _subfields(self, type_: GraphQLObjectType, selection: Selection) -> Fields:
        return cast("Fields", self.collect_subfields(type_, selection).grouped_field_set)


async def _complete(results: dict[str, Any], others: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    results.update(await others)
    return results
