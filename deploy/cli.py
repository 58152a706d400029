"""The command line of `lares`."""

import argparse
import asyncio
import gc
import re
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from mesh.config import Config, is_password, load_config, setting
from mesh.permissions import OF_A_KEY, Permission, short_name
from mesh.problems import Problem
from mesh.setting_values import as_text
from mesh.telemetry.logs import configure_logging
from mesh.telemetry.redaction import redacted_url
from mesh.tls.files import own_authority
from mesh.visible_text import visible

T = TypeVar("T")

GRANTABLE = {short_name(permission): permission for permission in sorted(OF_A_KEY)}

BANNER = """
Lares is ready.

  GraphQL     {http}/graphql
  gRPC        {grpc}
  Kafka       {kafka}
  cameras     {cameras}
  API key     {key}
{trust}
Next: copy a photo or a clip into {cameras}/front-door/, or run `make demo` in another terminal.
Stop with Ctrl-C.
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs one command. Exits with status 0, 1 (a problem, printed to standard error) or 2 (wrong usage,
    differences that `lares topics` found, or contents that a backup lacks)."""
    options = parser().parse_args(arguments)
    try:
        config = load_config(**({"home": options.home} if options.home else {}))
        configure_logging(config.log_format, config.log_level)
        options.run(config, options)
    except Problem as problem:
        sys.exit(f"lares: {visible(problem.message, keep_lines=True)}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lares", description="Home-security intelligence.")
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument("--home", type=Path, help="folder in which Lares keeps its data (LARES_HOME)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[home], help="run Lares until Ctrl-C")
    up.add_argument(
        "--target", action="append", default=[], help="a service to run, repeatable; all of them by default"
    )
    up.set_defaults(run=lambda config, options: _run(_up(config, options.target)))

    config = commands.add_parser("config", parents=[home], help="print the settings, with secrets hidden")
    config.set_defaults(run=lambda config, _: print_config(config))

    migrate = commands.add_parser(
        "migrate", parents=[home], help="bring the schema of LARES_DATABASE_URL up to date (docs/deploy.md)"
    )
    migrate.add_argument(
        "action",
        nargs="?",
        choices=["plan", "apply", "contract", "restored"],
        default="apply",
        help="`plan` only prints what would be done; `contract` also applies what stores of the version"
        " before cannot work with; `restored` also makes a restored database fit for use (apply)",
    )
    migrate.add_argument(
        "--new-topics", action="store_true", help="with `restored`: Kafka has new topics, or is a new one"
    )
    migrate.add_argument(
        "--wait", type=_seconds, default=60.0, metavar="SECONDS", help="for the database to answer (60)"
    )
    migrate.set_defaults(run=_migrate)

    backup = commands.add_parser(
        "backup", parents=[home], help="add a backup of a home to a folder, also while Lares runs"
    )
    backup.add_argument(
        "folder", type=Path, help="folder of backups; contents that it has are not copied again"
    )
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", parents=[home], help="make a home from a backup")
    restore.add_argument("folder", type=Path, help="folder of backups")
    restore.add_argument("--backup", default="", metavar="NAME", help="which one; by default the newest")
    restore.set_defaults(run=_restore)

    demo = commands.add_parser(
        "demo", parents=[home], help="put sample photos and a clip into folders of a running Lares"
    )
    demo.add_argument("--camera", default="demo", help="name of the camera's folder (demo)")
    demo.set_defaults(run=_demo)

    keys = commands.add_parser("keys", help="manage the API keys of a running Lares").add_subparsers(
        required=True
    )
    create = keys.add_parser(
        "create", parents=[home], help="create a key and print it; it is not shown again"
    )
    create.add_argument("name")
    create.add_argument(
        "--permission",
        action="append",
        default=[],
        type=_permission,
        dest="permissions",
        metavar="NAME",
        help=f"what the key may do, repeatable: {', '.join(GRANTABLE)}; everything by default",
    )
    create.add_argument(
        "--camera",
        default="",
        metavar="ID",
        help="make a key by which media of this camera can be uploaded, and nothing else",
    )
    keys.add_parser("list", parents=[home], help="list the keys").set_defaults(key=None)
    revoke = keys.add_parser("revoke", parents=[home], help="revoke a key")
    revoke.add_argument("id")
    for command, action in ((create, "create"), (keys.choices["list"], "list"), (revoke, "revoke")):
        command.set_defaults(run=_keys, action=action)
    _add_topics(commands.add_parser("topics", help="compare or create the topics of a Kafka of your own"))
    cameras = commands.add_parser("cameras", help="let the cameras of a running Lares send media")
    ftp = cameras.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "ftp-account",
        parents=[home],
        help="make an FTP account of a camera and print its password; it is not shown again",
    )
    ftp.add_argument("camera", help="the camera's id; it need not exist yet")
    ftp.set_defaults(run=lambda config, options: _run(_ftp_account(config, options.camera)))
    _add_certificates(
        commands.add_parser(
            "certificates",
            parents=[home],
            help="make a CA and a certificate for each service of a cluster, or renew them (docs/deploy.md)",
        )
    )
    comparing = commands.add_parser(
        "judge",
        parents=[home],
        help="assess stored events of a running Lares again and print what would change",
    )
    comparing.add_argument("--events", nargs="+", default=[], metavar="ID", help="these events")
    comparing.add_argument(
        "--last", type=_events, default=50, help="otherwise the newest assessed events (50)"
    )
    comparing.add_argument("--model", default="", help="a model, or a version of the rules")
    comparing.add_argument("--prompt", default="", help="a version of the prompt")
    comparing.add_argument("--apply", action="store_true", help="reassess the events whose severity changes")
    comparing.add_argument(
        "--export", type=Path, metavar="FILE", help="instead, write the events that have feedback to a file"
    )
    comparing.set_defaults(run=_compare)
    _add_model(commands.add_parser("model", help="export or check the detector's model"))
    return top


def _add_certificates(certificates: argparse.ArgumentParser) -> None:
    certificates.add_argument("folder", type=Path, help="folder for the CA and a folder for each service")
    certificates.add_argument("targets", nargs="*", metavar="TARGET", help="services; all of them by default")
    certificates.add_argument(
        "--name", action="append", default=[], dest="names", help="one more name or IP address, repeatable"
    )
    certificates.add_argument("--namespace", default="", help="namespace of the services in Kubernetes")
    certificates.add_argument(
        "--days", type=_days, default=365, help="for how long new certificates are valid (365)"
    )
    certificates.set_defaults(run=_certificates)


def _add_topics(topics: argparse.ArgumentParser) -> None:
    commands = topics.add_subparsers(required=True, metavar="COMMAND")
    plan = commands.add_parser(
        "plan", help="print what is not as it should be; the exit status is 2 if anything is"
    )
    plan.set_defaults(run=lambda config, _: _topics(config, apply=False), home=None)
    apply = commands.add_parser("apply", help="create missing topics and set retention and clean-up policy")
    apply.set_defaults(run=lambda config, _: _topics(config, apply=True), home=None)


def _add_model(model: argparse.ArgumentParser) -> None:
    commands = model.add_subparsers(required=True, metavar="COMMAND")
    export = commands.add_parser(
        "export", help="export a trained RT-DETRv2 as a Triton model repository (docs/models.md)"
    )
    export.add_argument("--from", dest="source", required=True, help="a folder, or a model's id on the hub")
    export.add_argument("--out", required=True, help="folder to create for the model repository")
    export.add_argument(
        "--name", default="", help="the model's name; by default from its backbone or its folder"
    )
    export.set_defaults(run=_export, home=None)

    check = commands.add_parser("check", help="send a photo to a detector and print boxes and timings")
    check.add_argument("--url", help="URL of the detector (LARES_DETECTOR_URL by default)")
    check.add_argument("--photo", type=Path, help="a JPEG or PNG; by default a sample photo")
    check.add_argument("--calls", type=_calls, default=21, help="number of times that the photo is sent (21)")
    check.set_defaults(run=_check, home=None)


def _calls(text: str) -> int:
    calls = int(text)
    if not 1 <= calls <= 10_000:
        raise argparse.ArgumentTypeError("1 to 10000")
    return calls


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("0 to 86400")
    return seconds


def _events(text: str) -> int:
    events = int(text)
    if not 1 <= events <= 10_000:
        raise argparse.ArgumentTypeError("1 to 10000")
    return events


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 825:
        raise argparse.ArgumentTypeError("1 to 825, which is what browsers accept")
    return days


def _permission(text: str) -> Permission:
    permission = GRANTABLE.get(text.upper().replace("-", "_"))
    if permission is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(GRANTABLE)}")
    return permission


def print_config(config: Config) -> None:
    """Prints one setting per line, in the format of `.env`, with secrets hidden; the file of a setting that
    is given by one."""
    for name in type(config).model_fields:
        if file := config.files.get(name):
            print(f"{setting(name)}_FILE={_quoted(str(file))}")
            continue
        value = as_text(getattr(config, name))
        shown = "***" if value and is_password(name) else redacted_url(value)
        print(f"{setting(name)}={_quoted(shown)}")


def _quoted(text: str) -> str:
    """Quotes a value if it contains characters that are special in `.env`."""
    if not re.search(r"[\s#'\"\\]", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def _up(config: Config, targets: list[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        # Before Lares is ready nobody waits for `stop`, so the start itself is cancelled.
        if stop.is_set() or not ready:
            task.cancel()
        stop.set()

    ready = False
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, interrupt)
    # Imports create a million permanent objects; the collector's passes over them take a fifth of the start.
    gc.disable()
    from deploy.targets import open_lares

    async with open_lares(config, targets) as mesh:
        ready = True
        gc.freeze()
        gc.enable()
        print(banner(config, mesh.addresses), flush=True)
        ends: list[asyncio.Future[Any]] = [asyncio.create_task(stop.wait()), mesh.failure]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[0].cancel()
        if mesh.failure.done():
            mesh.failure.result()


def banner(config: Config, addresses: dict[str, str]) -> str:
    authority = own_authority(config)
    return BANNER.format(
        http=addresses.get("gateway", "(not in this process)"),
        grpc=addresses["grpc"],
        kafka=addresses.get("kafka", config.bus_url.rpartition("@")[2].partition("?")[0]),
        cameras=config.cameras_folder,
        key=config.home / "admin.key",
        trust=f"  CA          {authority} (for browsers and programs to trust)\n" if authority else "",
    )


def _topics(config: Config, *, apply: bool) -> None:
    from deploy.topics import apply_topics, plan_topics

    if _run(apply_topics(config) if apply else plan_topics(config)):
        sys.exit(2)


def _migrate(config: Config, options: argparse.Namespace) -> None:
    _require_store()
    from deploy.migrate import run

    _run(run(config, options.action, options.wait, new_topics=options.new_topics))


def _require_store() -> None:
    """Raises Unavailable NOT_INSTALLED where packages of store_svc are missing."""
    from deploy.targets import TARGETS

    TARGETS["store"].load()


def _backup(config: Config, options: argparse.Namespace) -> None:
    from deploy.backup import back_up

    _report(_run(back_up(config, options.folder)))


def _restore(config: Config, options: argparse.Namespace) -> None:
    _require_store()
    from deploy.restore import restore

    _report(_run(restore(config, options.folder, options.backup)))


def _report(missing: Sequence[str]) -> None:
    """Exits with 2 if contents are missing, and names them."""
    if missing:
        lines = "\n".join(missing)
        print(f"without {len(missing)} contents that are damaged or missing:\n{lines}", file=sys.stderr)
        sys.exit(2)


def _demo(config: Config, options: argparse.Namespace) -> None:
    from deploy.demo import show

    _run(show(config, options.camera))


def _certificates(config: Config, options: argparse.Namespace) -> None:
    from deploy.certificates import issue_certificates

    issue_certificates(
        config, options.folder, options.targets, options.names, options.namespace, options.days
    )


def _compare(config: Config, options: argparse.Namespace) -> None:
    from deploy.comparison import Choice, compare, export

    if options.export:
        _run(export(config, options.export))
    else:
        choice = Choice(options.events, options.last, options.model, options.prompt)
        _run(compare(config, choice, options.apply))


def _export(config: Config, options: argparse.Namespace) -> None:
    from deploy.model.environment import export

    name = ["--name", options.name] if options.name else []
    export(["--from", options.source, "--out", options.out, *name], config.export_python)


def _check(config: Config, options: argparse.Namespace) -> None:
    from deploy.model.check import check

    if options.url:  # the configured token is for the configured server
        config = load_config(detector_url=options.url, detector_token="")
    _run(check(config, options.photo, options.calls))


def _keys(config: Config, options: argparse.Namespace) -> None:
    from deploy import keys

    actions = {
        "create": lambda: _create_key(config, options),
        "list": lambda: keys.print_all(config),
        "revoke": lambda: keys.revoke(config, options.id),
    }
    _run(actions[options.action]())


async def _create_key(config: Config, options: argparse.Namespace) -> None:
    from deploy import keys

    print(await keys.create(config, options.name, options.permissions, options.camera))


async def _ftp_account(config: Config, camera_id: str) -> None:
    from deploy.camera_accounts import print_ftp_account

    await print_ftp_account(config, camera_id)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work)
        except asyncio.CancelledError:
            sys.exit(130)
