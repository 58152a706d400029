"""`make bench`: measures speeds and prints each beside the limit that it should keep, from the same run."""

import argparse
import asyncio
import importlib
import sys
import tempfile
from pathlib import Path

MEASURES = (
    "pipeline",
    "latency",
    "store",
    "events",
    "subscriptions",
    "start",
    "triton",
    "in_flight",
    "prompts",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help=f"one of {', '.join(MEASURES)}; all by default"
    )
    chosen = parser.parse_args().measures or MEASURES
    if unknown := set(chosen) - set(MEASURES):
        sys.exit(f"no such measure: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="lares-bench-") as folder:
        for name in chosen:
            module = importlib.import_module(f"tests.bench.{name}")
            for row in asyncio.run(module.measure(Path(folder))):
                print(row, flush=True)


if __name__ == "__main__":
    main()
