"""Plans: generated functions that read what a selection set wants of an object.

graphql-core spends about 3 us on every field of every object. A field that is only read (an attribute, or a
`message_field`), with everything below it, needs none of that: for each selection set, a Python function is
generated here that returns the results of such fields at a twentieth of the cost. For
`{ id assessment { score } }` of an event it is

    def read(message):
        return {
            'id': (value if type(value := message.id) is str else complete_1(value)),
            'assessment': (None if (value := convert_3(message)) is None else read_2(value)),
        }

Fields that take more (arguments, the request's context, other services) are left to graphql-core. A plan
knows only values that fit the schema; with any other its function raises some exception."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from graphql import (
    GRAPHQL_MAX_INT,
    GRAPHQL_MIN_INT,
    Executor,
    GraphQLEnumType,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)

from gateway.graphql.strawberry_internals import field_reader
from gateway.schema.message_fields import FieldReader, format_timestamp

# The nodes of a document that select one field, as graphql-core collects them.
Selection: TypeAlias = list[Any]
# The fields of a selection set by response name.
Fields: TypeAlias = Mapping[str, Selection]
Read: TypeAlias = Callable[[Any], dict[str, Any]]
# Returns a Python expression for the result of a value, given an expression that reads the value and the
# variable in which to keep it if it is used again.
ResultOf: TypeAlias = Callable[[str, str], str]

# The test for a value of a scalar that is its own result. {0} is the first use of the value, {1} a later one.
UNCHANGED = {
    "String": "type({0}) is str",
    "ID": "type({0}) is str",
    "Boolean": "type({0}) is bool",
    "Int": f"type({{0}}) is int and {GRAPHQL_MIN_INT} <= {{1}} <= {GRAPHQL_MAX_INT}",
    "Float": "type({0}) is float and isfinite({1})",
}
# A document of 1000 tokens has fewer selection sets, but fragments, in ever different combinations, can make
# more of them.
MAX_PLANS = 500
# Collections that graphql-core does not accept as lists.
NOT_LISTS = (str, bytes, bytearray, memoryview, Mapping)


class Plan(NamedTuple):
    """`read` returns the results of all fields in the order of the selection, with None in the places of the
    `others`, which graphql-core must execute. `read_message` does the same for the message that an object
    wraps, so that the object need not be made. It is None if more than the message is read."""

    read: Read
    read_message: Read | None
    others: Fields


# By the id of the fields, which are kept, too, so that the id stays theirs. There is no plan if graphql-core
# must execute all of the fields.
Plans: TypeAlias = "dict[int, tuple[Fields, Plan | None]]"


class Planner:
    """Makes plans and adds them to `plans`, which it does not let grow beyond MAX_PLANS."""

    def __init__(
        self,
        schema: GraphQLSchema,
        plans: Plans,
        subfields: Callable[[GraphQLObjectType, Selection], Fields],
    ) -> None:
        """`subfields` returns the fields of a selection within a type: the same object for the same type and
        nodes, so that each plan is made once."""
        self._schema, self._plans, self._subfields = schema, plans, subfields

    def plan(self, parent: GraphQLObjectType, fields: Fields) -> Plan | None:
        if id(fields) not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                return None
            self._plans[id(fields)] = fields, None  # takes its place before those of the fields below it
            self._plans[id(fields)] = fields, self._make(parent, fields)
        return self._plans[id(fields)][1]

    def _make(self, parent: GraphQLObjectType, fields: Fields) -> Plan | None:
        function, others = _Function(), {}
        for name, selection in fields.items():
            try:
                function.results[name] = self._field(function, parent, selection)
            except _NotPlain:
                function.results[name] = "None"
                others[name] = selection
        return Plan(*function.compile(), others) if len(others) < len(fields) else None

    def _field(self, function: "_Function", parent: GraphQLObjectType, selection: Selection) -> str:
        """Returns an expression for the result of a field. Raises _NotPlain."""
        if _is_typename(selection):
            return repr(parent.name)
        field = self._schema.get_field(parent, selection[0].node.name.value)
        reader = field_reader(field) if field else None
        if not (field and reader):
            raise _NotPlain
        type_ = get_named_type(field.type)
        if is_leaf_type(type_):
            result_of: ResultOf = partial(_leaf, function, type_)
        else:
            plan = self._whole_plan(type_, selection)
            read = plan.read
            if reader.messages and plan.read_message:
                reader, read = reader.messages, plan.read_message
            result_of = partial(_call, function.constant("read", read))
        return _result(field.type, result_of, function.reading(reader), "value")

    def _whole_plan(self, type_: object, selection: Selection) -> Plan:
        """Returns a plan without others. Raises _NotPlain."""
        if not isinstance(type_, GraphQLObjectType) or type_.is_type_of:
            raise _NotPlain
        fields = self._subfields(type_, selection)
        plan = self.plan(type_, fields)
        # A plan that reads nothing would accept any value.
        if plan is None or plan.others or all(map(_is_typename, fields.values())):
            raise _NotPlain
        return plan


class _NotPlain(Exception):
    """It takes more than reading to execute this field."""


def _is_typename(selection: Selection) -> bool:
    return bool(selection[0].node.name.value == "__typename")


def _result(type_: Any, result_of: ResultOf, read: str, name: str) -> str:
    """Returns an expression for the result of a value of this type, given `result_of` for its named type."""
    if not isinstance(type_, GraphQLNonNull):
        result = _result(GraphQLNonNull(type_), result_of, name, name)
        return f"(None if {_kept(read, name)} is None else {result})"
    if isinstance(type_.of_type, GraphQLList):
        return f"[{_result(type_.of_type.of_type, result_of, 'item', 'item')} for item in items({read})]"
    return result_of(read, name)


def _call(function: str, read: str, _: str) -> str:
    return f"{function}({read})"


def _leaf(function: "_Function", type_: GraphQLLeafType, read: str, name: str) -> str:
    if isinstance(type_, GraphQLEnumType):
        # Protobuf enums are read as numbers.
        names = {value.value: name for name, value in type_.values.items()}
        return f"{function.constant('names', names)}[{read}]"
    if type_.name == "DateTime":
        return f"format_timestamp({read})"
    complete = function.constant("complete", partial(_complete, type_))
    if type_.name not in UNCHANGED:
        return f"{complete}({read})"
    return f"({name} if {UNCHANGED[type_.name].format(_kept(read, name), name)} else {complete}({name}))"


def _kept(read: str, name: str) -> str:
    return read if read == name else f"({name} := {read})"


def _complete(type_: GraphQLLeafType, value: Any) -> Any:
    if isinstance(value, Exception) or hasattr(value, "__await__"):
        raise TypeError("not a value")  # graphql-core raises the one and awaits the other
    return Executor.complete_leaf_value(type_, value)


def _items(values: Any) -> Collection[Any]:
    """Returns the items of a list. Raises TypeError for what is none, and for iterators, which could not be
    read again."""
    # The first condition is the common case, and spares the others, which are slow.
    if type(values) is list or (isinstance(values, Collection) and not isinstance(values, NOT_LISTS)):
        return values
    raise TypeError("not a list")


class _Function:
    """The source of a generated function."""

    def __init__(self) -> None:
        # Expressions, by response name.
        self.results: dict[str, str] = {}
        self._constants: dict[str, Any] = {
            "format_timestamp": format_timestamp,
            "isfinite": isfinite,
            "items": _items,
        }
        # Statements that follow the paths of fields. Each sets the variable of this name.
        self._statements: dict[str, str] = {}
        self._only_message = True

    def constant(self, kind: str, value: object) -> str:
        """Returns the name of a global variable that has this value."""
        name = f"{kind}_{len(self._constants)}"
        self._constants[name] = value
        return name

    def reading(self, reader: FieldReader) -> str:
        """Returns an expression that reads a field."""
        *way, last = reader.path.split(".")
        if [*way, last][0] == "message":
            self._statements["message"] = "message = source.message"
            holder, *way = "message", *way[1:]
        else:
            self._only_message = False
            holder = "source"
        for step in way:
            before, holder = holder, f"{holder}_{step}"
            self._statements[holder] = f"{holder} = {before}.{step}"
        read = holder if reader.path == "message" else f"{holder}.{last}"
        return f"{self.constant('convert', reader.convert)}({read})" if reader.convert else read

    def compile(self) -> tuple[Read, Read | None]:
        """Returns the functions of a Plan."""
        results = ", ".join(f"{name!r}: {expression}" for name, expression in self.results.items())
        if "message" in self._statements and self._only_message:
            del self._statements["message"]
            read_message = self._define("message", results)
            return lambda source: read_message(source.message), read_message
        return self._define("source", results), None

    def _define(self, parameter: str, results: str) -> Read:
        lines = [f"def read({parameter}):", *self._statements.values(), f"return {{{results}}}"]
        # Names come from this package's schema. Response names, which clients choose, are quoted.
        exec("\n ".join(lines), self._constants)  # noqa: S102
        read: Read = self._constants["read"]
        return read
