"""Programs that misbehave, on vLLM's own scheduler: everybody gets on, and no more is kept than may be."""

import pytest

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from benchmarks.kv.misuse_run import Traffic, run
from benchmarks.kv.robustness import CASES, on_vllm
from halo_vllm.virtual_time.engine import HALO_SCHEDULER, Call, EngineShape, VirtualEngine


def engine_of(kv_blocks: int = 64, share: float = 0.5) -> VirtualEngine:
    return VirtualEngine(EngineShape(HALO_SCHEDULER, kv_blocks=kv_blocks, halo={"share": share}))


def ask(engine: VirtualEngine, name: str, prompt: list[int], **hints: float) -> float:
    """The share of the KV that is kept when the call is over."""
    engine.ask(Call(f"{name}/0", tuple(prompt), 4, hints={"halo_program": name, **hints}))
    while engine.busy:
        if engine.step() is None:
            engine.now_s += 0.05
    return float(engine.scheduler.halo_stats()["retained_share"])


def test_all_misuse_at_once() -> None:
    seen = run(Traffic(programs=24), CASES["all of it"], on_vllm())
    assert seen.problems == {}
    assert (seen.programs, seen.kept_share > 0.5) == (24, True)


def test_a_program_larger_than_the_cap_keeps_its_beginning() -> None:
    assert ask(engine_of(), "a", list(range(1600))) == 0.5


def test_who_is_least_worth_keeping_gives_way_even_if_it_ended_just_now() -> None:
    engine = engine_of()
    shares = [ask(engine, f"a{n}", [10 + n] * 400, halo_eta_s=0.5 * n) for n in range(4)]
    assert shares == [12 / 64, 24 / 64, 0.5, 0.5]


def test_an_opening_that_only_one_still_keeps_counts() -> None:
    engine = engine_of()
    for number in range(8):
        ask(engine, f"a{number}", [*range(640), *(5000 + number,) * 64])
    for number in range(7):
        engine.hint({"program": f"a{number}", "event": "let_go"})
    assert ask(engine, "b", list(range(9000, 9800))) <= 0.5
