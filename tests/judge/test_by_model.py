"""The samples that language models are measured on."""

from tests.judge.by_model import SAMPLES, sample
from tests.judge.labelled import pairs_of


def test_samples_have_both_sides_of_pairs_and_no_common_event() -> None:
    first, second = (sample(name) for name in SAMPLES)
    assert not {event.id for event in first} & {event.id for event in second}
    for events in (first, second):
        assert sum(pair.rises for pair in pairs_of(events)) == 8
        assert sum(event.benign for event in events) >= 14
        assert sum(not event.benign for event in events) >= 14
