"""What is stored of an assessment: its message without the raw answer, which has a table of its own.

Nothing else may ride in the stored bytes either: they are copied into every list and every feed entry, and a
field that a later version does not know would come with them for ever.
"""

from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.events_pb2 import EventAssessed


def stored_body(assessment: Assessment) -> bytes:
    """The message itself stays as it was read."""
    kept = Assessment()
    kept.CopyFrom(assessment)
    kept.ClearField("raw_answer")
    kept.DiscardUnknownFields()
    return kept.SerializeToString()


def raw_answer_of(message: EventAssessed) -> bytes | None:
    """As UTF-8; None where there is none. Earlier versions wrote it into the assessment."""
    raw_answer = message.raw_answer or message.assessment.raw_answer
    return raw_answer.encode() if raw_answer else None
