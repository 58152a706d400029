"""How much one operation may ask for, told from its text and the sizes it names, before it runs."""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLNonNull,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_list_type,
)

from gateway.schema.paging import LARGEST_DETECTION_PAGE, PAGE
from mesh.problems import Invalid

# subscription > event > detections > edges > node > media > camera > thresholds > label are 9.
DEPTH = 12
# Fields that the answer may have where everything named is there: about a second of work. The largest page of
# media with the largest page of detections of each, all their fields read, stays just below.
COST = 1_500_000
# What a field costs that is a call to the store of its own for every parent.
CALL = 1_000
CALLS = {("Event", "assessments"), ("Assessment", "rawAnswer")}
# A preview costs as much for each frame, whatever is read of it: the store decides about all findings.
PREVIEW = ("Query", "previewPolicy")
# How long a list is taken to be that nobody bounds.
LIST = 10
# An hour of samples, one in 5 s; the most frames that a preview looks at, and what a detector reports of one.
LONG_LISTS = {
    ("Gpu", "history"): 720,
    ("PolicyPreview", "frames"): 200,
    ("FramePreview", "detections"): 100,
}


class Measure(NamedTuple):
    cost: int
    depth: int


class Limits:
    """Measures the operations of one valid document: its fragments have no cycles, its fields exist."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }

    def check(self, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> None:
        """Raises Invalid TOO_DEEP or TOO_COSTLY."""
        walk = _Walk(self._schema, self._fragments, _sizes(operation, variables))
        root = self._schema.get_root_type(operation.operation)
        try:
            cost, depth = walk.selection(operation.selection_set, root)
        except RecursionError:
            cost = depth = sys.maxsize
        if depth > DEPTH:
            raise Invalid(f"fields lie more than {DEPTH} deep", "TOO_DEEP")
        if cost > COST:
            raise Invalid(
                f"this may answer {cost} fields, and {COST} are the most: ask for less, or smaller pages",
                "TOO_COSTLY",
            )


class _Walk:
    """One measuring. Fragments are measured once, so that a chain of them cannot explode."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], sizes: Mapping[str, int]
    ) -> None:
        self._schema, self._fragments, self._sizes = schema, fragments, sizes
        self._known: dict[str, Measure] = {}

    def selection(self, selections: SelectionSetNode, parent: Any) -> Measure:
        measures = [self._node(node, parent) for node in selections.selections]
        return Measure(sum(m.cost for m in measures), max(m.depth for m in measures))

    def _node(self, node: Any, parent: Any) -> Measure:
        if isinstance(node, FieldNode):
            return self._field(node, parent)
        if isinstance(node, InlineFragmentNode):
            return self.selection(node.selection_set, parent)
        name = node.name.value
        if name not in self._known:
            self._known[name] = self.selection(self._fragments[name].selection_set, parent)
        return self._known[name]

    def _field(self, node: FieldNode, parent: Any) -> Measure:
        field = self._schema.get_field(parent, node.name.value)
        own = self._own(node, parent)
        if field is None or node.selection_set is None:
            return Measure(own, 1)
        kind = get_named_type(field.type)
        inner = self.selection(node.selection_set, kind)
        # Introspection is deep by nature and has a rule of its own in graphql-core.
        depth = 1 if kind.name.startswith("__") else inner.depth + 1
        times = 1
        if "first" in field.args:
            times = self._argument(node, "first")
        elif _is_list(field.type) and not parent.name.endswith("Connection"):
            times = LONG_LISTS.get((parent.name, node.name.value), LIST)
        return Measure(own + inner.cost * times, depth)

    def _own(self, node: FieldNode, parent: Any) -> int:
        """Without what lies below it."""
        place = parent.name, node.name.value
        if place == PREVIEW:
            return CALL * (self._argument(node, "frames") or PAGE)
        return CALL if place in CALLS else 1

    def _argument(self, node: FieldNode, name: str) -> int:
        given = next(
            (argument.value for argument in node.arguments or () if argument.name.value == name), None
        )
        return _size(given, self._sizes)


def _size(given: ValueNode | None, variables: Mapping[str, int]) -> int:
    if isinstance(given, IntValueNode):
        return _page(int(given.value))
    if isinstance(given, VariableNode):
        return variables.get(given.name.value, PAGE)
    return PAGE


def _sizes(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, int]:
    """The variables that can be a size, with the operation's own defaults."""
    defaults = {
        definition.variable.name.value: _size(definition.default_value, {})
        for definition in operation.variable_definitions or ()
    }
    given = {name: _page(value) for name, value in variables.items() if isinstance(value, int)}
    return defaults | given


def _page(asked: int) -> int:
    """Sizes that no page may have are refused later. Here, one below 0 must not pay for other fields."""
    return max(0, min(asked, LARGEST_DETECTION_PAGE))


def _is_list(kind: Any) -> bool:
    return is_list_type(kind.of_type if isinstance(kind, GraphQLNonNull) else kind)
