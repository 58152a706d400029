"""The cost and depth of operations."""

import pytest
from graphql import OperationDefinitionNode, parse, validate
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.graphql.limits import CALL_COST, MAX_COST, OperationLimits, _ComplexityWalk, _page_sizes
from gateway.schema import make_schema
from mesh.problems import Invalid
from tests.unit.gateway.conftest import Gateway

SCHEMA = make_schema()._schema


def measure(text: str, **variables: object) -> tuple[int, int]:
    tree = parse(text)
    assert not validate(SCHEMA, tree)
    limits = OperationLimits(SCHEMA, tree)
    operation = tree.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    walk = _ComplexityWalk(SCHEMA, limits._fragments, _page_sizes(operation, variables))
    cost, depth = walk.selection(operation.selection_set, SCHEMA.query_type)
    return cost, depth


@pytest.mark.parametrize(
    ("text", "cost", "depth"),
    [
        ("{ __typename }", 1, 1),
        ("{ cameras { id name } }", 1 + 10 * 2, 2),
        # One for events; ten times edges, node and two fields.
        ("{ events(first: 10) { edges { node { id status } } } }", 1 + 10 * 4, 4),
        ("{ events { edges { cursor } } }", 1 + 50 * 2, 3),
        ("{ events(first: 2) { edges { node { media { id } } } } }", 1 + 2 * (2 + 1 + 10), 5),
        ("{ a: events(first: 1) { edges { cursor } } b: events(first: 1) { edges { cursor } } }", 6, 3),
        # A history is a call to the store for every event.
        (
            "{ events(first: 2) { edges { node { assessments(first: 3) { edges { cursor } } } } } }",
            1 + 2 * (2 + CALL_COST + 3 * 2),
            6,
        ),
        # So is a raw response for every assessment.
        (
            "{ events(first: 2) { edges { node { assessment { score rawAnswer } } } } }",
            1 + 2 * (2 + 1 + 1 + CALL_COST),
            5,
        ),
        # A preview decides about every finding in each frame, even if it is not selected.
        (
            '{ previewPolicy(input: {id: "a"}) { frames { index detections { label } } } }',
            50 * CALL_COST + 1 + 200 * (1 + 1 + 100),
            4,
        ),
        ('{ previewPolicy(input: {id: "a"}, frames: 200) { proposedPolicyDigest } }', 200 * CALL_COST + 1, 2),
        ('{ previewPolicy(input: {id: "a"}, frames: 0) { proposedPolicyDigest } }', 50 * CALL_COST + 1, 2),
        # A negative page size does not reduce the cost of other fields.
        ("{ events(first: -2000000000) { edges { cursor } } cameras { id } }", 1 + 11, 3),
        ("{ cameras { ...F } } fragment F on Camera { id name }", 21, 2),
        ("{ cameras { ... on Camera { id name } } }", 21, 2),
        ("{ __schema { types { fields { name } } } }", 1 + 1 + 10 * (1 + 10 * 1), 1),
    ],
)
def test_costs(text: str, cost: int, depth: int) -> None:
    assert measure(text) == (cost, depth)


@pytest.mark.parametrize(
    ("declared", "given", "size"),
    [
        ("Int", {"n": 7}, 7),
        ("Int = 3", {}, 3),
        ("Int", {}, 50),
        ("Int = 3", {"n": None}, 3),
        ("Int", {"n": 10**9}, 500),
        ("Int", {"n": -(10**9)}, 0),
        ("Int = -7", {}, 0),
    ],
)
def test_page_sizes_are_taken_from_variables(declared: str, given: dict[str, object], size: int) -> None:
    text = f"query($n: {declared}) {{ events(first: $n) {{ edges {{ cursor }} }} }}"
    assert measure(text, **given)[0] == 1 + 2 * size


@settings(max_examples=40)
@given(st.integers(0, 40))
def test_a_chain_of_fragments_takes_no_exponential_time(length: int) -> None:
    fragments = [
        f"fragment F{i} on Media {{ a: camera {{ id }} ...F{i + 1} b: camera {{ id }} ...F{i + 1} }}"
        for i in range(length)
    ]
    last = f"fragment F{length} on Media {{ id }}"
    limits = OperationLimits(
        SCHEMA, parse('query { media(id: "x") { ...F0 } } ' + " ".join([*fragments, last]))
    )
    operation = parse('{ media(id: "x") { ...F0 } }').definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    # Two cameras of two fields, and twice what follows.
    cost = 1
    for _ in range(length):
        cost = 2 * cost + 4
    if 1 + cost > MAX_COST:
        with pytest.raises(Invalid, match="could have"):
            limits.check(operation, {})
    else:
        limits.check(operation, {})


async def test_the_limits_apply_to_every_request(gateway: Gateway) -> None:
    """What a document costs is remembered only if no variable can change it."""
    text = """query($first: Int) {
      events(first: 200) { edges { node { detections(first: $first) { edges { node { media {
        detections(first: 100) { edges { node { id } } } } } } } } } } }"""
    for first, allowed in ((1, True), (500, False), (1, True), (500, False)):
        response = await gateway.post(text, first=first)
        assert ("data" in response) is allowed
    fixed = "query A { cameras { id } } query B " + text.partition(")")[2].replace("$first", "500")
    body = {"query": fixed}
    for name, reason in (
        ("A", None),
        ("B", "TOO_COSTLY"),
        (None, "NO_OPERATION"),
        ("B", "TOO_COSTLY"),
        ("A", None),
    ):
        response = (await gateway.client.post("/graphql", json=body | {"operationName": name})).json()
        errors = response.get("errors", [])
        assert [error["extensions"]["reason"] for error in errors] == ([reason] if reason else [])


async def test_variables_that_an_operation_does_not_declare_change_nothing(gateway: Gateway) -> None:
    for variables in ({}, {"first": 500}, {"first": -1}):
        assert await gateway.ask("{ events(first: 2) { edges { cursor } } }", **variables) == {
            "events": {"edges": []}
        }
