"""`make judge`: how well a reasoner's scores fit the labelled events.

make judge                                     rules/v2 on all three kinds of evidence
make judge ARGS="--reasoner rules/v1 --evidence own"
make judge ARGS="--folds 5 --attacks"
make judge ARGS="--address 127.0.0.1:50051 --key-file data/admin.key --out scores.json"
make judge ARGS="--against scores.json"        paired differences to that run
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from reason_svc.rules.v2.scoring import NAME
from tests.judge.assessing import RULES, Assess, RunningLares, by_rules, factors_by_rules, scores_of
from tests.judge.attacks import BOUNDED, NEVER, became_low
from tests.judge.context import EvidenceKind, evidence_message
from tests.judge.figures import FIGURES, Scores, change, interval, points
from tests.judge.folds import held_out
from tests.judge.labelled import DEV, MEDIUM, LabelledEvent, read_events

KINDS: Sequence[EvidenceKind] = get_args(EvidenceKind)


def main() -> None:
    options = arguments().parse_args()
    events = read_events(options.events)
    before = json.loads(options.against.read_text()) if options.against else {}
    found: dict[str, Scores] = {}
    with ExitStack() as stack:
        assess: Assess = by_rules(options.reasoner)
        if options.address:
            assess = stack.enter_context(RunningLares(options.address, options.key_file)).assess
        for kind in options.evidence:
            found[kind] = scores_of(events, kind, assess)
            by_folds = held_out(events, kind, options.folds) if options.folds else None
            _print_figures(kind, events, found[kind], by_folds, before.get(kind))
            if options.attacks:
                _print_attacks(kind, events, found[kind], assess)
            if options.list:
                _print_wrong(kind, events, found[kind])
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "make judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=_file, default=DEV, help="labelled events, as JSON lines")
    parser.add_argument("--evidence", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--reasoner", choices=RULES, default=NAME)
    parser.add_argument("--address", help="gRPC address of a running Lares, whose reasoner is taken instead")
    parser.add_argument("--key-file", type=Path, default=Path("data/admin.key"))
    parser.add_argument(
        "--folds", type=int, default=0, help="also fit rules/v2 without each of so many parts"
    )
    parser.add_argument("--attacks", action="store_true", help="also repeat each incident with one change")
    parser.add_argument("--list", action="store_true", help="also list the events on the wrong side")
    parser.add_argument("--out", type=Path, help="write the scores here")
    parser.add_argument("--against", type=_file, help="scores of another run of the same events")
    return parser


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _print_figures(
    kind: str,
    events: Sequence[LabelledEvent],
    scores: Scores,
    by_folds: Scores | None,
    before: Mapping[str, int | None] | None,
) -> None:
    benign = sum(event.benign for event in events)
    print(f"\n{kind}: {benign} benign events, {len(events) - benign} incidents")
    print(
        "  95 % intervals by scenario" + (", and figures of events left out of fitting" if by_folds else "")
    )
    for name, figure in FIGURES.items():
        line = (
            f"  {name:28} {_percent(figure(events, scores)):>6}  {_range(interval(events, scores, figure))}"
        )
        if by_folds:
            line += f"  left out {_percent(figure(events, by_folds)):>6}"
        if before:
            then = {event.id: before.get(event.id) for event in events}
            line += f"  before {_percent(figure(events, then)):>6}"
            line += f"  change {_range(change(events, scores, then, figure))}"
        print(line)


def _print_attacks(
    kind: EvidenceKind, events: Sequence[LabelledEvent], scores: Scores, assess: Assess
) -> None:
    incidents = [event for event in events if not event.benign]
    print(
        f"  {len(incidents)} incidents, one thing changed          HIGH or CRITICAL become LOW  below floor"
    )
    for attack in (*NEVER, *BOUNDED):
        attacked = scores_of(incidents, kind, assess, attack)
        below = [
            event for event in incidents if points(event, scores) >= event.floor > points(event, attacked)
        ]
        low = became_low(incidents, scores, attacked)
        print(f"    {attack.__name__.replace('_', ' '):40} {len(low):29} {len(below):17}")


def _print_wrong(kind: EvidenceKind, events: Sequence[LabelledEvent], scores: Scores) -> None:
    for event in events:
        score = points(event, scores)
        if score >= MEDIUM if event.benign else score < event.floor:
            factors = factors_by_rules(evidence_message(event.item, kind)).factors
            reasons = ", ".join(f"{factor.name} {factor.points:+}" for factor in factors if factor.points)
            print(f"    {event.id:32} floor {event.floor:3}  score {score:3}  by rules/v2: {reasons}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _range(found: tuple[float, float] | None) -> str:
    return "[too few]" if found is None else f"[{100 * found[0]:.1f}..{100 * found[1]:.1f}]".rjust(15)


if __name__ == "__main__":
    main()
