"""The fidelity report without an engine: what calibration finds again, and what is told of bodies that differ."""

from dataclasses import replace

import pytest

from benchmarks.kv.arms import ARMS, OURS, PRIORITY, STOCK, Flags, Serving
from benchmarks.kv.distributions import own_distributions
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import CannotRun, EngineSize
from benchmarks.kv.modelled_lab import ModelledLab
from benchmarks.kv.programs import Load, Program, Turn, open_loop
from benchmarks.kv.results import outcome_of
from benchmarks.kv.traces import draw_programs
from benchmarks.scheduling.calibration import Calibration
from benchmarks.scheduling.fidelity import MODELLED, REAL, Cell, Seen, tell
from executor.engines.model.profiles import PROFILES

SIZE = EngineSize(kv_blocks=512)
LOAD = open_loop(draw_programs("swe", 6, 1, own_distributions()), 2.0, 1)
SILENT = Telling()


async def test_calibration_finds_an_engine_that_is_half_as_fast_though_a_round_was_disturbed() -> None:
    truth = replace(PROFILES["cpu"], overhead_s=3e-3, token_s=70e-6, sequence_s=80e-6, round_trip_s=9e-3, wake_s=8e-3)
    engine, calibration = ModelledLab(SIZE, truth), Calibration(SIZE, Flags())
    disturbed = replace(truth, overhead_s=9e-3, token_s=150e-6, attend_s=60e-9, kv_read_s=2e-7)
    for lab in (engine, ModelledLab(SIZE, disturbed), engine):
        await calibration.take_round(lab)
    found = calibration.fit()
    assert found.error < 0.01
    assert found.profile.wake_s == pytest.approx(truth.wake_s, rel=0.1)
    told = ModelledLab(SIZE, found.profile).results(Serving(), LOAD, SILENT)
    for one, real in zip(told, engine.results(Serving(), LOAD, SILENT), strict=True):
        assert one.completion_s == pytest.approx(real.completion_s, rel=0.03)


def test_a_modelled_engine_replays_programs_with_their_pauses_and_finds_their_contexts_again() -> None:
    program = Program("p", (Turn(640, 3, "bash", "test", 1.5), Turn(64, 2)))
    lab = ModelledLab(SIZE, PROFILES["cpu"])
    [result] = lab.results(Serving(), Load((program,), (2.0,), 1.0), SILENT)
    first, second = result.turns
    assert (first.sent_s, first.prompt_tokens, first.cached_tokens) == (2.0, 640, 0)
    assert second.sent_s == pytest.approx(first.sent_s + first.seconds + 1.5)
    # 642 of 643 tokens have KV, of which whole blocks of 32 are found again.
    assert (second.prompt_tokens, second.cached_tokens) == (707, 640)


def test_a_closed_loop_has_so_many_programs_at_any_time() -> None:
    programs = tuple(Program(f"p{number}", (Turn(64, 2),)) for number in range(3))
    first, second, third = ModelledLab(SIZE, PROFILES["cpu"]).results(Serving(), Load(programs, at_once=2), SILENT)
    assert (first.arrived_s, second.arrived_s) == (0.0, 0.0)
    assert third.arrived_s == first.finished_s


def test_with_priorities_early_programs_compute_less_again() -> None:
    size, load = EngineSize(256), open_loop(draw_programs("swe", 12, 1, own_distributions()), 4.0, 1)
    lab = ModelledLab(size, PROFILES["cpu"])
    stock = outcome_of(load, lab.results(Serving(), load, SILENT))
    priority = outcome_of(load, lab.results(Serving(by_priority=True), load, Telling(priority=True)))
    assert priority.prefilled_tokens < stock.prefilled_tokens


def test_the_plugin_keeps_contexts_in_the_modelled_engine_too() -> None:
    size, load = EngineSize(384), open_loop(draw_programs("swe", 12, 1, own_distributions()), 4.0, 1)
    lab, ours = ModelledLab(size, PROFILES["cpu"]), ARMS[OURS]
    stock = outcome_of(load, lab.results(Serving(), load, SILENT))
    kept = outcome_of(load, lab.results(ours.serving(Flags(), Flags()), load, ours.telling))
    assert kept.prefilled_tokens < 0.7 * stock.prefilled_tokens
    assert kept.mean_s < stock.mean_s


def test_modelled_engines_say_what_they_cannot_be() -> None:
    lab = ModelledLab(SIZE, PROFILES["cpu"])
    for serving in (Serving(door=True), Serving(Flags(watermark=0.1)), Serving(plugin=(("keep", "pin"),))):
        with pytest.raises(CannotRun):
            lab.results(serving, LOAD, SILENT)


def test_what_is_off_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell(512, "swe", 1.0, 0)

    def seen(body: str, arm: str, *completions_s: float, prefilled: int = 1000) -> Seen:
        return Seen(cell, arm, body, completions_s, completions_s, prefilled)

    real = [seen(REAL, STOCK, 10.0, 20.0), seen(REAL, PRIORITY, 8.0, 16.0)]
    near = [seen(MODELLED, STOCK, 10.5, 19.0), seen(MODELLED, PRIORITY, 8.0, 17.0, prefilled=1020)]
    far = [seen(MODELLED, STOCK, 8.0, 16.0), seen(MODELLED, PRIORITY, 9.0, 18.0)]
    assert tell([*real, *near], REAL)
    assert not tell([*real, *far], REAL)
    told = capsys.readouterr().out
    assert "a program's completion 4.1% off" in told
    assert "1 of 1 pairs of arms ranked alike" in told
    assert "0 of 1 pairs of arms ranked alike" in told


def test_what_is_expected_of_the_engine_is_what_it_mostly_does(capsys: pytest.CaptureFixture[str]) -> None:
    """One of three runs was disturbed: the simulation is told off by what single runs differ, and judged by the typical
    one; the arms are not ranked by the run that fell on one of them."""
    cell = Cell(512, "swe", 1.0, 0)

    def run(body: str, arm: str, repeat: int, *completions_s: float) -> Seen:
        return Seen(cell, arm, body, completions_s, completions_s, 1000, repeat)

    stock = [run(REAL, STOCK, 0, 10.0, 20.0), run(REAL, STOCK, 1, 15.0, 30.0), run(REAL, STOCK, 2, 10.0, 20.0)]
    ours = [run(REAL, OURS, number, 10.1, 20.2) for number in range(3)]
    simulated = [run(MODELLED, STOCK, 0, 10.0, 20.0), run(MODELLED, OURS, 0, 10.1, 20.2)]
    assert tell([*stock, *ours, *simulated], REAL)
    told = capsys.readouterr().out
    assert "a program's completion 0.0% off" in told
    assert "of single runs 5.6%, which are 8.3% off their own median" in told
    assert "0 of 0 pairs of arms ranked alike" in told
    quicker = [run(REAL, OURS, number, 7.0 + number / 10, 14.0) for number in range(3)]
    assert not tell([*stock, *quicker, *simulated], REAL)
    assert "0 of 1 pairs of arms ranked alike" in capsys.readouterr().out
