# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""What a camera's configuration says about its picture: zones, lines, masks, size filters and ground."""

from enum import Enum

import strawberry

from gateway.schema.message_fields import message_field, round_float32
from lares.scene.v1 import scene_pb2
from lares.store.v1 import camera_pb2
from mesh.labels import unique_by_canonical
from mesh.problems import Invalid

ID = "A slug, unique among the camera's."
POLYGON = "3 to 64 corners in order, without repeating the first one."
NO_LIMIT = "0 sets no limit."


@strawberry.enum(
    name="ZoneKind",
    description="What a place means to the people of the house. PUBLIC: everybody may be there. APPROACH: "
    "the way of visitors to the door. PRIVATE: ground of the house. ENTRY: before a door or gate. WINDOW: "
    "before a window. INSIDE: within the house. WATER: a pool or pond.",
)
class CameraZoneKind(Enum):
    PUBLIC = scene_pb2.ZONE_KIND_PUBLIC
    APPROACH = scene_pb2.ZONE_KIND_APPROACH
    PRIVATE = scene_pb2.ZONE_KIND_PRIVATE
    ENTRY = scene_pb2.ZONE_KIND_ENTRY
    WINDOW = scene_pb2.ZONE_KIND_WINDOW
    INSIDE = scene_pb2.ZONE_KIND_INSIDE
    WATER = scene_pb2.ZONE_KIND_WATER


@strawberry.enum(
    name="Ground",
    description="What a camera looks at. It gives every place outside the zones a kind. UNSPECIFIED: nothing "
    "is said.",
)
class CameraGround(Enum):
    UNSPECIFIED = scene_pb2.GROUND_UNSPECIFIED
    STREET_SIDE = scene_pb2.GROUND_STREET_SIDE
    FRONT_DOOR = scene_pb2.GROUND_FRONT_DOOR
    DRIVE = scene_pb2.GROUND_DRIVE
    GARDEN = scene_pb2.GROUND_GARDEN
    INSIDE = scene_pb2.GROUND_INSIDE


@strawberry.type(name="Point", description="A place in the upright picture, as fractions (0 to 1) of it.")
class PicturePoint:
    message: strawberry.Private[scene_pb2.Point]
    x: float = message_field("x", round_float32)
    y: float = message_field("y", round_float32)


@strawberry.type(name="Zone", description="A named polygon. A thing is in it if its foot point is.")
class CameraZone:
    message: strawberry.Private[scene_pb2.Zone]
    id: strawberry.ID = message_field("id", description=ID)
    name: str = message_field("name")
    kind: CameraZoneKind = message_field("kind")
    polygon: list[PicturePoint] = message_field("polygon", list_of=PicturePoint)


@strawberry.type(
    name="Line",
    description="A named segment. Whoever crosses it from left to right, seen from `start` to `end`, goes "
    "inwards.",
)
class CameraLine:
    message: strawberry.Private[scene_pb2.Line]
    id: strawberry.ID = message_field("id", description=ID)
    name: str = message_field("name")
    start: PicturePoint = message_field("start", of=PicturePoint)
    end: PicturePoint = message_field("end", of=PicturePoint)


@strawberry.type(name="Mask", description="A polygon in which nothing counts.")
class CameraMask:
    message: strawberry.Private[camera_pb2.Mask]
    id: strawberry.ID = message_field("id", description=ID)
    name: str = message_field("name")
    polygon: list[PicturePoint] = message_field("polygon", list_of=PicturePoint)


@strawberry.type(name="SizeFilter", description="The boxes with this label that count. " + NO_LIMIT)
class CameraSizeFilter:
    label: str = strawberry.field(description="A watched class; `*` stands for every other label.")
    min_area: float = strawberry.field(description="A share of the picture's area.")
    max_area: float
    min_aspect: float = strawberry.field(description="Width by height, in pixels.")
    max_aspect: float


@strawberry.input
class PointInput:
    x: float
    y: float

    def message(self) -> scene_pb2.Point:
        return scene_pb2.Point(x=self.x, y=self.y)


@strawberry.input
class ZoneInput:
    id: strawberry.ID = strawberry.field(description=ID)
    kind: CameraZoneKind
    polygon: list[PointInput] = strawberry.field(description=POLYGON)
    name: str = ""

    def message(self) -> scene_pb2.Zone:
        polygon = [corner.message() for corner in self.polygon]
        return scene_pb2.Zone(id=self.id, name=self.name, kind=self.kind.value, polygon=polygon)


@strawberry.input
class LineInput:
    id: strawberry.ID = strawberry.field(description=ID)
    start: PointInput
    end: PointInput
    name: str = ""

    def message(self) -> scene_pb2.Line:
        return scene_pb2.Line(id=self.id, name=self.name, start=self.start.message(), end=self.end.message())


@strawberry.input
class MaskInput:
    id: strawberry.ID = strawberry.field(description=ID)
    polygon: list[PointInput] = strawberry.field(description=POLYGON)
    name: str = ""

    def message(self) -> camera_pb2.Mask:
        return camera_pb2.Mask(
            id=self.id, name=self.name, polygon=[corner.message() for corner in self.polygon]
        )


@strawberry.input(description=NO_LIMIT)
class SizeFilterInput:
    label: str = strawberry.field(description="A watched class; `*` stands for every other label.")
    min_area: float = 0.0
    max_area: float = 0.0
    min_aspect: float = 0.0
    max_aspect: float = 0.0

    def message(self) -> camera_pb2.SizeFilter:
        return camera_pb2.SizeFilter(
            min_area=self.min_area,
            max_area=self.max_area,
            min_aspect=self.min_aspect,
            max_aspect=self.max_aspect,
        )


def size_filters_of(camera: camera_pb2.Camera) -> list[CameraSizeFilter]:
    """In order of label."""
    return [
        CameraSizeFilter(
            label=label,
            min_area=round_float32(size.min_area),
            max_area=round_float32(size.max_area),
            min_aspect=round_float32(size.min_aspect),
            max_aspect=round_float32(size.max_aspect),
        )
        for label, size in sorted(camera.size_filters.items())
    ]


def size_filter_messages(given: list[SizeFilterInput]) -> dict[str, camera_pb2.SizeFilter]:
    """By label. Raises Invalid DUPLICATE_LABEL."""
    try:
        return unique_by_canonical((size.label, size.message()) for size in given)
    except ValueError as error:
        raise Invalid(f"each label may have one size filter only: {error}", "DUPLICATE_LABEL") from None
