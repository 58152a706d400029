"""The word for a range of scores."""

from enum import Enum

import strawberry

from lares.reason.v1 import assessment_pb2


@strawberry.enum(description="The word for a range of scores.")
class Severity(Enum):
    LOW = assessment_pb2.SEVERITY_LOW
    MEDIUM = assessment_pb2.SEVERITY_MEDIUM
    HIGH = assessment_pb2.SEVERITY_HIGH
    CRITICAL = assessment_pb2.SEVERITY_CRITICAL
