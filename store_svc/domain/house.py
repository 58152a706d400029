"""What the house knew at the time of an event. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mesh.problems import Invalid
from mesh.visible_text import visible
from store_svc.domain.expected_visit import PlannedVisit

PRESENCE_LASTS = timedelta(hours=24)
# So long after somebody was first reported to be present, the person may be the one who is seen.
ARRIVAL_LASTS = timedelta(minutes=10)
UNWELCOME = 6  # the number of lares.reason.v1.RELATION_UNWELCOME


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """`relation` is the number of lares.reason.v1.Relation."""

    id: UUID
    name: str
    relation: int


@dataclass(frozen=True, slots=True)
class HouseContext:
    """What evidence says of the house: the mode (empty if unset), everybody whom it knows, the ids of those
    who had just arrived, in order of id, the visits that were expected at that camera, and its notes."""

    mode: str = ""
    people: tuple[KnownPerson, ...] = ()
    present_person_ids: tuple[UUID, ...] = ()
    expected: tuple[PlannedVisit, ...] = ()
    site_notes: tuple[str, ...] = ()


def require_one_line(text: str, field: str) -> None:
    """Raises Invalid (BAD_TEXT) unless this is one visible line: it is shown in lists and given to models."""
    if visible(text) != text or not text.strip():
        sentence = f"{field} must be one line of text without control characters"
        raise Invalid(sentence, "BAD_TEXT", field=field)
