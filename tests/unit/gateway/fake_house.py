"""What a FakeStore knows of the home, in plain lists, at one time that never changes."""

from dataclasses import dataclass, field

from lares.store.v1 import house_pb2


@dataclass
class FakeHouse:
    """`mode_changes` are stored ones, the last one last; what a schedule changes is not modelled, nor are
    limits of numbers."""

    mode_changes: list[house_pb2.ModeChange] = field(default_factory=list)
    schedule: house_pb2.ModeSchedule = field(default_factory=lambda: house_pb2.ModeSchedule(time_zone="UTC"))
    schedule_changed_by: str = ""
    next: house_pb2.ModeChange | None = None  # the schedule's next change, scripted by tests
    people: dict[str, house_pb2.Person] = field(default_factory=dict)
    reports: list[house_pb2.PresenceReport] = field(default_factory=list)  # newest last
    visits: dict[str, house_pb2.ExpectedVisit] = field(default_factory=dict)
    notes: house_pb2.SiteNotes = field(default_factory=house_pb2.SiteNotes)
