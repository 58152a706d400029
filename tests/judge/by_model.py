"""`python -m tests.judge.by_model ANSWERS`: how well a language model scores a sample of the labelled events.

python -m tests.judge.by_model v2.jsonl --model MODEL.gguf --prompt v2 --sample first
python -m tests.judge.by_model again.jsonl --model MODEL.gguf --repeatable --most 12 --same-as v2.jsonl

A model on a CPU needs many seconds for one event. So each answer is appended to the file ANSWERS when it is
there, and a run that was ended goes on when it is started again. Without --model only figures are printed.
`first` and `second` are two samples without a common event: tune a prompt on one, quote the other.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from deploy.embedded.llama import AUTOMATIC, parse_llama_url
from mesh.config import load_config
from mesh.problems import Problem
from reason_svc.messages import evidence_of
from reason_svc.reasoner import ModelChoice, Reasoner, ReasonerReadiness
from reason_svc.reasoner_factory import open_reasoner
from tests.judge.assessing import SECONDS, by_rules
from tests.judge.context import EvidenceKind, evidence_message
from tests.judge.figures import FIGURES, both_right
from tests.judge.labelled import LabelledEvent, pairs_of, read_events
from tests.support.llama import running_llama

SAMPLES = ("first", "second")
CONTEXT = 4096  # tokens of one slot
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """`score` is what Lares would store, `own_score` the model's, before the floor of the rules was kept.
    Both are None if the answer could not be used: then `failure` says why."""

    event_id: str
    score: int | None
    own_score: int | None
    raw: str
    failure: str
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def main() -> None:
    options = _parser().parse_args()
    events = [event for event in sample(options.sample) if options.only in event.id][: options.most]
    if options.model:
        asyncio.run(_ask(options, events))
    answers = read_answers(options.answers)
    _print_figures([event for event in events if event.id in answers], answers, options.evidence)
    if options.same_as:
        _print_repeated(answers, read_answers(options.same_as))


def sample(name: str) -> list[LabelledEvent]:
    """Both sides of one pair of each scenario with pairs, and one event of every second other scenario."""
    half = SAMPLES.index(name)
    events = read_events()
    paired = {event.scenario for event in events if event.item["pair"]}
    words = {pair.calm.scenario for pair in pairs_of(events) if not pair.rises}
    others = sorted({event.scenario for event in events} - paired)
    wanted = {*paired - words, *sorted(words)[half::2], *others[half::2]}
    return [
        event
        for event in events
        if event.scenario in wanted and event.id.rpartition("/")[2].rstrip("ab") == str(half + 1)
    ]


def read_answers(path: Path) -> dict[str, ModelAnswer]:
    lines = path.read_text().splitlines() if path.exists() else []
    answers = [ModelAnswer(**json.loads(line)) for line in lines]
    return {answer.event_id: answer for answer in answers}


async def answer_of(reasoner: Reasoner, event: LabelledEvent, kind: EvidenceKind, prompt: str) -> ModelAnswer:
    started = time.monotonic()
    evidence = evidence_of(evidence_message(event.item, kind))
    try:
        result = await reasoner.assess(evidence, ModelChoice(prompt=prompt))
    except Problem as problem:
        failure = f"{problem.reason}: {problem.message}"
        return ModelAnswer(event.id, None, None, "", failure, time.monotonic() - started, 0, 0, 0)
    tokens = result.tokens
    return ModelAnswer(
        event.id,
        result.score,
        result.model_score,
        result.raw_answer,
        "",
        time.monotonic() - started,
        tokens.prompt,
        tokens.cached,
        tokens.completion,
    )


async def until_ready(reasoner: Reasoner) -> None:
    async with asyncio.timeout(SECONDS):
        while reasoner.report().state is not ReasonerReadiness.READY:
            await asyncio.sleep(POLL_SECONDS)


async def _ask(options: argparse.Namespace, events: Sequence[LabelledEvent]) -> None:
    known = read_answers(options.answers)
    config = load_config(reason_seconds=SECONDS, reason_repeatable=options.repeatable)
    model = parse_llama_url(f"llama:{options.model}").path
    async with (
        running_llama(
            model, context=CONTEXT * options.at_once, parallel=options.at_once, threads=options.threads
        ) as url,
        open_reasoner(config, url) as reasoner,
    ):
        await until_ready(reasoner)
        slots = asyncio.Semaphore(options.at_once)

        async def one(event: LabelledEvent) -> None:
            async with slots:
                answer = await answer_of(reasoner, event, options.evidence, options.prompt)
            with options.answers.open("a") as file:
                file.write(json.dumps(asdict(answer)) + "\n")

        await asyncio.gather(*(one(event) for event in events if event.id not in known))


def _print_figures(
    events: Sequence[LabelledEvent], answers: Mapping[str, ModelAnswer], kind: EvidenceKind
) -> None:
    rules = by_rules()
    scores = {
        "model": {event.id: answers[event.id].own_score for event in events},
        "with floor": {event.id: answers[event.id].score for event in events},
        "rules/v2": {event.id: rules(evidence_message(event.item, kind)) for event in events},
    }
    benign = sum(event.benign for event in events)
    print(f"{benign} benign events, {len(events) - benign} incidents, evidence {kind}")
    print(f"{'':28}" + "".join(f"{name:>12}" for name in scores))
    for name, figure in FIGURES.items():
        values = (figure(events, found) for found in scores.values())
        print(f"{name:28}" + "".join(f"{'-' if v is None else f'{100 * v:.1f}':>12}" for v in values))
    rising = [pair for pair in pairs_of(events) if pair.rises]
    right = (sum(both_right(pair, found) for pair in rising) for found in scores.values())
    print(f"{f'pairs right of {len(rising)}':28}" + "".join(f"{number:12}" for number in right))
    given = [answers[event.id] for event in events]
    usable = [answer for answer in given if answer.own_score is not None]
    counts = Counter(answer.own_score for answer in usable)
    print(f"distinct scores: {len(counts)}; most frequent: {counts.most_common(5)}")
    print(f"without a usable answer: {[(one.event_id, one.failure) for one in given if one.failure]}")
    for name in ("seconds", "prompt_tokens", "cached_tokens", "completion_tokens"):
        amounts: list[float] = [getattr(answer, name) for answer in usable]
        print(f"{name}: median {statistics.median(amounts):.0f}, {min(amounts):.0f} to {max(amounts):.0f}")


def _print_repeated(answers: Mapping[str, ModelAnswer], others: Mapping[str, ModelAnswer]) -> None:
    both = [(answers[id_], others[id_]) for id_ in answers if id_ in others]
    texts = sum(one.raw != other.raw for one, other in both)
    scores = sum(one.own_score != other.own_score for one, other in both)
    print(f"of {len(both)} answers, {texts} differ in a byte and {scores} in the score")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tests.judge.by_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("answers", type=Path, help="the file of the answers, as JSON lines")
    parser.add_argument("--model", type=Path, help="the GGUF file; `python -m tests.support.qwen` has one")
    parser.add_argument("--prompt", default="v2")
    parser.add_argument("--sample", choices=SAMPLES, default="first")
    parser.add_argument("--evidence", choices=get_args(EvidenceKind), default="all")
    parser.add_argument("--only", default="", help="take only events with this in their id")
    parser.add_argument("--most", type=int, help="take only so many events")
    parser.add_argument("--at-once", type=int, default=1, help="events at the same time, and slots")
    parser.add_argument("--threads", type=int, default=AUTOMATIC, help="of the model")
    parser.add_argument("--repeatable", action="store_true", help="as LARES_REASON_REPEATABLE=true")
    parser.add_argument(
        "--same-as", type=Path, help="count the answers that differ from those of another run"
    )
    return parser


if __name__ == "__main__":
    main()
