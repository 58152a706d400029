"""Limits how much one operation may ask for, computed before it runs from its text and its page sizes."""

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

# subscription > event > detections > edges > node > media > camera > zones > polygon > x has 10 levels.
MAX_DEPTH = 12
# The number of fields in the response if every page and list is full: about a second of work. The largest
# page of media, with the largest page of detections of each and all their fields, stays just below.
MAX_COST = 1_500_000
# The cost of a field for which the gateway makes a call to the store for every parent.
CALL_COST = 1_000
CALL_FIELDS = {
    ("Event", "assessments"),
    ("Event", "evidence"),
    ("Assessment", "rawAnswer"),
    ("Camera", "warnings"),
}
# Looks at thousands of detections.
SUGGESTIONS_FIELD, SUGGESTIONS_COST = ("Query", "suggestZones"), 20 * CALL_COST
# Costs a call for each frame whatever is selected, because the store applies the policy to all findings.
PREVIEW_FIELD = ("Query", "previewPolicy")
# The assumed length of a list that has no bound of its own.
LIST_LENGTH = 10
# Lists that are longer: one sample every 5 s for an hour; the most frames of a preview; the most findings
# that a detector reports for a frame; what a camera may have; the frames of a clip by default, and the most
# findings of each; what may be said of the house; what evidence has.
LIST_LENGTHS = {
    ("Gpu", "history"): 720,
    ("PolicyPreview", "frames"): 200,
    ("FramePreview", "detections"): 100,
    ("Camera", "zones"): 32,
    ("Camera", "lines"): 32,
    ("Camera", "masks"): 32,
    ("Camera", "sizeFilters"): 32,
    ("Zone", "polygon"): 64,
    ("Mask", "polygon"): 64,
    ("ZoneSuggestion", "polygon"): 64,
    ("ModeSchedule", "changes"): 100,
    ("Media", "frames"): 300,
    ("Frame", "detections"): 20,
    ("Query", "people"): 200,
    ("Query", "expectedVisits"): 64,
    ("Presence", "present"): 200,
    ("Evidence", "zones"): 32,
    ("Evidence", "lines"): 32,
    ("Evidence", "tracks"): 100,
    ("Evidence", "past"): 100,
}


class Complexity(NamedTuple):
    cost: int
    depth: int


class OperationLimits:
    """Checks the operations of one document, which must be valid: without fragment cycles or unknown
    fields."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }

    def check(self, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> None:
        """Raises Invalid TOO_DEEP or TOO_COSTLY."""
        walk = _ComplexityWalk(self._schema, self._fragments, _page_sizes(operation, variables))
        root = self._schema.get_root_type(operation.operation)
        try:
            cost, depth = walk.selection(operation.selection_set, root)
        except RecursionError:
            cost = depth = sys.maxsize
        if depth > MAX_DEPTH:
            raise Invalid(f"fields may be nested at most {MAX_DEPTH} levels deep", "TOO_DEEP")
        if cost > MAX_COST:
            raise Invalid(
                f"the response could have {cost} fields, and at most {MAX_COST} are allowed: select fewer "
                "fields, or smaller pages",
                "TOO_COSTLY",
            )


class _ComplexityWalk:
    """Computes the complexity of one operation. Every fragment is measured once only, so that a chain of
    fragments, each of which uses the next one twice, takes no exponential time."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], sizes: Mapping[str, int]
    ) -> None:
        self._schema, self._fragments, self._sizes = schema, fragments, sizes
        self._measured: dict[str, Complexity] = {}

    def selection(self, selections: SelectionSetNode, parent: Any) -> Complexity:
        parts = [self._node(node, parent) for node in selections.selections]
        return Complexity(sum(part.cost for part in parts), max(part.depth for part in parts))

    def _node(self, node: Any, parent: Any) -> Complexity:
        if isinstance(node, FieldNode):
            return self._field(node, parent)
        if isinstance(node, InlineFragmentNode):
            return self.selection(node.selection_set, parent)
        name = node.name.value
        if name not in self._measured:
            self._measured[name] = self.selection(self._fragments[name].selection_set, parent)
        return self._measured[name]

    def _field(self, node: FieldNode, parent: Any) -> Complexity:
        field = self._schema.get_field(parent, node.name.value)
        own = self._own_cost(node, parent)
        if field is None or node.selection_set is None:
            return Complexity(own, 1)
        type_ = get_named_type(field.type)
        inner = self.selection(node.selection_set, type_)
        # Introspection is deep by nature; graphql-core has its own rule for it.
        depth = 1 if type_.name.startswith("__") else inner.depth + 1
        length = 1
        if "first" in field.args:
            length = self._page_size(node, "first")
        elif _is_list(field.type) and not parent.name.endswith("Connection"):
            length = LIST_LENGTHS.get((parent.name, node.name.value), LIST_LENGTH)
        return Complexity(own + inner.cost * length, depth)

    def _own_cost(self, node: FieldNode, parent: Any) -> int:
        """The cost of the field without its selection."""
        name = parent.name, node.name.value
        if name == PREVIEW_FIELD:
            return CALL_COST * (self._page_size(node, "frames") or PAGE)
        if name == SUGGESTIONS_FIELD:
            return SUGGESTIONS_COST
        return CALL_COST if name in CALL_FIELDS else 1

    def _page_size(self, node: FieldNode, argument_name: str) -> int:
        value = next(
            (argument.value for argument in node.arguments or () if argument.name.value == argument_name),
            None,
        )
        return _page_size(value, self._sizes)


def _page_size(value: ValueNode | None, variables: Mapping[str, int]) -> int:
    if isinstance(value, IntValueNode):
        return _clamp(int(value.value))
    if isinstance(value, VariableNode):
        return variables.get(value.name.value, PAGE)
    return PAGE


def _page_sizes(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, int]:
    """Returns the variables that can be page sizes, with the defaults that the operation declares."""
    defaults = {
        definition.variable.name.value: _page_size(definition.default_value, {})
        for definition in operation.variable_definitions or ()
    }
    given = {name: _clamp(value) for name, value in variables.items() if isinstance(value, int)}
    return defaults | given


def _clamp(size: int) -> int:
    """Sizes out of range are refused when the field runs. Here, a negative one must not reduce the cost of
    other fields."""
    return max(0, min(size, LARGEST_DETECTION_PAGE))


def _is_list(type_: Any) -> bool:
    return is_list_type(type_.of_type if isinstance(type_, GraphQLNonNull) else type_)
