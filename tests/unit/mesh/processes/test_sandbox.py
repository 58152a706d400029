"""The sandbox: what its children may do, and what happens when one crashes or hangs."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.problems import Exhausted, Internal, Invalid, Unavailable
from mesh.processes.child_process import ChildProcess
from mesh.processes.sandbox import (
    MAIN,
    MAX_TEXT_LENGTH,
    Crashed,
    Hung,
    Sandbox,
    _ChildEnded,
    take_response,
)
from mesh.processes.sandbox_child import ALARM_GRACE_SECONDS, SIZES, pack
from tests.support.waiting import until

TARGETS = "tests.support.sandboxed"
OBEY = f"{TARGETS}:obey"
VALUES = some.binary() | some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.text()
    | some.just("__bytes__")
    | some.floats(allow_nan=False),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner) | some.lists(some.binary()),
)

PARENT = """
import asyncio, os, sys
from mesh.processes.sandbox import Sandbox

async def main():
    async with Sandbox("tests.support.sandboxed:obey", size=2, seconds=600) as sandbox:
        call = asyncio.create_task(sandbox.run(sys.argv[1]))
        while not os.path.exists(sys.argv[1].partition("@")[2]):
            await asyncio.sleep(0.01)
        print(*sandbox.pids, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_arguments_and_results_cross_unchanged() -> None:
    async with Sandbox(f"{TARGETS}:echo") as sandbox:
        photo = os.urandom(3_000_000)
        assert await sandbox.run(photo, "ü", 1.5, None, [b"", {"a": b"b"}]) == [
            photo, "ü", 1.5, None, [b"", {"a": b"b"}]
        ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"b", b"\0" * 3_000_000], ids=len)
async def test_bytes_are_a_result(content: bytes) -> None:
    async with Sandbox(f"{TARGETS}:first_of") as sandbox:
        assert await sandbox.run(content) == content
        assert await sandbox.run("__bytes__") == "__bytes__"


@given(some.lists(VALUES), some.data())
def test_responses_are_taken_however_they_arrive(values: list[object], data: some.DataObject) -> None:
    stream = b"".join(pack(value if isinstance(value, bytes) else {"result": value}) for value in values)
    received, taken = bytearray(), []
    while stream:
        size = data.draw(some.integers(1, len(stream)))
        received += stream[:size]
        stream = stream[size:]
        while (response := take_response(received)) is not None:
            taken.append(response if isinstance(response, bytes) else response["result"])
    assert taken == values
    assert not received


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pack("text"), "not a response"),
        (pack([1]), "not a response"),
        (SIZES.pack(4, 0) + b"nope", "Expecting value"),
        (SIZES.pack(2**31, 2**31), "too large"),
    ],
)
def test_what_is_not_a_response_is_an_error(frame: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        take_response(bytearray(frame))


async def test_setup_is_called_once_in_each_child() -> None:
    async with Sandbox(f"{TARGETS}:counter", setup=[40]) as sandbox:
        assert [await sandbox.run() for _ in range(3)] == [41, 42, 43]


async def test_a_child_runs_its_calls_in_order_and_all_children_work() -> None:
    async with Sandbox(f"{TARGETS}:counter", setup=[0], size=2, depth=3) as sandbox:
        counts = await asyncio.gather(*(sandbox.run() for _ in range(6)))
    assert sorted(counts) == [1, 1, 2, 2, 3, 3]


async def test_a_refusal_is_invalid_with_its_reason_and_any_other_exception_is_internal() -> None:
    async with Sandbox(OBEY) as sandbox:
        with pytest.raises(Invalid, match="this is no order") as refused:
            await sandbox.run("refuse")
        assert refused.value.reason == "NO_ORDER"
        with pytest.raises(Internal, match="RuntimeError: a bug"):
            await sandbox.run("fail")
        with pytest.raises(Invalid, match=r"^cannot obey$"):  # without the object's address
            await sandbox.run("refuse an object")
        with pytest.raises(Internal, match=r"ValueError: cannot read$"):
            await sandbox.run("fail on an object")
        assert await sandbox.run("go on") == "go on"


async def test_what_a_child_says_of_a_failure_is_short() -> None:
    """It goes into logs and messages, and the child may be under foreign control."""
    async with Sandbox(OBEY) as sandbox:
        with pytest.raises(Invalid) as refused:
            await sandbox.run("refuse at length")
        assert refused.value.reason == "NO_ORDER"
        assert len(refused.value.message) == MAX_TEXT_LENGTH
        for order in ("refuse for no reason", "fail at length"):
            with pytest.raises(Internal) as failed:
                await sandbox.run(order)
            assert failed.value.reason == "CHILD_FAILED"
            assert len(failed.value.message) <= MAX_TEXT_LENGTH


@pytest.mark.parametrize("deed", ["crash", "read address zero", "speak nonsense"])
async def test_only_the_input_that_kills_its_child_is_blamed(deed: str) -> None:
    async with Sandbox(OBEY, depth=4) as sandbox:
        orders = ["a", deed, "b", "c"]
        outcomes = await asyncio.gather(*map(sandbox.run, orders), return_exceptions=True)
        assert isinstance(outcomes[1], Crashed)
        assert [outcomes[i] for i in (0, 2, 3)] == ["a", "b", "c"]
        assert await sandbox.run("later") == "later"


async def test_a_child_killed_from_outside_blames_nobody() -> None:
    async with Sandbox(f"{TARGETS}:pid_and_settings") as sandbox:
        before = (await sandbox.run())["pid"]
        os.kill(before, signal.SIGSTOP)
        asked = asyncio.create_task(sandbox.run())
        await asyncio.sleep(0)
        os.kill(before, signal.SIGKILL)
        assert (await asked)["pid"] != before


async def test_a_child_that_has_died_is_replaced_before_the_next_call() -> None:
    async with Sandbox(OBEY, size=2) as sandbox:
        before = set(sandbox.pids)
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: len(sandbox.pids) == 2 and set(sandbox.pids) != before)
        assert max(before) in sandbox.pids


@pytest.mark.parametrize("deed", ["hang", "hold the interpreter"])
async def test_a_hung_child_is_killed(deed: str) -> None:
    async with Sandbox(OBEY, seconds=0.3) as sandbox:
        (pid,) = sandbox.pids
        with pytest.raises(Hung) as hung:
            await sandbox.run(deed)
        assert hung.value.retryable
        await until(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize("deed", ["hang", "hold the interpreter"])
async def test_of_a_hung_child_the_others_calls_go_on(deed: str, tmp_path: Path) -> None:
    async with Sandbox(OBEY, depth=3, seconds=90) as sandbox:
        (pid,) = sandbox.pids
        orders = ["a", f"{deed}@{tmp_path / 'begun'}", "b"]
        asked = [asyncio.create_task(sandbox.run(order)) for order in orders]
        await until((tmp_path / "begun").exists)
        assert await asked[0] == "a"
        expire(sandbox)
        with pytest.raises(Hung):
            await asked[1]
        assert await asked[2] == "b"
        await until(lambda: not psutil.pid_exists(pid))


async def test_the_deadline_of_a_call_begins_when_the_one_before_it_has_ended(tmp_path: Path) -> None:
    """One alarm serves many calls: that it goes off does not mean that the oldest call has expired."""
    async with Sandbox(OBEY, depth=2, seconds=90) as sandbox:
        child = sandbox._slots[0].child
        assert child
        os.kill(child.pid, signal.SIGSTOP)
        orders = ["a", f"hang@{tmp_path / 'begun'}"]
        calls = [asyncio.create_task(sandbox.run(order)) for order in orders]
        await until(lambda: len(child._pending) == 2)
        alarm = child._alarm
        child._oldest_since -= 89
        os.kill(child.pid, signal.SIGCONT)
        assert await calls[0] == "a"
        await until((tmp_path / "begun").exists)
        assert child._alarm is alarm
        child._oldest_since -= 2  # 91 s after the first call's beginning
        child._check_deadline()
        assert child.alive
        assert child._alarm not in (alarm, None)
        expire(sandbox)
        with pytest.raises(Hung):
            await calls[1]


def expire(sandbox: Sandbox) -> None:
    """Expires the oldest call. A deadline that is short enough to wait for would expire later calls, too."""
    child = sandbox._slots[0].child
    assert child
    child._oldest_since -= child.seconds
    child._check_deadline()


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Sandbox(f"{TARGETS}:echo", depth=2, seconds=90) as sandbox:
        (pid,) = sandbox.pids
        kill = ChildProcess.kill
        # Without this the child is killed before it can send the late result.
        monkeypatch.setattr(
            ChildProcess, "kill", lambda process: None if process.pid == pid else kill(process)
        )
        os.kill(pid, signal.SIGSTOP)
        asked = [asyncio.create_task(sandbox.run(word)) for word in ("late", "next")]
        await until(lambda: len(sandbox._slots[0].child._pending) == 2)  # type: ignore[union-attr]
        expire(sandbox)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(Hung):
            await asked[0]
        assert await asked[1] == ["next"]


async def test_too_much_memory_is_an_error_not_the_end_of_the_host() -> None:
    async with Sandbox(OBEY) as sandbox:
        with pytest.raises(Internal, match="MemoryError"):
            await sandbox.run("devour")


async def test_what_libraries_print_does_not_disturb_the_answers() -> None:
    async with Sandbox(OBEY) as sandbox:
        assert [await sandbox.run("print") for _ in range(3)] == ["print"] * 3


async def test_a_child_sees_no_settings_and_writes_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LARES_DATABASE_URL", "postgresql://lares:secret@db/lares")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with Sandbox(f"{TARGETS}:pid_and_settings") as sandbox:
        assert (await sandbox.run())["settings"] == []
    async with Sandbox(f"{TARGETS}:write_file") as sandbox:
        with pytest.raises(Internal, match="OSError"):
            await sandbox.run(str(tmp_path / "file"))


async def test_children_write_to_their_output_up_to_its_bound(tmp_path: Path) -> None:
    most = 100 * 2**20  # more than fits into a response
    with (tmp_path / "output").open("w+b") as file:
        options = {"output": file.fileno(), "output_bytes": most}
        async with Sandbox(f"{TARGETS}:write_output", **options) as sandbox:  # type: ignore[arg-type]
            assert await sandbox.run(file.fileno(), most) == most
            assert os.fstat(file.fileno()).st_size == most
            assert await sandbox.run(file.fileno(), most + 1) == most  # as much as fits


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can deny a process files")
async def test_children_with_an_output_write_to_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"as it was")
    with (tmp_path / "output").open("w+b") as file:
        options = {"output": file.fileno(), "output_bytes": 2**20}
        async with Sandbox(f"{TARGETS}:write_elsewhere", **options) as sandbox:  # type: ignore[arg-type]
            outcome = await sandbox.run(str(tmp_path), file.fileno())
    assert set(outcome.values()) == {"EPERM"}, outcome
    assert (tmp_path / "there").read_bytes() == b"as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "there"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can deny a process files")
async def test_children_remove_no_files(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"as it was")
    async with Sandbox(f"{TARGETS}:remove") as sandbox:
        outcome = await sandbox.run(str(tmp_path / "there"))
    assert set(outcome.values()) == {"EPERM"}, outcome
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


async def test_progress_arrives_before_the_result() -> None:
    async with Sandbox(f"{TARGETS}:progressing") as sandbox:
        told: list[float] = []
        assert await sandbox.run(0, 0.5, 1, on_progress=told.append) == [0, 0.5, 1]
        assert told == [0, 0.5, 1]
        assert await sandbox.run() == []


@pytest.mark.parametrize("share", [1.5, -1, "half", None, float("nan")], ids=str)
async def test_progress_that_is_none_is_not_passed_on(share: object) -> None:
    async with Sandbox(f"{TARGETS}:progressing") as sandbox:
        with pytest.raises(Crashed):
            await sandbox.run(share, on_progress=lambda _: pytest.fail("told"))


async def test_a_generator_fails_like_a_function() -> None:
    async with Sandbox(f"{TARGETS}:progressing_then", seconds=0.5) as sandbox:
        with pytest.raises(Invalid, match="this is no order"):
            await sandbox.run("refuse")
        with pytest.raises(Crashed):
            await sandbox.run("crash")
        assert await sandbox.run("go on") == "go on"
        with pytest.raises(Hung):  # progress does not extend the deadline
            await sandbox.run("hang")


async def test_a_child_has_so_much_processor_time() -> None:
    async with Sandbox(f"{TARGETS}:burn", cpu_seconds=1, seconds=300) as sandbox:
        with pytest.raises(Crashed):
            await sandbox.run()


async def test_a_child_gets_no_new_privileges() -> None:
    """A process that is not root cannot restrict itself otherwise."""
    async with Sandbox(f"{TARGETS}:status_of_process") as sandbox:
        assert "NoNewPrivs:\t0\n" not in await sandbox.run()


async def test_a_target_that_does_not_load_says_why() -> None:
    with pytest.raises(Internal, match="no such weights"):
        async with Sandbox(f"{TARGETS}:broken_setup", setup=["x"], size=2):
            pass


async def test_a_child_that_does_not_start_in_time_is_unavailable() -> None:
    with pytest.raises(Unavailable) as problem:
        async with Sandbox(OBEY, start_seconds=0.001):
            pass
    assert problem.value.reason == "CHILD_NOT_STARTED"


async def test_the_queue_is_bounded() -> None:
    async with Sandbox(OBEY, waiting=1, seconds=60) as sandbox:
        calls = [asyncio.create_task(sandbox.run("hang")) for _ in range(2)]
        await until(lambda: sandbox._waiting == 1)
        with pytest.raises(Exhausted):
            await sandbox.run("one too many")
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_caller_that_leaves_does_not_free_the_child_it_occupies() -> None:
    async with Sandbox(f"{TARGETS}:pid_and_settings", waiting=0) as sandbox:
        (pid,) = sandbox.pids
        os.kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(sandbox.run())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        with pytest.raises(Exhausted):
            await sandbox.run()
        os.kill(pid, signal.SIGCONT)
        await until(lambda: not sandbox._capacity.locked())
        assert (await sandbox.run())["pid"] == pid


@pytest.mark.parametrize("outcome", [{"result": 7}, _ChildEnded()], ids=["answered", "ended"])
@pytest.mark.parametrize("leaves", ["before", "after", "never"])
async def test_a_place_is_given_back_once_whoever_is_first(outcome: object, leaves: str) -> None:
    """The caller leaves just before or after its call ends."""
    async with Sandbox(OBEY, size=1, depth=2, seconds=90) as sandbox:
        child = sandbox._slots[0].child
        assert child
        os.kill(child.pid, signal.SIGSTOP)
        caller = asyncio.create_task(sandbox.run("call"))
        await until(lambda: len(child._pending) == 1)
        assert (sandbox._capacity._value, sandbox._slots[0].calls) == (1, 1)
        if leaves == "before":
            caller.cancel()
        child._pending.popleft().end(outcome)
        if leaves == "after":
            caller.cancel()
        child._process.kill()
        if leaves == "never":
            assert await caller == ("call" if isinstance(outcome, _ChildEnded) else 7)
        else:
            with pytest.raises(asyncio.CancelledError):
                await caller
        assert (sandbox._capacity._value, sandbox._slots[0].calls) == (2, 0)
        assert await sandbox.run("later") == "later"


async def test_idle_children_start_with_the_first_call_and_end() -> None:
    async with Sandbox(f"{TARGETS}:pid_and_settings", idle_seconds=0.05) as sandbox:
        assert sandbox.pids == []
        first = (await sandbox.run())["pid"]
        await until(lambda: not psutil.pid_exists(first))
        assert (await sandbox.run())["pid"] != first


async def test_leaving_the_block_ends_the_children_and_the_calls() -> None:
    async with Sandbox(OBEY, size=2, seconds=60) as sandbox:
        pids = sandbox.pids
        call = asyncio.create_task(sandbox.run("hang"))
        await asyncio.sleep(0)
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))
    await asyncio.wait([call], timeout=90)
    assert call.cancelled()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


async def test_leaving_the_block_ends_a_child_that_is_being_started() -> None:
    before = children()
    async with Sandbox(OBEY, idle_seconds=60) as sandbox:
        call = asyncio.create_task(sandbox.run("go on"))
        await until(lambda: bool(children() - before))
        waiting = asyncio.create_task(sandbox.run("go on"))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(call, waiting, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert isinstance(outcomes[1], Unavailable)
    await until(lambda: children() <= before)


async def test_leaving_the_block_ends_a_child_that_repeats_a_call() -> None:
    before = children()
    async with Sandbox(OBEY, seconds=60) as sandbox:
        (pid,) = sandbox.pids
        call = asyncio.create_task(sandbox.run("hang"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: bool(sandbox._reruns) and len(children() - before) > len(sandbox.pids))
    with pytest.raises(asyncio.CancelledError):
        await call
    assert children() <= before


@pytest.mark.parametrize("deed", ["hang", "hold the interpreter"])
async def test_a_child_that_nobody_kills_ends_by_its_own_alarm(deed: str) -> None:
    """The alarm ends a hung child on systems that do not signal the end of its parent."""
    seconds = 0.3 - ALARM_GRACE_SECONDS
    order = {"target": OBEY, "setup": None, "memory_bytes": 1 << 31, "nice": 0, "seconds": seconds}
    order |= {"cpu_seconds": None, "output_bytes": 0}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MAIN,
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert child.stdin
    child.stdin.write(pack(order) + pack([deed]))
    assert await asyncio.wait_for(child.wait(), 90) == -signal.SIGALRM


@pytest.mark.parametrize("deed", ["rest", "hang", "hold the interpreter"])
async def test_a_parent_killed_by_9_leaves_no_child(deed: str, tmp_path: Path) -> None:
    order = f"{deed}@{tmp_path / 'begun'}"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, order, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    pids = [int(pid) for pid in (await asyncio.wait_for(parent.stdout.readline(), 90)).split()]
    assert len(pids) == 2
    assert all(map(psutil.pid_exists, pids))
    parent.kill()
    await parent.wait()
    await until(lambda: not any(map(_runs, pids)))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
