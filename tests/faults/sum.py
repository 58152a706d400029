"""`python -m tests.faults.sum LOGS...` adds up the logs of parts, for docs/reliability.md. The status is 1 if
a part has failed, or if a kind or a boundary was hit less often than --least."""

import argparse
import json
import sys
from pathlib import Path

from tests.faults.report import describe, missing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sum", description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--least", type=int, default=10)
    options = parser.parse_args()
    logs = [json.loads(path.read_text()) for path in options.logs]
    print(describe(logs))
    failed = [
        f"{path}: {line}" for path, log in zip(options.logs, logs, strict=True) for line in log["wrong"]
    ]
    too_few = [f"hit less than {options.least} times: {line}" for line in missing(logs, options.least)]
    if failed or too_few:
        sys.exit("\n".join([*failed, *too_few]))


if __name__ == "__main__":
    main()
