"""Messages on topics and in stored columns stay readable: contracts are compared with released images."""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
)
from sqlalchemy import LargeBinary

from deploy import contracts
from mesh.topics import TOPICS
from store_svc.database.tables import metadata

FIRST = contracts.IMAGES / "2026-11-21.binpb"

Change = Callable[[FileDescriptorSet], None]


def read(path: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(path.read_bytes())


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(one for file in files.file for one in file.message_type if one.name == name)


def field(files: FileDescriptorSet, name: str) -> FieldDescriptorProto:
    owner, _, own = name.partition(".")
    return next(one for one in message(files, owner).field if one.name == own)


def enum(files: FileDescriptorSet, name: str) -> EnumDescriptorProto:
    return next(one for file in files.file for one in file.enum_type if one.name == name)


def delete(files: FileDescriptorSet, name: str, *, reserve: bool = False) -> None:
    owner, number = message(files, name.partition(".")[0]), field(files, name).number
    owner.field.remove(field(files, name))
    if reserve:
        owner.reserved_range.add(start=number, end=number + 1)


def retype(files: FileDescriptorSet, name: str, kind: "FieldDescriptorProto.Type.ValueType") -> None:
    field(files, name).type = kind


def renumber(files: FileDescriptorSet, name: str, number: int) -> None:
    field(files, name).number = number


def once(files: FileDescriptorSet, name: str) -> None:
    field(files, name).label = FieldDescriptorProto.LABEL_OPTIONAL


def swap_fields(files: FileDescriptorSet) -> None:
    width, height = field(files, "Media.width"), field(files, "Media.height")
    width.name, height.name, width.json_name, height.json_name = "height", "width", "height", "width"


def swap_values(files: FileDescriptorSet) -> None:
    _, low, _, high, _ = enum(files, "Severity").value
    low.name, high.name = high.name, low.name


def delete_value(files: FileDescriptorSet) -> None:
    del enum(files, "Severity").value[4]


def delete_value_and_reserve(files: FileDescriptorSet) -> None:
    delete_value(files)
    enum(files, "Severity").reserved_range.add(start=4, end=4)


def delete_message(files: FileDescriptorSet) -> None:
    for file in files.file:
        for one in [one for one in file.message_type if one.name == "MediaRejected"]:
            file.message_type.remove(one)


def other_package(files: FileDescriptorSet) -> None:
    next(
        file for file in files.file if file.name == "lares/ingest/v1/events.proto"
    ).package = "lares.ingest.v2"


BREAKS: dict[str, Change] = {
    "a removed field": lambda files: delete(files, "MediaDetected.detections"),
    "a removed field with its number reserved": lambda files: delete(files, "Event.closed", reserve=True),
    "another type": lambda files: retype(files, "Detection.label", FieldDescriptorProto.TYPE_INT32),
    "another type that WIRE considers compatible": lambda files: retype(
        files, "MediaRejected.detail", FieldDescriptorProto.TYPE_BYTES
    ),
    "a number that becomes a bool": lambda files: retype(
        files, "Media.width", FieldDescriptorProto.TYPE_BOOL
    ),
    "another number": lambda files: renumber(files, "Detection.score", 77),
    "a repeated field that becomes single": lambda files: once(files, "Detection.box"),
    "two swapped fields": swap_fields,
    "two swapped values": swap_values,
    "a removed value": delete_value,
    "a removed value with its number reserved": delete_value_and_reserve,
    "a removed message": delete_message,
    "another package": other_package,
}


def add_field(files: FileDescriptorSet) -> None:
    message(files, "Event").field.add(
        name="extra",
        number=99,
        type=FieldDescriptorProto.TYPE_INT32,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )


def rename_field(files: FileDescriptorSet) -> None:
    renamed = field(files, "Factor.factor")
    renamed.name = renamed.json_name = "name"


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS)
def test_a_change_that_misreads_stored_messages_is_found(change: Change) -> None:
    changed = read(FIRST)
    change(changed)
    assert contracts.breaking(read(FIRST), changed)


def test_the_removal_of_an_enum_with_stored_numbers_is_found() -> None:
    changed = contracts.current()
    for file in changed.file:
        for one in [one for one in file.enum_type if one.name == "PolicyDecision"]:
            file.enum_type.remove(one)
    assert contracts.breaking(contracts.current(), changed)


@pytest.mark.parametrize("change", [add_field, rename_field])
def test_a_compatible_change_is_accepted(change: Change) -> None:
    changed = read(FIRST)
    change(changed)
    assert contracts.breaking(read(FIRST), changed) == []


def test_an_image_has_every_message_on_a_topic_and_only_files_of_lares() -> None:
    image = contracts.current()
    names = {f"{file.package}.{one.name}" for file in image.file for one in file.message_type}
    assert names >= {topic.message.DESCRIPTOR.full_name for topic in TOPICS}
    assert names >= {"lares.reason.v1.Assessment", "lares.store.v1.Camera", "lares.ingest.v1.Media"}
    for files in (image, *(read(path) for path in contracts.IMAGES.glob("*.binpb"))):
        assert {file.name.partition("/")[0] for file in files.file} == {"lares"}


def test_the_message_in_every_column_of_bytes_is_listed() -> None:
    """Otherwise the message could be changed so that old rows are misread."""
    columns = [column for table in metadata.tables.values() for column in table.columns]
    of_bytes = {f"{one.table.name}.{one.name}" for one in columns if isinstance(one.type, LargeBinary)}
    assert of_bytes <= contracts.COLUMNS.keys(), "add the column to deploy/contracts.py and run `make proto`"


def test_contracts_that_break_an_image_do_not_replace_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = contracts.IMAGES
    broken = contracts.current()
    delete(broken, "Detection.score")
    monkeypatch.setattr(contracts, "current", lambda: broken)
    before = {path: path.read_bytes() for path in images.glob("*")}
    assert contracts.main([]) == 1
    assert 'field "3" with name "score"' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in images.glob("*")} == before


def test_new_contracts_get_a_new_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath(FIRST.name).write_bytes(FIRST.read_bytes())
    monkeypatch.setattr(contracts, "IMAGES", tmp_path)
    assert contracts.main(["--check"]) == 1
    assert "make proto" in capsys.readouterr().err
    assert contracts.main([]) == 0
    assert contracts.main(["--check"]) == 0
    assert len(list(tmp_path.glob("*.binpb"))) == 2
