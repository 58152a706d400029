"""The `lares` command, also `python -m deploy`."""

import os


def main() -> None:
    # gRPC reads these when it is imported. Our children exec at once: it need not prepare for forks.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from deploy.cli import main as run

    run()


if __name__ == "__main__":
    main()
