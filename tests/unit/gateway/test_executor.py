"""The planning executor returns the same results and errors as graphql-core's own."""

import asyncio
import json
from collections.abc import AsyncGenerator
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any

import pytest
from graphql import Executor, FieldNode, GraphQLObjectType, get_named_type, parse, subscribe, validate
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import format_errors
from gateway.graphql.engine import Engine
from gateway.graphql.executor import PlanningExecutor
from gateway.graphql.plans import Planner
from gateway.graphql.request import GraphQLRequest
from gateway.graphql.strawberry_internals import core_schema
from gateway.schema import make_schema
from lares.reason.v1 import assessment_pb2
from lares.store.v1 import event_pb2, event_service_pb2, events_pb2
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import FakeStore

pytestmark = pytest.mark.usefixtures("calling_as_itself")

SCHEMA = make_schema()._schema
# With shorter ways to the resolvers.
OURS = core_schema(make_schema())


def run(kind: type[Executor[Any]], text: str, response: Any, **variables: Any) -> Any:
    """Returns the result of one executor, with `response` as the response of the store."""
    document = parse(text)
    assert not validate(SCHEMA, document)

    async def list_events(*_: Any, **__: Any) -> Any:
        return response

    siblings = SimpleNamespace(events=SimpleNamespace(ListEvents=list_events))
    schema = OURS if issubclass(kind, PlanningExecutor) else SCHEMA
    executor = kind.build(
        schema, document, context_value=SimpleNamespace(siblings=siblings), raw_variable_values=variables
    )
    assert isinstance(executor, Executor)

    async def wait() -> Any:
        return await executor.execute_operation()  # type: ignore[misc]

    result = asyncio.run(wait())
    return result.data, [(error.message, error.path) for error in result.errors or ()]


def response() -> event_service_pb2.ListEventsResponse:
    store = FakeStore()
    for index in range(3):
        store.add_event(index, score=None if index == 1 else index * 40)
    return event_service_pb2.ListEventsResponse(events=reversed(store.events), page_tokens=["1", "2", "3"])


def both(text: str, messages: Any, **variables: Any) -> Any:
    ours, theirs = (run(kind, text, messages, **variables) for kind in (PlanningExecutor, Executor))
    assert ours == theirs
    assert str(ours) == str(theirs)  # the order of the fields too
    return ours


def selections(kind: GraphQLObjectType, depth: int) -> st.SearchStrategy[str]:
    """Returns any selection that the response of ListEvents alone can fulfil."""
    leaves = ["__typename"]
    objects = []
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if not isinstance(inner, GraphQLObjectType):
            leaves.append(name)
        elif inner.name in ("EventEdge", "Event", "Assessment", "Factor", "PageInfo") and depth:
            objects.append(st.tuples(st.just(name + " "), selections(inner, depth - 1)).map("".join))
    fields = st.one_of(st.sampled_from(leaves), *objects)
    aliased = st.tuples(st.sampled_from(["", "a: ", "b: "]), fields).map("".join)
    flags = st.sampled_from(["", " @skip(if: true)", " @include(if: $yes)", " @skip(if: $yes)"])
    leaf = st.tuples(st.sampled_from(leaves), flags).map("".join)
    fragment = st.tuples(
        st.just(f"... on {kind.name}"), flags, st.just(" { __typename "), leaf, st.just(" }")
    )
    parts = st.one_of(aliased, leaf, fragment.map("".join))
    return st.lists(parts, min_size=1, max_size=5).map(lambda parts: "{ " + " ".join(parts) + " }")


@settings(max_examples=80)
@given(selections(SCHEMA.type_map["EventConnection"], 4))  # type: ignore[arg-type]
def test_any_selection_has_the_same_result(selection: str) -> None:
    text = f"query($yes: Boolean = true) {{ __typename @include(if: $yes) events {selection} }}"
    document = parse(text)
    if not validate(SCHEMA, document):  # two aliases may contradict each other
        both(text, response())


def changes() -> list[events_pb2.EventChanged]:
    """Some have values that GraphQL does not, and one is a deletion."""
    store = FakeStore()
    for index in range(4):
        store.add_change(store.add_event(index, score=None if index == 1 else index * 30), deleted=index == 3)
    store.changes[0].event.status = event_pb2.EVENT_STATUS_UNSPECIFIED
    store.changes[1].event.revision = 2**40
    store.changes[2].event.assessment.severity = assessment_pb2.SEVERITY_UNSPECIFIED
    return store.changes


async def subscribe_both(text: str, **variables: Any) -> list[Any]:
    """Returns the responses of the engine, which must be those of graphql-core."""

    async def watch(after: int | None) -> AsyncGenerator[events_pb2.EventChanged, None]:
        for change in changes():
            yield change

    context: Any = SimpleNamespace(feed=SimpleNamespace(watch=watch))
    ours = Engine(make_schema(), lambda: context).subscribe(GraphQLRequest(text, None, variables))
    responses = [json.loads(response) async for response in ours]
    plain = subscribe(SCHEMA, parse(text), context_value=context, variable_values=variables)
    theirs: Any = await plain if isawaitable(plain) else plain
    number = 0
    async for result in theirs:
        expected = {"data": result.data}
        if result.errors:
            expected["errors"] = format_errors(result.errors)
        assert without_request_ids(responses[number]) == without_request_ids(expected)
        assert str(responses[number]["data"]) == str(expected["data"])  # the order of the fields too
        number += 1
    assert number == len(responses)
    return responses


def without_request_ids(response: dict[str, Any]) -> dict[str, Any]:
    for error in response.get("errors", ()):
        error["extensions"].pop("requestId", None)
    return response


@settings(max_examples=50, deadline=None)
@given(selections(SCHEMA.type_map["EventChange"], 3), st.sampled_from([{}, {"yes": False}, {"cameras": []}]))  # type: ignore[arg-type]
def test_any_selection_of_a_subscription_has_the_same_results(
    selection: str, variables: dict[str, Any]
) -> None:
    text = f"""subscription($yes: Boolean = true, $cameras: [ID!], $least: Severity)
      {{ eventChanged(after: "0", cameraIds: $cameras, minSeverity: $least)
      {{ __typename @skip(if: $yes) ...on EventChange {selection} }} }}"""
    if not validate(SCHEMA, parse(text)):
        responses = asyncio.run(subscribe_both(text, **variables))
        assert len(responses) == (0 if "cameras" in variables else 4)


async def test_the_errors_of_a_subscription_are_in_their_responses_only() -> None:
    responses = await subscribe_both(
        """subscription { eventChanged(after: "0") { cursor event { id status revision
        assessment { severity } } } }"""
    )
    paths = [[error["path"] for error in response.get("errors", ())] for response in responses]
    event = ["eventChanged", "event"]
    assert paths == [[[*event, "status"]], [[*event, "revision"]], [[*event, "assessment", "severity"]], []]
    assert responses[3]["data"]["eventChanged"]["event"] is None


@pytest.mark.parametrize("field", ["status", "revision", "assessment { severity }", "assessment { score }"])
def test_an_invalid_value_is_the_same_error(field: str) -> None:
    messages = response()
    messages.events[2].status = event_pb2.EVENT_STATUS_UNSPECIFIED
    messages.events[2].revision = 2**40
    messages.events[0].assessment.severity = assessment_pb2.SEVERITY_UNSPECIFIED
    data, errors = both(f"{{ events {{ edges {{ node {{ id {field} closed }} }} }} }}", messages)
    if field != "assessment { score }":
        assert errors
        assert data != both("{ events { edges { node { id } } } }", messages)[0]


def test_an_error_has_its_path_and_leaves_other_fields() -> None:
    messages = response()
    messages.events[0].assessment.severity = assessment_pb2.SEVERITY_UNSPECIFIED
    data, errors = both("{ events { edges { node { id assessment { severity } } } } }", messages)
    assert [path for _, path in errors] == [["events", "edges", 0, "node", "assessment", "severity"]]
    assert data["events"]["edges"][0]["node"]["assessment"] is None
    assert data["events"]["edges"][2]["node"]["assessment"] == {"severity": "LOW"}


def test_plain_fields_are_not_resolved() -> None:
    """A page of plain fields is read by its plan, without graphql-core's own path."""
    slow: list[str] = []

    class Watching(PlanningExecutor):
        def build_resolve_info(self, field_def: Any, field_nodes: list[FieldNode], *rest: Any) -> Any:
            slow.append(field_nodes[0].name.value)
            return super().build_resolve_info(field_def, field_nodes, *rest)

    text = """{ events { pageInfo { endCursor } edges { cursor node { __typename id status startedAt labels
      assessment { score severity factors { name detectionIds } } } } } }"""
    run(Watching, text, response())
    assert slow == ["events"]


async def test_executors_are_kept_for_operations_without_variables(gateway: Gateway) -> None:
    """They keep no context of a request."""
    gateway.store.add_event(0)
    text = """query A { events { edges { node { id camera { id } } } } }
      query B($first: Int) { events(first: $first) { edges { cursor } } }"""
    for _ in range(3):
        for name, variables in (("A", {}), ("B", {"first": 1}), ("B", {"first": 0}), ("A", {"first": 0})):
            body = {"query": text, "operationName": name, "variables": variables}
            response = (await gateway.client.post("/graphql", json=body)).json()
            assert bool(response.get("errors")) == (name == "B" and not variables["first"]), response
    document = gateway.engine._documents.get(text)
    assert document.executors.keys() == {"A"}
    assert document.executors["A"].context_value is None
    assert gateway.store.calls["ListEvents"] == 9


async def test_plans_are_kept_for_requests_that_select_the_same_fields(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    make = Planner._make

    def watched(self: Planner, parent: GraphQLObjectType, fields: Any) -> Any:
        planned.append(parent.name)
        return make(self, parent, fields)

    monkeypatch.setattr(Planner, "_make", watched)
    gateway.store.add_event(0)
    text = """query($yes: Boolean = true, $first: Int) {
      events(first: $first) { edges { node { id closed @include(if: $yes) } } } }"""
    first = await gateway.post(text)
    assert planned == ["Query", "EventConnection", "EventEdge", "Event"]
    assert await gateway.post(text, first=3) == first
    assert len(planned) == 4
    assert await gateway.post(text, yes=False) != first
    assert len(planned) == 8
    assert await gateway.post(text, yes=True, first=3) == first
    assert len(planned) == 8


def test_a_connection_keeps_its_tokens() -> None:
    page = event_service_pb2.ListEventsResponse(
        events=[event_pb2.Event(id="x")], page_tokens=["7"], next_page_token="7"
    )
    text = "{ events { pageInfo { hasNextPage endCursor } edges { cursor node { id } } } }"
    data, _ = both(text, page)
    assert data["events"] == {
        "pageInfo": {"hasNextPage": True, "endCursor": "7"},
        "edges": [{"cursor": "7", "node": {"id": "x"}}],
    }


@pytest.mark.parametrize("selected", ["cursor", "node { id }"])
def test_every_edge_needs_a_token(selected: str) -> None:
    """Whether or not it is selected."""
    page = event_service_pb2.ListEventsResponse(events=[event_pb2.Event(id="x")])
    data, errors = both(f"{{ events {{ edges {{ {selected} }} }} }}", page)
    assert not data
    assert [path for _, path in errors] == [["events"]]
