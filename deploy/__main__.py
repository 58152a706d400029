"""The `lares` command, also `python -m deploy`."""

import os
import sys


def main() -> None:
    # gRPC reads these when it is imported. Our children exec at once: it need not prepare for forks.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from deploy.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
