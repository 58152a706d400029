"""Model families that reason aloud by default, and how each is told not to."""

import re
from enum import StrEnum


class ModelFamily(StrEnum):
    PLAIN = "plain"
    NEMOTRON_3_NANO = "nemotron-3-nano"
    NEMOTRON_NANO_9B_V2 = "nemotron-nano-9b-v2"


_PATTERNS = (
    (re.compile(r"nemotron[-_. ]*3[-_. ]*nano", re.IGNORECASE), ModelFamily.NEMOTRON_3_NANO),
    (re.compile(r"nemotron[-_. ]*nano[-_. ]*9b[-_. ]*v2", re.IGNORECASE), ModelFamily.NEMOTRON_NANO_9B_V2),
)


def family_of(model: str) -> ModelFamily:
    """Returns the family of a model by its name, for example `nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8`."""
    return next((family for pattern, family in _PATTERNS if pattern.search(model)), ModelFamily.PLAIN)


def system_message(family: ModelFamily, prompt: str) -> str:
    """Returns the system message for `prompt`. Nemotron Nano 9B v2 is switched to not reason there."""
    return f"{prompt}\n\n/no_think" if family is ModelFamily.NEMOTRON_NANO_9B_V2 else prompt
