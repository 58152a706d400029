"""`make bench`: measures speeds beside peers and limits in the same run, and beside an earlier commit.

Rows are printed as soon as they are complete; single figures go to standard error. CONTRIBUTING.md says how
to read them.
"""

import argparse
import asyncio
import importlib
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import structlog

from tests.bench.measure import HEADER, NOTE
from tests.bench.trees import BEFORE, Bench, checkouts

# Each measure with its module. Those of one module share their runs.
MEASURES = {
    "photos": "tree_cpu",
    "hello": "tree_cpu",
    "events": "tree_cpu",
    "idle": "tree_cpu",
    "pipeline": "pipeline",
    "store": "store",
    "latency": "latency",
    "backlog": "latency",
    "subscriptions": "subscriptions",
    "start": "start",
    "triton": "triton",
    "in_flight": "in_flight",
    "prompts": "prompts",
    "rules": "rules",
    "clips": "clips",
    "tls": "tls",
    "replicas": "replicas",
    "partitions": "partitions",
    "drain": "drain",
    "cameras": "cameras",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help=f"one of {', '.join(MEASURES)}; all by default"
    )
    parser.add_argument(
        "--before",
        default=BEFORE,
        metavar="REVISION",
        help=f"the commit to compare with, by default {BEFORE}, of before the work on speed; '' for none",
    )
    parser.add_argument(
        "--pairs", type=int, default=6, help="runs of each tree; 6 are enough for an interval"
    )
    parser.add_argument(
        "--photos", type=int, default=Bench.photos, help=f"how many `drain` has, by default {Bench.photos}"
    )
    options = parser.parse_args()
    wanted = frozenset(options.measures or MEASURES)
    if unknown := wanted - MEASURES.keys():
        sys.exit(f"no such measure: {', '.join(sorted(unknown))}")
    # Standard output has the table only.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    began, failed = time.monotonic(), list[str]()
    with checkouts(options.before) as trees, tempfile.TemporaryDirectory(prefix="lares-bench-") as folder:
        print(NOTE, HEADER, sep="\n", flush=True)
        for name in dict.fromkeys(module for measure, module in MEASURES.items() if measure in wanted):
            module = importlib.import_module(f"tests.bench.{name}")
            own = Path(folder) / name
            own.mkdir()
            wish = Bench(own, trees, options.pairs, wanted, options.photos)
            try:
                for row in asyncio.run(module.measure(wish)):
                    print(row, flush=True)
            except Exception:
                traceback.print_exc()
                failed.append(name)
            shutil.rmtree(own, ignore_errors=True)
    print(f"took {(time.monotonic() - began) / 60:.0f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
