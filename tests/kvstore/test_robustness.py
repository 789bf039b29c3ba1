"""Programs that misbehave, over the plugin's deciders: all get on, and what is promised holds after each step."""

import pytest

from benchmarks.kv.misuse import Misuse
from benchmarks.kv.misuse_run import Traffic, run, tables_of
from benchmarks.kv.robustness import CASES, PLAIN, light
from halo_vllm.policy.admission import Limits
from halo_vllm.program import Asked
from halo_vllm.programs import Programs
from halo_vllm.settings import Settings

TRAFFIC = Traffic(programs=32)


@pytest.mark.parametrize("case", [case for case in CASES if case != "endless programs"])
def test_whatever_programs_do_all_get_to_their_end(case: str) -> None:
    seen = run(TRAFFIC, CASES[case], light())
    assert seen.problems == {}
    assert (seen.programs, seen.held_s > 0) == (32, True)


def test_misuse_takes_no_more_than_the_plugin_gives() -> None:
    traffic, misuse = Traffic(programs=96), CASES["all of it"]
    assert run(traffic, misuse, light()).calls_per_s > run(traffic, misuse, light(PLAIN)).calls_per_s


def test_programs_that_never_end_hold_up_others_no_longer_than_is_promised() -> None:
    seen = run(TRAFFIC, Misuse(endless=6), light())
    assert seen.problems == {}
    assert seen.programs == 32


def test_nothing_is_left_of_programs_that_said_their_end() -> None:
    engine = light()
    assert run(Traffic(programs=32, honest=True), Misuse(), engine).problems == {}
    tables = tables_of(engine.programs)
    empty = ("roster.programs", "calls", "gate.held", "keeping.kept", "ledger.owners")
    assert {name: tables[name] for name in empty} == dict.fromkeys(empty, 0)


def test_programs_that_come_back_for_ever_let_a_new_one_in_within_the_written_bound() -> None:
    """There are more of them than are asked about in one step, all before it in program order, and never any room."""
    programs, limits, others = Programs(Settings(), 100, 16), Limits(), 40
    programs.asked(_call("hog", 0, blocks=90), 0.0)
    for old in range(others):
        assert not programs.asked(_call(f"old-{old}", 0, blocks=20), 0.0)
    assert not programs.asked(_call("new", 0, blocks=20), 1.0)
    now_s, calls = 1.0, 0
    while programs.is_held("new/0") and now_s < 2_000:
        now_s += 0.5
        for call_id in programs.admitted(now_s, idle=False):
            name, calls = call_id.split("/")[0], calls + 1
            if name != "new":
                programs.finished(call_id, (), (), now_s, aborted=True)
                programs.asked(_call(name, calls, blocks=20), now_s)
    assert limits.patience_s < now_s <= 1.0 + limits.patience_s + (others + 1) * limits.spacing_s
    assert programs.place("new/0") < programs.place("hog/0")


def _call(program: str, number: int, blocks: int) -> Asked:
    chain = [(program, block) for block in range(blocks)]
    return Asked(f"{program}/{number}", chain, range(16 * blocks), said={"halo_program": program})
