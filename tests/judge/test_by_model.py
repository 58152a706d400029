"""The samples that language models are measured on, and that prompt v2 makes sense to a model that is cached.

`python -m tests.support.qwen` fetches the model into the cache.
"""

from collections.abc import AsyncIterator

import pytest

from mesh.config import load_config
from reason_svc.evidence import Evidence
from reason_svc.reasoner import ModelChoice, Reasoner
from reason_svc.reasoner_factory import open_reasoner
from tests.judge.assessing import SECONDS
from tests.judge.by_model import SAMPLES, sample, until_ready
from tests.judge.labelled import MEDIUM, pairs_of
from tests.support import qwen
from tests.support.llama import running_llama
from tests.unit.reason_svc.rules.test_v2 import event, seen, stay

PASSER_BY = event([seen(2 * step, 0.35, x=0.1 + 0.2 * step) for step in range(4)], mode="home")
BURGLAR = event(stay(0.95, 60), mode="away", dark=True)


def test_samples_have_both_sides_of_pairs_and_no_common_event() -> None:
    first, second = (sample(name) for name in SAMPLES)
    assert not {event.id for event in first} & {event.id for event in second}
    for events in (first, second):
        assert sum(pair.rises for pair in pairs_of(events)) == 8
        assert sum(event.benign for event in events) >= 14
        assert sum(not event.benign for event in events) >= 14


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[Reasoner]:
    if not qwen.FILE.exists():
        pytest.skip(f"{qwen.NAME} is not cached; `python -m tests.support.qwen` fetches it")
    config = load_config(reason_seconds=SECONDS, reason_repeatable=True)
    async with (
        running_llama(qwen.FILE, context=4096, parallel=1) as url,
        open_reasoner(config, url) as reasoner,
    ):
        await until_ready(reasoner)
        yield reasoner


@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize(
    ("evidence", "alarms"), [(PASSER_BY, False), (BURGLAR, True)], ids=["passer-by", "burglar"]
)
async def test_a_small_model_understands_prompt_v2(model: Reasoner, evidence: Evidence, alarms: bool) -> None:
    """The model's own score: the floor of the rules would raise the burglar's."""
    result = await model.assess(evidence, ModelChoice(prompt="v2"))
    assert result.model_score is not None
    assert (result.model_score >= MEDIUM) == alarms, result.raw_answer
