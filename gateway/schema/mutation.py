"""The root type of mutations."""

import strawberry

from gateway.schema.camera import (
    CameraPayload,
    DeleteCameraPayload,
    create_camera,
    delete_camera,
    update_camera,
)
from gateway.schema.expected_visit import (
    DeleteExpectedVisitPayload,
    ExpectedVisitPayload,
    SetSiteNotesPayload,
    create_expected_visit,
    delete_expected_visit,
    set_site_notes,
    update_expected_visit,
)
from gateway.schema.feedback import EventFeedbackPayload, event_feedback
from gateway.schema.mode import SetModePayload, SetModeSchedulePayload, set_mode, set_mode_schedule
from gateway.schema.people import (
    DeletePersonPayload,
    PersonPayload,
    ReportPresencePayload,
    create_person,
    delete_person,
    report_presence,
    update_person,
)
from gateway.schema.reassessment import ReassessEventPayload, reassess_event
from gateway.schema.track_identity import IdentifyTrackPayload, identify_track


@strawberry.type
class Mutation:
    create_camera: CameraPayload = strawberry.mutation(
        resolver=create_camera, description="Creates a camera and its folder."
    )
    update_camera: CameraPayload = strawberry.mutation(resolver=update_camera)
    delete_camera: DeleteCameraPayload = strawberry.mutation(
        resolver=delete_camera,
        description="Deletes a camera. Its events stay; its folder is ignored until the camera is created "
        "again.",
    )
    reassess_event: ReassessEventPayload = strawberry.mutation(
        resolver=reassess_event,
        description="Requests another assessment of an event, before all events that wait. It becomes the "
        "event's `assessment`, and `assessments` keeps the earlier ones. A newer request replaces one that "
        "still waits. A request that has failed five times is given up; see `lastFailure`.",
    )
    event_feedback: EventFeedbackPayload = strawberry.mutation(
        resolver=event_feedback,
        description="Says whether an assessment was right. It replaces what was said of that assessment "
        "before, and changes no score.",
    )
    identify_track: IdentifyTrackPayload = strawberry.mutation(
        resolver=identify_track,
        description="Says who a track is, in place of what was said of it before. The event is assessed "
        "again. If frames that join it later change its tracks, the name goes to the one with most of the "
        "detections that it was given to.",
    )
    set_mode: SetModePayload = strawberry.mutation(
        resolver=set_mode,
        description="Sets the mode of the house until the schedule's next change.",
    )
    set_mode_schedule: SetModeSchedulePayload = strawberry.mutation(
        resolver=set_mode_schedule,
        description="Replaces the schedule from now on. The mode stays until its first change.",
    )
    create_person: PersonPayload = strawberry.mutation(resolver=create_person)
    update_person: PersonPayload = strawberry.mutation(resolver=update_person)
    delete_person: DeletePersonPayload = strawberry.mutation(
        resolver=delete_person, description="Reports of the person's presence stay listed."
    )
    report_presence: ReportPresencePayload = strawberry.mutation(
        resolver=report_presence,
        description="Reports that somebody has come or gone. A key with the permission REPORT_PRESENCE "
        "alone may do this and nothing else. At most 30 reports a minute by one key.",
    )
    create_expected_visit: ExpectedVisitPayload = strawberry.mutation(resolver=create_expected_visit)
    update_expected_visit: ExpectedVisitPayload = strawberry.mutation(resolver=update_expected_visit)
    delete_expected_visit: DeleteExpectedVisitPayload = strawberry.mutation(resolver=delete_expected_visit)
    set_site_notes: SetSiteNotesPayload = strawberry.mutation(
        resolver=set_site_notes, description="Replaces all notes, of which there are at most 16."
    )
