"""The store and whoever has evidence without tracks find the same tracks, with the same ids."""

from uuid import UUID, uuid5

import pytest

from lares.reason.v1.evidence_pb2 import Evidence
from mesh.boxes import edges_of
from mesh.identity import NAMESPACE
from reason_svc.messages import evidence_of
from reason_svc.rules.v2.scoring import assess
from store_svc.domain.derived_evidence import FoundObject, Surroundings, track_messages
from tests.judge.context import evidence_message
from tests.judge.labelled import LabelledEvent, read_events

CROWDED = sorted(read_events(), key=lambda event: -len(event.item["evidence"]["detections"]))[:20]


@pytest.mark.parametrize("labelled", CROWDED, ids=lambda labelled: labelled.id)
def test_tracks_of_the_store_are_those_that_are_derived(labelled: LabelledEvent) -> None:
    message = evidence_message(labelled.item, "own")
    for found in message.detections:
        found.id, found.media_id = (str(uuid5(NAMESPACE, each)) for each in (found.id, found.media_id))
    stored = Evidence()
    stored.CopyFrom(message)
    objects = [
        FoundObject(
            UUID(found.id),
            found.label,
            found.score,
            edges_of(found),
            found.captured_at.ToDatetime(),
            UUID(found.media_id),
        )
        for found in message.detections
    ]
    stored.tracks.extend(track_messages(message.event_id, objects, Surroundings.of(message)))
    assert stored.tracks
    assert evidence_of(stored) == evidence_of(message)
    assert assess(evidence_of(stored)) == assess(evidence_of(message))
