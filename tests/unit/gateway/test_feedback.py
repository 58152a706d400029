"""What people say of assessments."""

from lares.store.v1.event_service_pb2 import BatchGetFeedbackRequest, SetFeedbackRequest
from tests.unit.gateway.conftest import Gateway

GIVE = """mutation($input: EventFeedbackInput!) { eventFeedback(input: $input) {
  feedback { kind severity note eventId assessmentId } } }"""
READ = "{ events(first: 5) { edges { node { id assessment { feedback { kind severity note } } } } } }"


async def test_feedback_is_given_and_read(gateway: Gateway) -> None:
    events = [gateway.store.add_event(index, score=70) for index in range(3)]
    given = {"eventId": events[1].id, "kind": "FALSE_ALARM", "note": "the postman"}
    response = (await gateway.ask(GIVE, input=given))["eventFeedback"]["feedback"]
    assert response == {
        "kind": "FALSE_ALARM",
        "severity": "LOW",
        "note": "the postman",
        "eventId": events[1].id,
        "assessmentId": events[1].assessment.id,
    }
    nodes = [edge["node"] for edge in (await gateway.ask(READ))["events"]["edges"]]
    found = {node["id"]: node["assessment"]["feedback"] for node in nodes}
    said = {"kind": "FALSE_ALARM", "severity": "LOW", "note": "the postman"}
    assert found == {event.id: said if event is events[1] else None for event in events}
    batches = [each for each in gateway.store.requests if isinstance(each, BatchGetFeedbackRequest)]
    assert [len(batch.assessment_ids) for batch in batches] == [3]


async def test_a_severity_is_passed_on(gateway: Gateway) -> None:
    event = gateway.store.add_event(0, score=10)
    given = {"eventId": event.id, "kind": "WRONG_SEVERITY", "severity": "HIGH"}
    await gateway.ask(GIVE, input=given)
    (request,) = [each for each in gateway.store.requests if isinstance(each, SetFeedbackRequest)]
    assert (request.assessment_id, request.severity, request.note) == ("", 3, "")
