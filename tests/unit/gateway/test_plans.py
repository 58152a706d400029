"""Generated functions give the same results as graphql-core, whatever the document and the values, and no
resolver runs more often than there. The schema is one of this test: it has every kind of field."""

import asyncio
import json
from collections.abc import Generator
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from graphql import Executor, GraphQLError, get_introspection_query
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from gateway.errors import InvalidGraphQL
from gateway.graphql.documents import CACHED_CHOICES, DocumentCache, ValidDocument
from gateway.graphql.executor import PlanningExecutor
from gateway.graphql.json_text import encode
from gateway.graphql.strawberry_internals import core_schema
from gateway.schema import DATE_TIME
from gateway.schema.message_fields import computed_field, message_field
from mesh.problems import Unavailable

# What resolvers were called, in order.
CALLS: list[str] = []


@strawberry.enum
class Colour(Enum):
    RED = 1
    BLUE = 2


@strawberry.input
class Wanted:
    least_size: int = 3
    colours: list[Colour] | None = None
    other: "Wanted | None" = None


@strawberry.type
class Tag:
    name: str
    weight: float | None


@strawberry.interface
class Pet:
    message: strawberry.Private[Any]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")

    @strawberry.field
    def petted(self) -> str | None:
        CALLS.append(f"petted {self.message.id}")
        return None


@strawberry.type
class Cat(Pet):
    lives: int = message_field("size")


@strawberry.type
class Dog(Pet):
    weight: float | None = message_field("share")
    owner: "Thing" = message_field("inner", of=lambda message: make_thing(message=message))


@strawberry.type
class Stray:
    message: strawberry.Private[Any]
    name: str = message_field("name")


def make_animal(message: Any) -> Cat | Dog | Stray:
    match message.id:
        case "1":
            return Cat(message=message)
        case "2":
            return Dog(message=message)
    return Stray(message=message)


def make_thing(**fields: Any) -> "Thing":
    return Thing(**fields)


@strawberry.type
class Thing:
    message: strawberry.Private[Any]
    id: strawberry.ID = message_field("id")
    name: str = message_field("name")
    size: int = message_field("size")
    share: float = message_field("share")
    flag: bool | None = message_field("flag")
    colour: Colour | None = message_field("colour")
    at: Timestamp | None = message_field("at")
    upper: str = message_field("name", str.upper)
    grid: list[list[int] | None] = message_field("grid")
    words: list[str | None] | None = message_field("words")
    tags: list[Tag] = message_field(
        "tags", lambda tags: [Tag(name=tag.name, weight=tag.weight) for tag in tags]
    )
    deep: str | None = message_field("way.to.text")
    inner: "Thing | None" = message_field("inner", of=make_thing)
    needed: "Thing" = computed_field(lambda message: message.inner, of=make_thing)
    things: "list[Thing]" = message_field("things", list_of=make_thing)
    # A stray is no pet: an object of a type that is not possible here.
    pets: list[Pet | None] = computed_field(lambda message: [make_animal(each) for each in message.things])
    animal: Cat | Dog | Stray | None = computed_field(
        lambda message: None if message.inner is None else make_animal(message.inner)
    )

    @strawberry.field
    def counted(self) -> int:
        self._count("counted")
        return 1

    @strawberry.field
    def fails(self) -> int | None:
        self._count("fails")
        raise Unavailable("not now", "AWAY")

    @strawberry.field
    async def later(self, info: strawberry.Info, times: int = 1) -> str:
        await asyncio.sleep(0)
        self._count(info.field_name)
        return str(info.context) + str(info.path.key) * times

    @strawberry.field
    async def given(
        self,
        info: strawberry.Info,
        some_word: str = "w",
        colour: Colour | None = Colour.BLUE,
        colours: list[Colour | None] | None = None,
        wanted: Wanted | None = None,
        at: Timestamp | None = None,
        words: list[str] | None = None,
    ) -> str:
        assert type(info) is strawberry.Info
        assert (info.python_name, info.return_type, info.path.key) == ("given", str, "given")
        return repr((some_word, colour, colours, wanted, at and at.seconds, words, self.message.id))

    @strawberry.field
    async def later_fails(self) -> str:
        await asyncio.sleep(0)
        self._count("later_fails")
        raise Unavailable("not now", "AWAY")

    @strawberry.field
    async def later_thing(self) -> "Thing":
        self._count("later_thing")
        return Thing(message=self.message.inner)

    @strawberry.field
    async def later_things(self) -> "list[Thing | None]":
        self._count("later_things")
        return [None, *[Thing(message=message) for message in self.message.things]]

    def _count(self, name: str) -> None:
        CALLS.append(f"{name} of {getattr(self.message, 'id', None)}")


@strawberry.type
class Query:
    @strawberry.field
    async def thing(self, info: strawberry.Info) -> Thing | None:
        CALLS.append("thing")
        return Thing(message=info.root_value)

    @strawberry.field
    def pair(self, info: strawberry.Info) -> list[Thing]:
        CALLS.append("pair")
        return [Thing(message=info.root_value), Thing(message=info.root_value)]

    @strawberry.field
    async def later_pair(self, info: strawberry.Info) -> list[Thing]:
        CALLS.append("laterPair")
        return [Thing(message=info.root_value), Thing(message=info.root_value)]


@strawberry.type
class Mutation:
    @strawberry.field
    async def step(self, number: int) -> Thing:
        CALLS.append(f"begins {number}")
        await asyncio.sleep(0)
        CALLS.append(f"ends {number}")
        if number < 0:
            raise Unavailable("not now", "AWAY")
        return Thing(message=message(thing(id=str(number))))


def make_schema() -> strawberry.Schema:
    return strawberry.Schema(
        Query, Mutation, types=[Cat, Dog], config=StrawberryConfig(scalar_map={Timestamp: DATE_TIME})
    )


# The same, but for the ways to its resolvers.
OURS, STRAWBERRYS = core_schema(make_schema()), make_schema()._schema
VARIABLES = "($yes: Boolean! = true, $no: Boolean! = false, $times: Int! = 2)"
LEAVES = [
    *("__typename", "id", "name", "size", "share", "flag", "colour"),
    *("at", "upper", "grid", "words", "deep"),
]
ABSTRACT = [
    "pets {0} {{ __typename name }}",
    "pets {0} {{ id ... on Cat {{ lives }} ... on Dog {{ weight owner {{ name counted }} }} petted }}",
    "animal {0} {{ ... on Cat {{ lives id }} ... on Pet {{ name petted }} ... on Stray {{ name }} }}",
    "animal {0} {{ __typename ... on Dog @include(if: $yes) {{ owner {{ ...One }} }} }}",
    "animal {0} {{ ... on Dog {{ owner {{ id fails }} }} ... on Dog {{ owner {{ size later }} }} }}",
]
RESOLVED = ["counted", "fails", "later", "laterFails"]
OBJECTS = ["inner", "needed", "things", "laterThing", "laterThings"]
FLAGS = ["", "", "", " @skip(if: true)", " @include(if: $yes)", " @skip(if: $no)", " @include(if: $no)"]
FRAGMENTS = ("One", "Two")


class ToRead:
    """An iterator that each execution reads anew."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


def run(
    kind: type[Executor[Any]], document: ValidDocument, values: dict[str, Any], **variables: Any
) -> tuple[bytes, list[Any], list[str]]:
    """Returns the data, the errors and the calls of resolvers."""
    CALLS.clear()
    schema = OURS if kind is PlanningExecutor else STRAWBERRYS
    executor = kind.build(schema, document.tree, message(values), "context", raw_variable_values=variables)
    assert isinstance(executor, Executor)
    if isinstance(executor, PlanningExecutor):
        executor.collected = document.collected(executor.operation, executor.variable_values.coerced)
        executor = executor.again(message(values), "context")

    async def wait() -> Any:
        result: Any = executor.execute_operation()
        return await result if hasattr(result, "__await__") else result

    result = asyncio.run(wait())
    return encode(result.data), [*map(comparable, result.errors or ())], CALLS.copy()


def comparable(error: GraphQLError) -> Any:
    return error.formatted, type(error.original_error), str(error.original_error)


def message(value: Any) -> Any:
    """Returns an object with these attributes."""
    match value:
        case dict():
            return SimpleNamespace(**{name: message(inner) for name, inner in value.items()})
        case list():
            return [*map(message, value)]
        case ToRead():
            return iter(message(value.items))
    return value


def compare(text: str, values: dict[str, Any], *choices: dict[str, Any]) -> Any:
    """Executes a document several times both ways; the results must be the same."""
    document = DocumentCache(OURS).get(text)
    results = []
    for variables in choices or ({},):
        ours, theirs = (run(kind, document, values, **variables) for kind in (PlanningExecutor, Executor))
        assert ours == theirs
        results.append(ours)
    return results[-1]


def thing(**values: Any) -> dict[str, Any]:
    """The values of a thing that fits the schema."""
    fits = {
        "id": "1",
        "name": "n",
        "size": 5,
        "share": 0.25,
        "flag": None,
        "colour": 1,
        "at": Timestamp(seconds=5),
        "grid": [[1, 2], [], None],
        "words": ["a", None],
        "tags": [],
        "way": {"to": {"text": "deep"}},
        "inner": None,
        "things": [],
    }
    return fits | values


def mostly(fitting: st.SearchStrategy[Any], *others: Any) -> st.SearchStrategy[Any]:
    """Values that fit, and sometimes others."""
    return st.one_of(fitting, fitting, fitting, st.sampled_from([*others, None, ValueError("as a value")]))


def values_of_things() -> st.SearchStrategy[Any]:
    def of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        fields = {
            "id": mostly(st.sampled_from("123"), 7, 0.5),
            "name": mostly(st.text(max_size=2), 7, True, b"bytes"),
            "size": mostly(st.integers(-(2**31), 2**31 - 1), 2**31, "7", "x", True, 1.0, 0.5),
            "share": mostly(st.floats(allow_nan=False, allow_infinity=False), float("nan"), 3, "0.5", True),
            "flag": mostly(st.booleans(), 1, "x"),
            "colour": mostly(st.sampled_from([1, 2]), 3, "RED", [1]),
            "at": mostly(st.just(Timestamp(seconds=1, nanos=5000)), "noon", 5),
            "grid": mostly(
                st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
                "ab",
                MappingProxyType({"a": 1}),
                (1, 2),
                [(1,), None],
                [[None]],
                ToRead([[1], ["x"]]),
            ),
            "words": mostly(st.lists(st.sampled_from(["a", None]), max_size=3), [5], "ab", [[]]),
            "tags": mostly(
                st.lists(st.just({"name": "t", "weight": 1.5}), max_size=2),
                [{"name": None, "weight": 5}],
                [{"wrong": 1}],
                5,
            ),
            "way": mostly(st.just({"to": {"text": "deep"}}), {"to": None}, {}),
            "inner": st.one_of(st.none(), inner),
            "things": mostly(st.lists(inner, max_size=2), [None], 5, ToRead([])),
        }
        return st.fixed_dictionaries(fields)

    return st.recursive(st.just(thing()), of, max_leaves=4)


def selections(depth: int, fragments: bool = True) -> st.SearchStrategy[str]:
    flags = st.sampled_from(FLAGS)
    alias = st.sampled_from(["", "", "a_{}: ", "b_{}: "])

    def named(parts: tuple[str, str, str, str]) -> str:
        alias, name, flag, inner = parts
        return f"{alias.format(name)}{name}{flag} {inner}"

    kinds = [
        st.tuples(alias, st.sampled_from(LEAVES), flags, st.just("")).map(named),
        st.tuples(alias, st.sampled_from(LEAVES), flags, st.just("")).map(named),
        st.tuples(alias, st.sampled_from(RESOLVED), flags, st.just("")).map(named),
        st.tuples(alias, st.just("tags"), flags, st.sampled_from(["{ name }", "{ weight __typename }"])).map(
            named
        ),
    ]
    if fragments:
        kinds.append(st.tuples(st.sampled_from(ABSTRACT), flags).map(lambda parts: parts[0].format(parts[1])))
        kinds.append(st.tuples(st.sampled_from(FRAGMENTS), flags).map(lambda parts: "..." + "".join(parts)))
    if depth:
        inner = selections(depth - 1, fragments)
        kinds.append(st.tuples(alias, st.sampled_from(OBJECTS), flags, inner).map(named))
        kinds.append(st.tuples(alias, st.sampled_from(OBJECTS[:3]), flags, inner).map(named))
        kinds.append(st.tuples(flags, inner).map(lambda parts: "... on Thing" + " ".join(parts)))
    return st.lists(st.one_of(*kinds), min_size=1, max_size=5).map(lambda parts: f"{{ {' '.join(parts)} }}")


@st.composite
def documents(draw: st.DrawFn) -> str:
    one, two = draw(selections(1, fragments=False)), draw(selections(1, fragments=False))
    roots = st.sampled_from(["thing", "pair", "again: pair"])
    names = draw(st.lists(roots, min_size=1, max_size=2))
    fields = " ".join(f"{name} {draw(selections(3))}" for name in names)
    # Variables and fragments must be used.
    used = "used: thing { ...One ...Two t: later(times: $times) @skip(if: $no) @include(if: $yes) }"
    return f"query {VARIABLES} {{ {fields} {used} }} fragment One on Thing {one} fragment Two on Thing {two}"


@settings(max_examples=100)
@given(
    documents(),
    values_of_things(),
    st.lists(st.fixed_dictionaries({"yes": st.booleans(), "no": st.booleans()}), max_size=3),
)
def test_any_document_has_the_same_result_as_in_graphql_core(
    text: str, values: Any, choices: list[dict[str, bool]]
) -> None:
    try:
        compare(text, values, *choices, {})
    except InvalidGraphQL:  # two fields with one response name contradict each other
        reject()


class Later:
    """An awaitable that could be taken for a text."""

    def __str__(self) -> str:
        return "not awaited"

    def __await__(self) -> Generator[Any, None, str]:
        return asyncio.sleep(0, "awaited").__await__()


@pytest.mark.parametrize(
    ("selection", "wrong", "result"),
    [
        ("name", {"name": None}, None),
        ("name", {"name": ValueError("as a value")}, None),
        ("name", {"name": Later()}, {"name": "awaited"}),
        ("name", {"name": 7}, {"name": "7"}),
        ("id", {"id": 7}, {"id": "7"}),
        ("size", {"size": 2**31}, None),
        ("size", {"size": -(2**31) - 1}, None),
        ("size", {"size": "12"}, {"size": 12}),
        ("size", {"size": True}, {"size": 1}),
        ("share", {"share": float("nan")}, None),
        ("share", {"share": float("-inf")}, None),
        ("share", {"share": 3}, {"share": 3.0}),
        ("flag", {"flag": "x"}, {"flag": None}),
        ("colour", {"colour": 3}, {"colour": None}),
        ("at", {"at": "noon"}, {"at": None}),
        ("words", {"words": "ab"}, {"words": None}),
        ("words", {"words": MappingProxyType({"a": 1})}, {"words": None}),
        ("words", {"words": ("a", None)}, {"words": ["a", None]}),
        ("words", {"words": ToRead(["a", "b"])}, {"words": ["a", "b"]}),
        ("words id", {"words": ToRead(["a", []]), "id": []}, None),
        ("grid", {"grid": [[1], ["x"], [None]]}, {"grid": [[1], None, None]}),
        ("deep", {"way": {"to": None}}, {"deep": None}),
        ("inner { __typename }", {"inner": ValueError("as a value")}, {"inner": {"__typename": "Thing"}}),
        ("needed { __typename }", {}, None),
        ("needed { id }", {}, None),
        ("things { id }", {"things": 5}, None),
        ("things { id }", {"things": [None]}, None),
        ("tags { name }", {"tags": [{"name": 5}]}, None),
    ],
)
def test_values_that_do_not_fit(selection: str, wrong: dict[str, Any], result: Any) -> None:
    data, errors, _ = compare(f"{{ thing {{ {selection} }} }}", thing(**wrong))
    assert json.loads(data) == {"thing": result}
    assert bool(errors) == ((b"null" in data and b"[" not in data) or b"grid" in data)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        '(someWord: "x", colour: RED, colours: [RED, null], words: ["a"], at: "2026-11-27T01:02:03")',
        "(colour: null, colours: null, wanted: null, at: null, words: null)",
        "(wanted: {leastSize: 5, colours: [BLUE], other: {other: {}}}, colours: RED)",
        "(someWord: $word, colour: $colour, colours: [$colour], wanted: $wanted, words: [$word])",
    ],
)
@pytest.mark.parametrize(
    "variables",
    [{}, {"word": "v", "colour": "RED", "wanted": {"colours": "BLUE"}}, {"colour": None, "wanted": None}],
)
def test_resolvers_are_given_the_same_arguments(arguments: str, variables: dict[str, Any]) -> None:
    declared = '($word: String! = "d", $colour: Colour, $wanted: Wanted)' if "$" in arguments else ""
    text = f"query {declared} {{ thing {{ given{arguments} }} }}"
    data, errors, _ = compare(text, thing(), variables)
    assert json.loads(data)["thing"]["given"]
    assert not errors


def test_a_resolver_below_a_field_that_cannot_be_read_runs_once() -> None:
    """Reading fails before any resolver has run, and the resolvers of the object run once all the same."""
    text = "{ thing { size later counted fails laterThing { name counted } name } }"
    values = thing(name=None, inner=thing(id="2", size=2**40))
    data, errors, calls = compare(text, values)
    assert data == b'{"thing":null}'
    assert [form["path"] for form, _, _ in errors][-1] == ["thing", "name"]
    assert sorted(calls) == sorted(set(calls))
    assert {"fails of 1", "counted of 2"} < set(calls)


@pytest.mark.parametrize(
    "wrong", [{"flag": "x"}, {"colour": 3}, {"at": "noon"}, {"way": {}}, {"words": [[]]}]
)
def test_resolvers_beside_a_field_that_is_null_for_an_error_run_once(wrong: dict[str, Any]) -> None:
    """Reading fails, and graphql-core executes the whole object, which has results."""
    text = """{ thing { flag colour at deep words ...F laterThing { flag colour at deep words ...F } } }
      fragment F on Thing { counted fails later }"""
    values = thing(**wrong, inner=thing(id="2", **wrong))
    data, errors, calls = compare(text, values, {}, {})
    assert data.count(b'"counted":1') == 2
    assert len(errors) == 4
    each = [f"{name} of {id}" for name in ("counted", "fails", "later") for id in "12"]
    assert sorted(calls) == sorted(["thing", "later_thing of 1", *each])


@pytest.mark.parametrize("selection", ABSTRACT)
@pytest.mark.parametrize("wrong", [{}, {"name": None}, {"size": 2**40}, {"inner": None}, {"id": "3"}])
def test_interfaces_and_unions(selection: str, wrong: dict[str, Any]) -> None:
    """With objects of several types in one list, and one that is not possible there."""
    cat, dog = thing(id="1"), thing(id="2", inner=thing(id="9"))
    values = thing(id="0", inner=dog | wrong, things=[cat, dog | wrong, cat | wrong, dog])
    text = f"""query {VARIABLES} {{ thing {{ id {selection.format("")} ...One t: later(times: $times)
      again: name @skip(if: $no) @include(if: $yes) }} }} fragment One on Thing {{ id counted }}"""
    data, _, calls = compare(text, values, {}, {"yes": False}, {"no": True}, {})
    assert data.startswith(b'{"thing":{"id"')
    assert calls.count("counted of 0") == 1


INTROSPECTION = [
    get_introspection_query(),
    '{ __type(name: "Thing") { name fields { name args { defaultValue type { kind ofType { name } } } } } }',
    '{ __type(name: "Pet") { __typename possibleTypes { name interfaces { name } } } thing { id } }',
    '{ __type(name: "Nothing") { name } again: __type(name: "Colour") { enumValues { name } } }',
    "query($yes: Boolean = true) { __schema { queryType { __typename name @skip(if: $yes) kind } } }",
    "{ __schema { directives { name locations args { name } } } thing { name counted } }",
]


@pytest.mark.parametrize("text", INTROSPECTION)
def test_introspection(text: str) -> None:
    data, errors, _ = compare(text, thing(), {}, {})
    assert data.startswith(b'{"__')
    assert not errors


def test_a_field_that_several_nodes_select_has_the_fields_of_all_of_them() -> None:
    text = """{ thing { ...F inner { name } } again: thing { ...F } }
      fragment F on Thing { inner { id } }"""
    data, _, _ = compare(text, thing(inner=thing()))
    assert json.loads(data) == {"thing": {"inner": {"id": "1", "name": "n"}}, "again": {"inner": {"id": "1"}}}


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, -2, 3)])
def test_the_fields_of_a_mutation_run_one_after_the_other_every_time(numbers: tuple[int, ...]) -> None:
    steps = " ".join(
        f"s{index}: step(number: {number}) {{ id counted }}" for index, number in enumerate(numbers)
    )
    _, _, calls = compare(f"mutation {{ {steps} }}", thing(), {}, {}, {})
    assert calls[:3] == ["begins 1", "ends 1", "counted of 1"]
    assert calls[3:5] == [f"begins {numbers[1]}", f"ends {numbers[1]}"]


@pytest.mark.parametrize("root", ["pair", "laterPair"])
def test_an_error_of_the_root_leaves_no_data_every_time(root: str) -> None:
    data, errors, calls = compare(f"{{ {root} {{ name counted }} }}", thing(name=None), {}, {})
    assert (data, len(errors)) == (b"null", 1)
    assert calls == [root]


def test_failing_resolvers_run_once_beside_what_was_read() -> None:
    text = "{ thing { id things { id fails counted } laterThings { id laterFails } fails } }"
    _, errors, calls = compare(text, thing(things=[thing(id="2"), thing(id="3")]))
    assert calls == [
        "thing",
        *["fails of 2", "counted of 2", "fails of 3", "counted of 3"],
        "fails of 1",
        "later_things of 1",
        *["later_fails of 2", "later_fails of 3"],
    ]
    assert len(errors) == 5


def test_what_is_only_read_never_reaches_graphql_core(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    build = PlanningExecutor.build_resolve_info

    def watched(self: PlanningExecutor, field: Any, nodes: Any, *rest: Any) -> Any:
        slow.append(nodes[0].name.value)
        return build(self, field, nodes, *rest)

    text = """{ thing { ...Whole counted inner { ...Whole } things { ...Whole inner { id } } } }
      fragment Whole on Thing { __typename id name size share flag colour at upper grid words deep
        tags { name weight } }"""
    inner = thing(id="2", tags=[{"name": "t", "weight": 1.5}])
    values = thing(inner=inner, things=[inner, thing(id="3", inner=inner)])
    compare(text, values)
    monkeypatch.setattr(PlanningExecutor, "build_resolve_info", watched)
    run(PlanningExecutor, DocumentCache(OURS).get(text), values)
    assert slow == ["thing", "counted"]


# Each fragment spreads the next one twice.
NESTED = "{ thing { ...F0 } } fragment F12 on Thing { id } " + " ".join(
    f"fragment F{level} on Thing {{ a: inner {{ ...F{level + 1} }} b: inner {{ ...F{level + 1} }} }}"
    for level in range(12)
)


def test_functions_are_generated_once_for_each_selection_set() -> None:
    document = DocumentCache(OURS).get(NESTED)
    for _ in range(2):
        run(PlanningExecutor, document, thing())
        (collected,) = document._collected.values()
        assert len(collected.plans) == len(collected.subfields) + 1  # for the root's
        assert len(collected.plans) < 2 * 14


def test_the_plans_of_a_document_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("executor", "plans"):
        monkeypatch.setattr(f"gateway.graphql.{module}.MAX_PLANS", 5)
    values = thing(inner=thing(inner=thing(id="3")))
    assert compare(NESTED, values)[0].count(b"null") == 8
    document = DocumentCache(OURS).get(NESTED)
    run(PlanningExecutor, document, values)
    (collected,) = document._collected.values()
    assert (len(collected.plans), len(collected.subfields)) == (5, 5)


def test_the_choices_of_a_document_that_are_kept_are_bounded() -> None:
    names = [f"v{index}" for index in range(8)]
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: id @include(if: ${name})" for name in names)
    document = DocumentCache(OURS).get(f"query ({declared}) {{ thing {{ __typename {fields} }} }}")
    for number in range(2**8):
        chosen = {name: bool(number >> index & 1) for index, name in enumerate(names)}
        data, _, _ = run(PlanningExecutor, document, thing(), **chosen)
        assert data.count(b'"1"') == sum(chosen.values())
    assert len(document._collected) == CACHED_CHOICES


@pytest.mark.parametrize(
    "name", ["_", "__x", "None", "source", "value", "message", "items", "lambda", "read"]
)
def test_response_names_are_only_data(name: str) -> None:
    data, _, _ = compare(f"{{ thing {{ {name}: name inner {{ {name}: size }} }} }}", thing(inner=thing()))
    assert data == b'{"thing":{"%b":"n","inner":{"%b":5}}}' % (name.encode(), name.encode())
