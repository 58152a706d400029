"""`make faults ROUNDS=N SEED=S` runs a cluster of Lares under faults, and compares what is left with a run of
one process without any. docs/reliability.md says what is done and why.

A part ends after --rounds rounds or --minutes minutes, and the same seed repeats it. Its log can be added up
with others by `python -m tests.faults.sum`. The status is 0 only if all faults fired and nothing is wrong.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cluster import Layout
from tests.faults.report import describe
from tests.faults.run import run_part


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of the part, each with a fault or two")
    parser.add_argument("--minutes", type=float, default=30.0, help="no round begins after so many")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the part with this seed")
    parser.add_argument("--replicas", type=int, default=2, help="processes of each service")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--blobs", choices=("s3", "file"), default="s3")
    parser.add_argument("--detector", choices=("stub", "triton"), default="stub")
    parser.add_argument("--reasoner", choices=("rules", "llama"), default="rules")
    parser.add_argument("--only", nargs="+", default=[], help="kinds of faults, or boundaries")
    parser.add_argument("--log", type=Path, help="file for the log of the part, as JSON")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    layout = Layout(options.replicas, options.brokers, options.blobs, options.detector, options.reasoner)
    folder = Path(tempfile.mkdtemp(prefix=f"lares-faults-{options.seed}-"))
    result = asyncio.run(
        run_part(options.seed, options.rounds, options.minutes, layout, folder, tuple(options.only))
    )
    if options.log:
        options.log.parent.mkdir(parents=True, exist_ok=True)
        options.log.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    print(describe([result.as_json()]))
    if result.wrong:
        sys.exit("\n".join([f"FAILED; logs are in {folder}:", *result.wrong]))
    print("PASSED")


if __name__ == "__main__":
    main()
