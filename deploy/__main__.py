"""The `lares` command, also `python -m deploy`."""

import os
import signal
import sys


def main() -> None:
    # gRPC reads these when it is imported. Our children exec at once: it need not prepare for forks.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # While code is read nothing is there to be ended in order, and some of that code swallows an interrupt.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        from deploy.cli import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
