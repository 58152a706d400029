"""The house over GraphQL."""

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from lares.store.v1 import house_pb2
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_pages import NOON, uuid


async def test_home_that_has_lapsed_says_so(gateway: Gateway) -> None:
    asked = "{ mode { mode lapsed latest { mode changedBy } } status { mode { lapsed } } }"
    data = await gateway.ask(asked)
    assert data == {
        "mode": {"mode": None, "lapsed": False, "latest": None},
        "status": {"mode": {"lapsed": False}},
    }
    change = house_pb2.ModeChange(mode="home", source=house_pb2.MODE_SOURCE_SCHEDULE)
    change.at.FromDatetime(NOON.replace(day=1))
    gateway.store.house.mode_changes.append(change)
    data = await gateway.ask(asked)
    assert data["mode"] == {"mode": None, "lapsed": True, "latest": {"mode": "home", "changedBy": None}}
    assert data["status"] == {"mode": {"lapsed": True}}


async def test_null_unsets_the_mode(gateway: Gateway) -> None:
    set_mode = "mutation ($to: String) { setMode(input: {mode: $to}) { mode { mode latest { source } } } }"
    data = await gateway.ask(set_mode, to="away")
    assert data["setMode"]["mode"] == {"mode": "away", "latest": {"source": "MANUAL"}}
    data = await gateway.ask(set_mode, to=None)
    assert data["setMode"]["mode"]["mode"] is None
    error = await gateway.error(set_mode, to="No Mode")
    assert error["extensions"]["reason"] == "BAD_REQUEST"


async def test_an_update_changes_what_is_given(gateway: Gateway) -> None:
    house, update = gateway.store.house, "mutation ($input: UpdateExpectedVisitInput!) {"
    update += " updateExpectedVisit(input: $input) { expectedVisit { name weekdays labels fromTime } } }"
    visit = house_pb2.ExpectedVisit(
        id=uuid("visit"), name="Post", weekdays=[house_pb2.WEEKDAY_SUNDAY], from_time="09:00", to_time="10:00"
    )
    house.visits[visit.id] = visit
    given: dict[str, Any] = {"id": visit.id, "weekdays": ["MONDAY", "FRIDAY"], "labels": None}
    data = await gateway.ask(update, input=given)
    assert data["updateExpectedVisit"]["expectedVisit"] == {
        "name": "Post", "weekdays": ["MONDAY", "FRIDAY"], "labels": [], "fromTime": "09:00",
    }  # fmt: skip
    assert gateway.store.requests[-1].update_mask == FieldMask(paths=["weekdays"])  # type: ignore[attr-defined]
    data = await gateway.ask(update, input={"id": visit.id, "weekdays": []})
    assert data["updateExpectedVisit"]["expectedVisit"]["weekdays"] == []
    error = await gateway.error(update, input={"id": visit.id})
    assert error["extensions"]["reason"] == "NOTHING_TO_UPDATE"


async def test_who_reports_too_often_learns_when_to_try_again(gateway: Gateway) -> None:
    person = house_pb2.Person(id=uuid("person"), name="Ann")
    gateway.store.house.people[person.id] = person
    report = (
        f'mutation {{ reportPresence(input: {{personId: "{person.id}", present: true}}) {{ lapsesAt }} }}'
    )
    for _ in range(30):
        await gateway.ask(report)
    error = await gateway.error(report)
    assert error["extensions"] == {
        "code": "RESOURCE_EXHAUSTED",
        "reason": "TOO_MANY_REPORTS",
        "metadata": {"retry_after_seconds": "60.000"},
    }
