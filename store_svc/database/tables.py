"""The tables of the store's database, as SQLAlchemy Core tables.

Ids are native UUIDs, times are `timestamptz` (UTC, microseconds), enums are the protobuf numbers. There are
no foreign keys: facts of different topics arrive in any order, so a row may be written before the row that
it refers to.
"""

from sqlalchemy import (
    ARRAY,
    REAL,
    TIMESTAMP,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

TIME = TIMESTAMP(timezone=True)

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "pk": "%(table_name)s_pkey",
    }
)

# `deleted_at` is the camera's tombstone: later media and rejections of the camera are dropped. The row stays,
# because its events show its name, and is revived when the camera is created again. Its row lock serialises
# all changes of the camera's events, so it is taken first, in order of id.
cameras = Table(
    "cameras",
    metadata,
    Column("id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("time_zone", Text, nullable=False),  # '' = LARES_TIME_ZONE
    Column("enabled", Boolean, nullable=False),
    Column("thresholds", JSONB, nullable=False),  # {label: least score}
    Column("scene", LargeBinary, nullable=False, server_default=""),  # serialised store.v1.CameraScene
    Column("revision", BigInteger, nullable=False),  # from 1, grows with every change
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    Column("deleted_at", TIME),
)

media = Table(
    "media",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("camera_id", Text, nullable=False),
    Column("camera_name", Text, nullable=False),  # as the folder or uploader wrote it
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("type", SmallInteger, nullable=False),  # ingest.v1.MediaType
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("captured_at", TIME, nullable=False),
    Column("captured_at_source", SmallInteger, nullable=False),  # ingest.v1.CapturedAtSource
    Column("claimed_captured_at", TIME),  # what the camera claims, if that was not believed
    Column("ingested_at", TIME, nullable=False),
    Column("detected_at", TIME, nullable=False),
    Column("detector", Text, nullable=False),
    Column("detection_count", Integer, nullable=False),
    # The file that it was read from; all NULL for uploads.
    Column("path", Text),
    Column("file_size_bytes", BigInteger),
    Column("mtime_ns", BigInteger),
    Column("ctime_ns", BigInteger),
    Column("inode", BigInteger),
    Column("recorded_at", TIME, nullable=False),
    # What decided which findings count; NULL if an earlier version of detect_svc had filtered them.
    Column("camera_revision", BigInteger),
    Column("policy_digest", Text),
    Column("clip", LargeBinary),  # serialised store.v1.StoredClip; NULL for photos
    Column("poster_frame", Integer, nullable=False, server_default="0"),  # the frame that shows most
    Index("media_newest", text("captured_at DESC"), text("id DESC")),
    Index("media_newest_of_camera", "camera_id", text("captured_at DESC"), text("id DESC")),
    # For rejections of files that were taken later. A path may be too long for a B-tree.
    Index("media_path", "path", postgresql_using="hash", postgresql_where=text("path IS NOT NULL")),
)

# Every recorded state of a file, also of copies of a known media and of rejected files: ingest_svc does not
# read these files again. `id` is `store_svc.ids.file_id` of the whole fingerprint, because a path may be too
# long for an index.
files = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("path", Text, nullable=False),
)

# The frames of media whose findings the store has filtered. Findings that count are in `detections`.
frames = Table(
    "frames",
    metadata,
    Column("media_id", Uuid, primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("captured_at", TIME, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("motion_significance", REAL, nullable=False),
    Column("dropped", LargeBinary, nullable=False),  # serialised store.v1.DroppedDetections
)

# The detectors that have reported, as of their latest record. The one with the latest `reported_at` is in
# use.
detectors = Table(
    "detectors",
    metadata,
    Column("id", Text, primary_key=True),  # name and weights digest
    Column("labels", ARRAY(Text), nullable=False),  # all that it can find
    Column("threshold", Double, nullable=False),
    Column("fast_threshold", Double, nullable=False),
    Column("reported_at", TIME, nullable=False),
)

detections = Table(
    "detections",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("media_id", Uuid, nullable=False),
    Column("event_id", Uuid),  # NULL if its frame shows nothing but vehicles that stand there
    Column("camera_id", Text, nullable=False),
    Column("frame", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("score", REAL, nullable=False),
    Column("box", ARRAY(REAL), nullable=False),  # [x_min, y_min, x_max, y_max], 0..1
    Column("captured_at", TIME, nullable=False),
    Column("rank", Integer),  # in the detector's raw output; NULL if detect_svc had filtered it
    Column(
        "zones", ARRAY(Text), nullable=False, server_default="{}"
    ),  # ids of those that contain its foot point
    # Among the event's detections, from 0, in the order of recording: later evidence names those that the
    # event had then by their number. NULL for detections of earlier versions, which come before all others.
    Column("number", Integer),
    # It shows a vehicle that stood there, as the table `vehicles` had it then.
    Column("stands", Boolean, nullable=False, server_default=text("false")),
    Index("detections_of_event", "event_id", "captured_at", text("score DESC"), "id"),
    Index("detections_of_media", "media_id"),
)

# The vehicles that stand before cameras, and those that have just come and perhaps only pass. Transactions
# that record media change them, under the camera's row lock. Coordinates and scores are not rounded, so that
# the memory does not depend on how the log is cut into batches.
vehicles = Table(
    "vehicles",
    metadata,
    Column("id", Uuid, primary_key=True),  # of its first detection
    Column("camera_id", Text, nullable=False),
    Column("label", Text, nullable=False),  # of its most certain detection, with its score
    Column("score", Double, nullable=False),
    Column("box", ARRAY(Double), nullable=False),  # [x_min, y_min, x_max, y_max]: the mean of all frames
    # Capture times: of the first and last frame that showed it, and of the last that showed or lacked it.
    Column("first_at", TIME, nullable=False),
    Column("last_at", TIME, nullable=False),
    Column("looked_at", TIME, nullable=False),
    Column("frames", Integer, nullable=False),  # that showed it
    # Frames since then that lack it, and the capture time of the first of them.
    Column("missed", Integer, nullable=False),
    Column("missed_at", TIME),
    Column("event_id", Uuid, nullable=False),  # in which it came
    # Capture times: of the last frame that surely showed it, and of the last one since it was seen in which a
    # vehicle moved there.
    Column("sure_at", TIME, nullable=False),
    Column("moved_at", TIME),
    Column("accompanied", Integer, nullable=False),  # frames that showed something else beside it
    Index("vehicles_of_camera", "camera_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("camera_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),  # of detect.detections.v1
    Column("status", SmallInteger, nullable=False),  # store.v1.EventStatus
    Column("revision", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of its latest feed entry
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("labels", ARRAY(Text), nullable=False),  # sorted, distinct
    Column("detection_count", Integer, nullable=False),
    Column("media_count", Integer, nullable=False),
    Column("most_at_once", Integer, nullable=False, server_default="0"),  # detections of one frame
    Column("last_recorded_at", TIME, nullable=False),  # by the wall clock, for the sweep
    # Of its evidence: the digest of its row in `event_evidence`, and that of all of it. An event that an
    # earlier version has opened has no such row, but a history [[event id, started_at in microseconds], ...].
    Column("history", JSONB, nullable=False),
    Column("time_zone", Text, nullable=False),  # IANA, resolved
    Column("frozen_digest", LargeBinary),
    # What habits are counted from: [[label, zone, digest of its polygon, first time, last time], ...].
    Column("stays", JSONB, nullable=False, server_default="[]"),
    Column("evidence_digest", Text, nullable=False),
    Column("evidence_revision", BigInteger, nullable=False),  # `revision` when detections last changed
    # The current assessment; NULL before the first one.
    Column("assessment_id", Uuid),
    Column("assessed_digest", Text),
    Column("assessed_revision", BigInteger, nullable=False),  # highest evidence revision assessed; 0 = none
    Column("severity", SmallInteger),  # reason.v1.Severity of the current assessment
    Column("urgent_done", Boolean, nullable=False),  # the fast path was taken
    Column(
        "failure_id", Uuid
    ),  # the last failed attempt, or the one that gave up a request; NULL after a success
    Column("traceparent", Text),  # of the photo that joined last; NULL if its trace is not recorded
    Column("zones", ARRAY(Text), nullable=False, server_default="{}"),  # of its detections: sorted, distinct
    Index("events_newest", text("started_at DESC"), text("id DESC")),
    Index("events_newest_of_camera", "camera_id", text("started_at DESC"), text("id DESC")),
    Index("events_labels", "labels", postgresql_using="gin"),
    # Partial: an event without zones, of a camera without any, costs nothing.
    Index("events_zones", "zones", postgresql_using="gin", postgresql_where=text("zones <> '{}'")),
    Index("events_open", "partition", "last_recorded_at", postgresql_where=text("NOT closed")),
)

# In how many events of a day things of one label passed through a zone, or stayed in it, in one half-hour of
# the local day, while the zone had this polygon. A row that has come to 0 stays until the window has passed.
habits = Table(
    "habits",
    metadata,
    Column("camera_id", Text, primary_key=True),
    Column("half_hour", SmallInteger, primary_key=True, autoincrement=False),  # from 0, of the local day
    Column("day", Date, primary_key=True),  # local
    Column("label", Text, primary_key=True),
    Column("zone_id", Text, primary_key=True),
    Column("polygon_digest", Text, primary_key=True),
    Column("behaviour", SmallInteger, primary_key=True, autoincrement=False),  # reason.v1.Behaviour
    Column("events", Integer, nullable=False),
    Index("habits_by_day", "camera_id", "day"),
)

# What the transaction that opens an event freezes of its evidence: all but the detections. Only a change of
# the house's mode or presence within the entry delay changes it later.
event_evidence = Table(
    "event_evidence",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    # Serialised reason.v1.Evidence: what the camera's configuration says of its picture, by which the whole
    # event is measured; and everything else, at most 16 KiB.
    Column("scene", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("camera_revision", BigInteger, nullable=False),  # of that configuration
)

# Who a track is, as somebody has said. The name stays with the detections that the track had then, and is
# part of the event's evidence.
track_identities = Table(
    "track_identities",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("track_id", Uuid, primary_key=True),
    Column("detection_ids", ARRAY(Uuid), nullable=False),  # sorted
    Column("person", LargeBinary, nullable=False),  # serialised reason.v1.Person; empty if nobody knows
    Column("identified_at", TIME, nullable=False),
)

# The queue: a row exists while there is work to do. Facts match it by kind and subject, never by its id.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("kind", SmallInteger, nullable=False),  # store.internal.v1.JobKind
    Column("subject_id", Uuid, nullable=False),  # for `assess` the event, for `render` the rendition
    Column("camera_id", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),  # higher is leased first
    Column(
        "rank_time", TIME, nullable=False
    ),  # newest first within a priority: the start of the event, the request of the rendition
    Column("due_at", TIME, nullable=False),  # a lease does not change it
    Column("waiting_since", TIME, nullable=False),  # since there is work; retries do not change it
    Column("attempts", Integer, nullable=False),  # failed attempts since the last success
    Column("failed", Boolean, nullable=False),  # its subject shows a failure
    Column("hastened", Boolean, nullable=False),  # once, after a success elsewhere
    Column("input_digest", Text, nullable=False),  # of the input as the subject has it now
    # The request that waits for this work; both NULL if there is none.
    Column("request_id", Uuid),
    Column("request", LargeBinary),  # serialised store.internal.v1.ReassessmentRequest
    Column("lease_id", Uuid),
    Column("leased_until", TIME),
    Column("traceparent", Text),  # of the photo or request that made it due; NULL if it is not recorded
    Column("progress", REAL, nullable=False, server_default=text("0")),  # 0..1, as its worker says
    UniqueConstraint("kind", "subject_id"),
    Index("jobs_ranked", "kind", text("priority DESC"), text("rank_time DESC")),
    Index(
        "jobs_failed",
        "kind",
        text("priority DESC"),
        text("rank_time DESC"),
        postgresql_where=text("failed AND NOT hastened"),
    ),
    Index("jobs_leased", "lease_id", postgresql_where=text("lease_id IS NOT NULL")),
    Index("jobs_asked", "request_id", postgresql_where=text("request_id IS NOT NULL")),
)

# All assessments, with replaced ones and those of events that are not recorded yet.
assessments = Table(
    "assessments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("evidence_revision", BigInteger, nullable=False),
    Column("evidence_digest", Text, nullable=False),
    Column("score", SmallInteger, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    # Serialised reason.v1.Assessment without its raw answer and without unknown fields, because it is copied
    # into every list and every feed entry.
    Column("body", LargeBinary, nullable=False),
    Column("assessed_at", TIME, nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("request_id", Uuid),  # the request that it answers
    # Drawn under the camera's row lock, so the numbers of one event are in the order of recording.
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Index("assessments_of_event", "event_id", text("number DESC")),
    Index("assessments_recorded", "recorded_at"),
)

# The raw answers of language models; only of assessments that have one.
raw_answers = Table(
    "raw_answers",
    metadata,
    Column("assessment_id", Uuid, primary_key=True),
    Column(
        "body", LargeBinary, nullable=False
    ),  # UTF-8; bytes, because PostgreSQL's text cannot hold every character
)

# The last failed attempt of each event, and those that gave up a request.
assessment_failures = Table(
    "assessment_failures",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("evidence_revision", BigInteger, nullable=False),
    Column("evidence_digest", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("failed_at", TIME, nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("given_up_request_id", Uuid),  # the request that it gave up
    Index("assessment_failures_of_event", "event_id"),
)

# What was made, or is being made, of media because somebody asked for it. While it waits it has a job.
renditions = Table(
    "renditions",
    metadata,
    Column("id", Uuid, primary_key=True),  # of its kind and what it is made of
    Column("kind", SmallInteger, nullable=False),  # store.v1.RenditionKind
    Column("subject_id", Uuid, nullable=False),  # a media or an event
    Column("camera_id", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),  # store.v1.RenditionState
    Column("input", LargeBinary, nullable=False),  # serialised RenderInput; empty once it no longer waits
    Column("requested_by", Text, nullable=False),  # the key's id; '' if authentication is off
    Column("requested_at", TIME, nullable=False),
    Column("last_used_at", TIME, nullable=False),  # to the minute
    # When it was made, or could not be made, by the clock of the store; NULL while it waits.
    Column("recorded_at", TIME),
    Column("sha256", Text),  # of its blob
    Column("size_bytes", BigInteger, nullable=False),  # 0 without a blob
    Column("blob", LargeBinary),  # serialised detect.v1.RenderedBlob
    Column("failure", LargeBinary),  # serialised detect.v1.RenderFailure: the latest
    Index("renditions_by_use", "last_used_at"),
    Index("renditions_of_blob", "sha256", postgresql_where=text("sha256 IS NOT NULL")),
    Index("renditions_waiting", "requested_by", postgresql_where=text("state = 1")),
)

# Blobs of renditions that are gone. They are deleted once nothing refers to them, unless they were put again
# after `put_before`.
unused_blobs = Table(
    "unused_blobs",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("put_before", TIME, nullable=False),
)

# What people say of assessments; the latest of each.
assessment_feedback = Table(
    "assessment_feedback",
    metadata,
    Column("assessment_id", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("kind", SmallInteger, nullable=False),  # store.v1.FeedbackKind
    Column("severity", SmallInteger, nullable=False),  # reason.v1.Severity that would have been right
    Column("note", Text, nullable=False),
    Column("given_at", TIME, nullable=False),
    Index("assessment_feedback_newest", text("given_at DESC"), text("assessment_id DESC")),
)

rejections = Table(
    "rejections",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("camera_id", Text, nullable=False),  # '' if the folder has no camera
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),  # ingest.v1.RejectionReason
    Column("detail", Text, nullable=False),
    Column("rejected_at", TIME, nullable=False),
    Column("media_id", Uuid),  # set if detect_svc rejected the media
    Column("recorded_at", TIME, nullable=False),
    Index("rejections_newest", text("rejected_at DESC"), text("id DESC")),
)

# What was deleted permanently: later facts of it are dropped. Nothing writes it before there is retention.
# The tombstone of a camera is `cameras.deleted_at`, that of a file its row in `files`.
tombstones = Table(
    "tombstones",
    metadata,
    Column("kind", Text, primary_key=True),  # media, event
    Column("id", Uuid, primary_key=True),
    Column("deleted_at", TIME, nullable=False),
    CheckConstraint("kind IN ('media', 'event')", name="kind"),
)

# Immutable snapshots of events. The sequence is in commit order, without gaps, and is the cursor everywhere.
feed = Table(
    "feed",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Uuid, nullable=False),
    Column("camera_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("severity", SmallInteger),
    Column("deleted", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),  # serialised store.v1.EventChanged
    Column("recorded_at", TIME, nullable=False),
)

# One row each: the last sequence taken by a transaction that writes feed rows, and the last sequence that the
# relay has published. They are two tables so that the relay never waits for the lock of the counter.
feed_head = Table(
    "feed_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
feed_published = Table(
    "feed_published",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# Not yet on store.cameras.v1. Ids are drawn under the camera's row lock, so those of one camera are in commit
# order.
camera_outbox = Table(
    "camera_outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("camera_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # serialised store.v1.CameraConfigured
)

# Not yet on store.kept.v1. As in `camera_outbox`, the ids of one camera are in commit order.
kept_outbox = Table(
    "kept_outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("camera_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # serialised store.v1.MediaKept
)

# How far each topic was read. Only the transaction that applies the records moves an offset.
offsets = Table(
    "offsets",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("topic_id", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
)

# Leases of what has a name. Each time that one is taken it gets a token from the sequence `lease_tokens`.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", BigInteger, nullable=False, unique=True),
    Column("holder", Text, nullable=False),
    Column("length", Interval, nullable=False),
    Column("expires_at", TIME, nullable=False),  # by the clock of the database
)
lease_tokens = Sequence("lease_tokens", metadata=metadata)

# Uploads that are arriving, or that somebody may go on with.
uploads = Table(
    "uploads",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller_id", Text, nullable=False),
    Column("camera_id", Text, nullable=False),
    Column("sha256", Text),  # NULL while it is not known
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("arrived_at", TIME, nullable=False),
    Column("written_at", TIME, nullable=False),
    Column("lease_token", BigInteger, nullable=False, unique=True),  # of the last that received it
    Index("uploads_of_camera", "camera_id", "caller_id", "sha256", unique=True),
)
upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", Uuid, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("created_at", TIME, nullable=False),
    Column("revoked_at", TIME),
    Column(
        "permissions", ARRAY(SmallInteger)
    ),  # access.v1.Permission; NULL = all, those of later versions, too
    Column("camera_id", Text),  # of a camera's key: only for this camera
    # Of a camera's key: mesh.http_digest.user_digest.
    Column("digest_md5", Text),
    Column("digest_sha256", Text),
)

# One row. Its lock serialises all changes of the tables below. `revision` grows with every change of people,
# expected visits and notes, so that readers know whether what they remember is up to date.
house = Table(
    "house",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("told", Boolean, nullable=False),  # False until somebody has told anything about the home
    Column("revision", BigInteger, nullable=False),
    Column("site_notes", LargeBinary, nullable=False),  # serialised store.v1.SiteNotes
    CheckConstraint("id = 1", name="one_row"),
)

# Every change of the mode by a caller, and the last one of each schedule that was replaced. Other changes by
# a schedule follow from the schedule itself. Of changes at one time, the one with the higher number counts.
mode_changes = Table(
    "mode_changes",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("at", TIME, nullable=False),
    Column("mode", Text, nullable=False),  # '' = unset
    Column("source", SmallInteger, nullable=False),  # store.v1.ModeSource
    Column("key_id", Text, nullable=False),  # '' for a change by a schedule, and if authentication is off
    Column("changed_by", Text, nullable=False),  # the key's name then
    Index("mode_changes_newest", text("at DESC"), text("number DESC")),
)

# Every schedule, also those that were replaced: each applies from `since` until the next one.
mode_schedules = Table(
    "mode_schedules",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("since", TIME, nullable=False),
    Column("body", LargeBinary, nullable=False),  # serialised store.v1.ModeSchedule, with its time zone
    Column("key_id", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Index("mode_schedules_newest", text("since DESC"), text("number DESC")),
)

people = Table(
    "people",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("relation", SmallInteger, nullable=False),  # reason.v1.Relation
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
)

# Every report that somebody has come or gone, also of people who were removed.
presence_reports = Table(
    "presence_reports",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("person_id", Uuid, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("reported_at", TIME, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("reported_by", Text, nullable=False),  # the key's name then
    Index("presence_reports_newest", text("reported_at DESC"), text("number DESC")),
)

expected_visits = Table(
    "expected_visits",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # serialised store.v1.ExpectedVisit, with its time zone
)
