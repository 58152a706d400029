"""Compares the contracts with the released images, so that stored messages stay readable.

`python -m deploy.contracts --check` exits with 1 if something in an image of proto/released was removed,
retyped or renumbered, or if no image matches the current contracts. Without `--check` it writes the image of
the current contracts, unless they break an earlier one.

An image is a FileDescriptorSet of the messages and enums that topics and columns of store_svc contain,
directly or indirectly. It has no options (such as the rules of buf/validate) and no services.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from lares.access.v1.permission_pb2 import Permission
from lares.detect.v1.events_pb2 import RenderedBlob, RenderFailure
from lares.reason.v1.assessment_pb2 import Assessment
from lares.reason.v1.evidence_pb2 import Evidence, Person, Relation
from lares.store.internal.v1 import job_service_pb2
from lares.store.v1.camera_scene_pb2 import CameraScene
from lares.store.v1.dropped_pb2 import DroppedDetections
from lares.store.v1.events_pb2 import CameraConfigured, EventChanged, MediaKept
from lares.store.v1.house_pb2 import ExpectedVisit, ModeSchedule, ModeSource, SiteNotes
from lares.store.v1.rendition_pb2 import RenditionState
from lares.store.v1.stored_clip_pb2 import StoredClip
from mesh.topics import TOPICS

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "proto" / "released"
OWN = "lares/"
# Messages that images refer to but do not contain.
FOREIGN = (Duration, Timestamp)

# Renamed messages: the name in older images, and the current one. Only numbers and types are on the wire.
RENAMED = {"lares.reason.v1.JudgementFailure": "lares.reason.v1.AssessmentFailure"}

Type = Descriptor | EnumDescriptor

# The message in each column of bytes; None if the column does not hold a message.
COLUMNS: dict[str, type[Message] | None] = {
    "assessments.body": Assessment,
    "camera_outbox.body": CameraConfigured,
    "cameras.scene": CameraScene,
    "event_evidence.body": Evidence,
    "event_evidence.scene": Evidence,
    "events.frozen_digest": None,
    "expected_visits.body": ExpectedVisit,
    "feed.body": EventChanged,
    "frames.dropped": DroppedDetections,
    "house.site_notes": SiteNotes,
    "jobs.request": job_service_pb2.ReassessmentRequest,
    "kept_outbox.body": MediaKept,
    "media.clip": StoredClip,
    "mode_schedules.body": ModeSchedule,
    "raw_answers.body": None,
    "renditions.blob": RenderedBlob,
    "renditions.failure": RenderFailure,
    "renditions.input": job_service_pb2.RenderInput,
    "track_identities.person": Person,
}
# Enums whose numbers are stored and that no message above contains.
NUMBERS = (
    job_service_pb2.JobKind.DESCRIPTOR,
    ModeSource.DESCRIPTOR,
    Permission.DESCRIPTOR,
    Relation.DESCRIPTOR,
    RenditionState.DESCRIPTOR,
)


def current() -> FileDescriptorSet:
    """Returns the image of the current contracts, from the generated code."""
    messages = [*(topic.message for topic in TOPICS), *(held for held in COLUMNS.values() if held)]
    return image([*(message.DESCRIPTOR for message in messages), *NUMBERS])


def image(roots: Iterable[Type]) -> FileDescriptorSet:
    """Returns `roots` and all types of Lares that they contain, in order of name."""
    reached: dict[str, Type] = {}
    for root in roots:
        _reach(root, reached)
    files: dict[str, FileDescriptorProto] = {}
    for _, kind in sorted(reached.items()):
        if kind.containing_type is None:  # otherwise it is added with the message that contains it
            _add(files.setdefault(kind.file.name, FileDescriptorProto()), kind)
    for name, file in files.items():
        file.name, file.syntax = name, "proto3"
        needed = {
            field.type_name
            for message in file.message_type
            for _, one in _nested("", message)
            for field in one.field
        }
        homes = {reached[type[1:]].file.name for type in needed if type[1:] in reached}
        homes |= {one.DESCRIPTOR.file.name for one in FOREIGN if f".{one.DESCRIPTOR.full_name}" in needed}
        file.dependency.extend(sorted(homes - {name}))
    return FileDescriptorSet(file=[files[name] for name in sorted(files)])


def moved_names(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Returns a line for each field or enum value whose name now has another number. buf takes two names that
    were swapped for two renames."""
    numbers = dict(_numbers(new))
    return [
        f"{name} was {number} and is {numbers[name]}"
        for name, number in _numbers(old)
        if numbers.get(name, number) != number
    ]


def renamed(old: FileDescriptorSet) -> FileDescriptorSet:
    """Returns `old` with the current names of messages that were renamed since."""
    files = FileDescriptorSet()
    files.CopyFrom(old)
    for file in files.file:
        for name, message in [pair for one in file.message_type for pair in _nested(file.package, one)]:
            if name in RENAMED:
                message.name = RENAMED[name].rpartition(".")[2]
            for field in message.field:
                if field.type_name[1:] in RENAMED:
                    field.type_name = "." + RENAMED[field.type_name[1:]]
    return files


def breaking(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Returns a line for each way in which `new` breaks `old`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{name}.binpb") for name in ("old", "new")]
        for path, files in zip(paths, (old, new), strict=True):
            path.write_bytes(_whole(files).SerializeToString())
        command = [
            str(Path(sys.executable).parent / "buf"),
            "breaking",
            str(paths[1]),
            "--against",
            str(paths[0]),
        ]
        ended = subprocess.run(  # noqa: S603
            [*command, "--config", ROOT / "buf.yaml"], capture_output=True, text=True, check=False
        )
    lines = (ended.stdout + ended.stderr).splitlines()
    if ended.returncode and not lines:
        raise RuntimeError(f"buf breaking ended with {ended.returncode}")
    return [*(line.replace(f"{folder}/", "") for line in lines), *moved_names(old, new)]


def main(arguments: list[str]) -> int:
    contracts = current()
    images = {
        path: FileDescriptorSet.FromString(path.read_bytes()) for path in sorted(IMAGES.glob("*.binpb"))
    }
    broken = [
        f"{path.name}: {line}" for path, old in images.items() for line in breaking(renamed(old), contracts)
    ]
    if broken:
        print("\n".join(broken), file=sys.stderr)
        return 1
    if contracts in images.values():
        return 0
    if "--check" in arguments:
        print("proto/released has no image of the current contracts: run `make proto`", file=sys.stderr)
        return 1
    target = IMAGES / f"{datetime.now(UTC):%Y-%m-%d}.binpb"
    target.write_bytes(contracts.SerializeToString(deterministic=True))
    return 0


def _reach(kind: Type, reached: dict[str, Type]) -> None:
    if kind.full_name in reached or not kind.file.name.startswith(OWN):
        return
    reached[kind.full_name] = kind
    if isinstance(kind, Descriptor):
        for field in kind.fields:
            inner = field.message_type or field.enum_type
            if inner is not None:
                _reach(inner, reached)


def _add(file: FileDescriptorProto, kind: Type) -> None:
    file.package = kind.file.package
    if isinstance(kind, Descriptor):
        message = file.message_type.add()
        kind.CopyToProto(message)
        _strip(message)
    else:
        enum = file.enum_type.add()
        kind.CopyToProto(enum)
        enum.ClearField("options")
        for value in enum.value:
            value.ClearField("options")


def _strip(message: DescriptorProto) -> None:
    """Removes all options except the one that marks map entries."""
    if not message.options.map_entry:
        message.ClearField("options")
    for field in message.field:
        field.ClearField("options")
    for oneof in message.oneof_decl:
        oneof.ClearField("options")
    for nested in message.nested_type:
        _strip(nested)


def _nested(scope: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Yields the message and the messages declared in it, with their full names."""
    name = f"{scope}.{message.name}"
    yield name, message
    for inner in message.nested_type:
        yield from _nested(name, inner)


def _numbers(files: FileDescriptorSet) -> Iterator[tuple[str, int]]:
    """Yields the full name and number of each field and enum value."""
    for file in files.file:
        messages = [pair for message in file.message_type for pair in _nested(file.package, message)]
        enums = [(file.package, enum) for enum in file.enum_type]
        enums += [(name, enum) for name, message in messages for enum in message.enum_type]
        for name, message in messages:
            yield from ((f"{name}.{field.name}", field.number) for field in message.field)
        for scope, enum in enums:
            yield from ((f"{scope}.{enum.name}.{value.name}", value.number) for value in enum.value)


def _whole(files: FileDescriptorSet) -> FileDescriptorSet:
    """Adds the files that an image refers to but does not contain."""
    whole = FileDescriptorSet()
    for one in FOREIGN:
        one.DESCRIPTOR.file.CopyToProto(whole.file.add())
    whole.MergeFrom(files)
    return whole


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
