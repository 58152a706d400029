"""The `lares` command, also `python -m deploy`."""

import os
import signal
import sys


def main() -> None:
    # gRPC reads these when it is imported. It need not support forks: children of Lares call exec at once.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Nothing needs an orderly end during imports, and some imported code swallows KeyboardInterrupt.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    if sys.argv[1:2] == ["probe"]:  # before anything is imported that takes long
        from deploy import probe

        sys.exit(probe.main(sys.argv[2:]))
    try:
        from deploy.cli import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
