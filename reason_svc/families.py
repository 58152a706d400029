"""Families of models that reason unless told not to, each in its own way."""

import re
from enum import StrEnum


class Family(StrEnum):
    PLAIN = "plain"
    NEMOTRON_3_NANO = "nemotron-3-nano"
    NEMOTRON_NANO_9B_V2 = "nemotron-nano-9b-v2"


_NAMES = (
    (re.compile(r"nemotron[-_. ]*3[-_. ]*nano", re.IGNORECASE), Family.NEMOTRON_3_NANO),
    (re.compile(r"nemotron[-_. ]*nano[-_. ]*9b[-_. ]*v2", re.IGNORECASE), Family.NEMOTRON_NANO_9B_V2),
)


def family_of(model: str) -> Family:
    """By the model's name, such as `nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8`."""
    return next((family for name, family in _NAMES if name.search(model)), Family.PLAIN)


def system_text(family: Family, text: str) -> str:
    """The system prompt; Nemotron Nano 9B v2 reads its switch there."""
    return f"{text}\n\n/no_think" if family is Family.NEMOTRON_NANO_9B_V2 else text
