"""What is sent: photos that every detector refuses, and rounds with few events."""

from pathlib import Path

import pytest

from ingest_svc.formats.inspection import MediaHeader, MediaLimits, inspect
from mesh.photo_decoding import decode
from mesh.processes.sandbox_child import InputRefused
from tests.faults.load import Item, Load
from tests.faults.stub_detector import EMPTY

LIMITS = MediaLimits(bytes=10_000_000, pixels=20_000_000)


def items(load: Load, rounds: int) -> list[list[Item]]:
    """Those of each round."""
    batches = (load.batch(["damaged", "upload", "clip"]) for _ in range(rounds))
    return [[*batch.early, *batch.probes] for batch in batches]


def test_only_the_decoder_refuses_a_damaged_photo(tmp_path: Path) -> None:
    damaged = [one for sent in items(Load(1, tmp_path), 12) for one in sent if one.kind == "damaged"]
    assert len(damaged) == 12
    for item in damaged:
        assert isinstance(inspect(item.content, LIMITS), MediaHeader)
        with pytest.raises(InputRefused) as refused:
            decode(item.content, 640, LIMITS.pixels)
        assert refused.value.reason == "CORRUPT"


def test_one_photo_of_a_round_with_few_events_shows_something(tmp_path: Path) -> None:
    few, many = (items(Load(1, tmp_path, few_events=few_events), 10) for few_events in (True, False))
    for sent in few:
        shown = [one for one in sent if not one.content.endswith(EMPTY)]
        assert sorted(one.kind for one in shown if one.kind != "flawed") == ["clip", "damaged", "photo"]
    assert not any(one.is_empty for sent in many for one in sent)
    # Nothing else differs.
    assert [[one.path for one in sent] for sent in few] == [[one.path for one in sent] for sent in many]
