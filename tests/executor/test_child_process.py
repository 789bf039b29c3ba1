"""Foreign code in a killable process: whatever it does, the caller soon has a result or a typed failure."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from patience import at_some_pace

from executor.child_pool import ChildPool
from executor.child_process import ToolFailed, ToolFailureCode
from executor.engines.port import Failure, FailureClass

MEBIBYTE = 1024 * 1024
#: For calls that are to be done or to fail by themselves, on a machine that may stall.
PATIENT_S = 60.0


@pytest.fixture(autouse=True)
def importable_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
    async with ChildPool(2, memory_bytes=512 * MEBIBYTE) as pool:
        yield pool


async def failure_of(call: Awaitable[object]) -> Failure:
    with pytest.raises(ToolFailed) as caught:
        await call
    return caught.value.failure


async def works(pool: ChildPool) -> bool:
    return await pool.run("isolated_tools:add", {"left": 1, "right": 2}, timeout_s=PATIENT_S) == 3


async def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")


async def test_a_call_returns_its_json_result(pool: ChildPool) -> None:
    assert await works(pool)
    assert await pool.run("isolated_tools:double", {"number": 4}, timeout_s=PATIENT_S) == 8


async def test_a_worker_is_used_again(pool: ChildPool) -> None:
    pids = [await pool.run("isolated_tools:whoami", {}, timeout_s=PATIENT_S) for _ in range(5)]
    assert len(set(pids)) == 1


async def test_what_a_tool_prints_goes_nowhere(pool: ChildPool) -> None:
    assert await pool.run("isolated_tools:chatter", {"text": "noise"}, timeout_s=PATIENT_S) == "noise"
    assert await works(pool)


async def test_workers_see_no_secrets_of_ours(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALO_API_KEY", "secret")
    async with ChildPool(1) as fresh:
        seen = await fresh.run("isolated_tools:environment", {}, timeout_s=PATIENT_S)
    assert "HALO_API_KEY" not in seen
    assert "PATH" in seen


@pytest.mark.parametrize(
    ("function", "arguments", "code", "says"),
    [
        ("explode", {"message": "no such row"}, ToolFailureCode.RAISED, "LookupError: no such row"),
        ("explode", {"message": "x" * 100_000}, ToolFailureCode.RAISED, "LookupError: xxx"),
        ("explode", {"wrong": 1}, ToolFailureCode.RAISED, "TypeError"),
        ("explode_unspeakably", {}, ToolFailureCode.RAISED, "Unspeakable"),
        ("leave", {}, ToolFailureCode.RAISED, "SystemExit: 3"),
        ("missing", {}, ToolFailureCode.RAISED, "AttributeError"),
        ("not_a_function", {}, ToolFailureCode.RAISED, "not a function"),
        ("unserialisable", {}, ToolFailureCode.BAD_OUTPUT, "JSON"),
        ("not_a_number", {}, ToolFailureCode.BAD_OUTPUT, "JSON"),
        ("half_a_character", {}, ToolFailureCode.BAD_OUTPUT, "JSON"),
        ("endless_nest", {}, ToolFailureCode.BAD_OUTPUT, "JSON"),
        ("flood", {"megabytes": 100}, ToolFailureCode.OUTPUT_TOO_LARGE, "1,048,576"),
        ("flood_the_pipe", {"megabytes": 100}, ToolFailureCode.OUTPUT_TOO_LARGE, "bytes"),
        ("babble", {}, ToolFailureCode.BAD_OUTPUT, "not an answer"),
        ("hog", {}, ToolFailureCode.KILLED, "memory"),
        ("crash", {}, ToolFailureCode.KILLED, "status 7"),
        ("kill_itself", {}, ToolFailureCode.KILLED, "signal 9"),
    ],
)
async def test_each_misbehaviour_is_a_typed_failure_and_the_pool_goes_on(
    pool: ChildPool, function: str, arguments: dict[str, object], code: ToolFailureCode, says: str
) -> None:
    failure = await failure_of(pool.run(f"isolated_tools:{function}", arguments, timeout_s=PATIENT_S))
    assert failure.code is code
    assert says in failure.message
    assert "Traceback" not in failure.message
    assert len(failure.message) <= 2000
    assert await works(pool)


async def test_a_module_that_cannot_be_imported_says_so(pool: ChildPool) -> None:
    failure = await failure_of(pool.run("no_such_module:f", {}, timeout_s=PATIENT_S))
    assert failure == Failure(
        FailureClass.TOOL, ToolFailureCode.RAISED, "ModuleNotFoundError: No module named 'no_such_module'"
    )
    failure = await failure_of(pool.run("__main__:f", {}, timeout_s=PATIENT_S))
    assert "must stand in a module" in failure.message


async def test_a_flood_is_not_held_here(pool: ChildPool) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await failure_of(pool.run("isolated_tools:flood_the_pipe", {"megabytes": 100}, timeout_s=PATIENT_S))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


async def test_a_hanging_tool_is_killed_at_its_deadline_with_all_it_started(pool: ChildPool, tmp_path: Path) -> None:
    async def story(pace: float) -> None:
        """By its deadline the tool has started its child: it says so in a file."""
        marker = tmp_path / f"pid {pace}"
        call = pool.run("isolated_tools:hang_with_company", {"marker": str(marker)}, timeout_s=pace)
        assert (await failure_of(call)).code is ToolFailureCode.TIMEOUT
        assert await eventually(lambda: not alive(int(marker.read_text())))
        assert await works(pool)

    await at_some_pace(story)


async def test_hanging_tools_leave_the_event_loop_free(pool: ChildPool, tmp_path: Path) -> None:
    """While all workers hang, with more calls behind them, what else runs on the loop goes on."""
    markers = [tmp_path / str(number) for number in range(4)]
    calls = [
        asyncio.create_task(pool.run("isolated_tools:hang", {"marker": str(marker)}, timeout_s=600))
        for marker in markers
    ]
    assert await eventually(lambda: sum(marker.exists() for marker in markers) == pool.size)
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_the_import_of_a_module_does_not_count_against_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    async def story(pace: float) -> None:
        module = f"slow_to_import_{pace:g}"
        text = f"import time\ntime.sleep({0.5 * pace})\ndef quick() -> int:\n    return 1\n"
        (tmp_path / f"{module}.py").write_text(text)
        async with ChildPool(1) as pool:
            assert await pool.run(f"{module}:quick", {}, timeout_s=0.4 * pace) == 1

    await at_some_pace(story)


async def test_an_import_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_imported.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def story(pace: float) -> None:
        async with ChildPool(1, start_timeout_s=2 * pace) as pool:
            failure = await failure_of(pool.run("never_imported:quick", {}, timeout_s=600))
        assert failure.code is ToolFailureCode.TIMEOUT
        assert "import" in failure.message

    await at_some_pace(story)


async def test_many_calls_share_few_workers(pool: ChildPool) -> None:
    calls = (pool.run("isolated_tools:add", {"left": n, "right": n}, timeout_s=PATIENT_S) for n in range(500))
    assert await asyncio.gather(*calls) == [2 * n for n in range(500)]
    pids = await asyncio.gather(*(pool.run("isolated_tools:whoami", {}, timeout_s=PATIENT_S) for _ in range(100)))
    assert len(set(pids)) <= 2


async def test_good_calls_are_not_hurt_by_bad_ones_beside_them(pool: ChildPool) -> None:
    bad = [
        asyncio.create_task(failure_of(pool.run("isolated_tools:crash", {}, timeout_s=PATIENT_S))) for _ in range(10)
    ]
    assert all(await asyncio.gather(*(works(pool) for _ in range(100))))
    assert {failure.code for failure in await asyncio.gather(*bad)} == {ToolFailureCode.KILLED}


async def test_cancelling_the_caller_frees_the_worker(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    async with ChildPool(1) as pool:
        call = asyncio.create_task(pool.run("isolated_tools:hang", {"marker": str(marker)}, timeout_s=600))
        assert await eventually(lambda: marker.exists() and marker.read_text() != "")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await works(pool)
        assert await eventually(lambda: not alive(int(marker.read_text())))


async def test_a_worker_that_died_while_idle_is_replaced(pool: ChildPool) -> None:
    pid = await pool.run("isolated_tools:whoami", {}, timeout_s=PATIENT_S)
    os.kill(pid, signal.SIGKILL)
    assert await eventually(lambda: not alive(pid))
    await asyncio.sleep(0.05)
    assert await works(pool)


async def test_prepared_workers_have_the_module_before_a_call_needs_it(
    pool: ChildPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "imported"
    text = f"import os\nopen({str(marker)!r}, 'a').write(f'{{os.getpid()}} ')\ndef whoami(): return os.getpid()\n"
    (tmp_path / "noted_import.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    await pool.prepare(["noted_import:whoami"], 100)
    prepared = {int(pid) for pid in marker.read_text().split()}
    assert len(prepared) == 2, "as many as the pool has, and no more"
    await pool.prepare(["noted_import:whoami"], 2)
    assert await pool.run("noted_import:whoami", {}, timeout_s=PATIENT_S) in prepared
    assert len(marker.read_text().split()) == 2, "those that are there are not started again"
    await pool.close()
    assert not any(alive(pid) for pid in prepared)


async def test_workers_that_cannot_be_prepared_are_told_and_cost_nothing(pool: ChildPool) -> None:
    failure = await failure_of(pool.prepare(["no_such_module:f"], 2))
    assert "no_such_module" in failure.message
    assert await works(pool)


async def test_closing_while_workers_are_prepared_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "pid"
    text = f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    (tmp_path / "slow_import.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = ChildPool(1)
    preparing = asyncio.create_task(pool.prepare(["slow_import:f"], 1))
    assert await eventually(lambda: marker.exists() and marker.read_text() != "")
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing
    await pool.close()
    assert await eventually(lambda: not alive(int(marker.read_text())))


async def test_closing_waits_for_a_process_that_is_starting_whoever_gave_it_up() -> None:
    pool = ChildPool(1)
    call = asyncio.create_task(pool.run("json:loads", {"s": "1"}, timeout_s=PATIENT_S))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await pool.close()
    assert call.cancelled()
    assert not _children()


def _children() -> list[str]:
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], check=False, capture_output=True, text=True
    )
    return [line for line in listed.stdout.splitlines() if "child_worker" in line]


async def test_closing_ends_calls_in_flight_and_refuses_new_ones(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    pool = ChildPool(1)
    assert await works(pool)
    hang = {"marker": str(marker)}
    running = asyncio.create_task(failure_of(pool.run("isolated_tools:hang", hang, timeout_s=600)))
    waiting = asyncio.create_task(failure_of(pool.run("isolated_tools:hang", {}, timeout_s=600)))
    assert await eventually(marker.exists)
    await pool.close()
    await pool.close()
    assert (await running).code is ToolFailureCode.KILLED
    assert (await waiting).code is ToolFailureCode.KILLED


async def test_arguments_json_cannot_hold_are_the_callers_mistake(pool: ChildPool) -> None:
    with pytest.raises(TypeError):
        await pool.run("isolated_tools:add", {"left": object(), "right": 1}, timeout_s=PATIENT_S)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child in mid-call when its parent dies")
def test_a_worker_in_mid_call_dies_with_its_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    program = f"""
import asyncio, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
from executor.child_pool import ChildPool
asyncio.run(ChildPool(1).run("isolated_tools:hang", {{"marker": {str(marker)!r}}}, timeout_s=600))
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert asyncio.run(eventually(lambda: marker.exists() and marker.read_text() != ""))
    finally:
        parent.kill()
        parent.wait()
    assert asyncio.run(eventually(lambda: not alive(int(marker.read_text()))))


def test_it_runs_on_uvloop() -> None:
    async def story() -> ToolFailureCode:
        async with ChildPool(1) as pool:
            assert await works(pool)
            code = (await failure_of(pool.run("isolated_tools:hang", {}, timeout_s=0.2))).code
            assert await works(pool)
            return code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) is ToolFailureCode.TIMEOUT
