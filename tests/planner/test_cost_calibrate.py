"""Calibration: samples in, coefficients and their error out."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.cost.calibrate import CallSample, LayerSample, calibrate, mean_error
from planner.cost.gpus import Gpu, gpu_named
from planner.cost.model import Replica, call_seconds, layer_seconds
from planner.cost.shapes import LLAMA_2_70B, LLAMA_3_8B, TINY_LLAMA, ModelShape

found = gpu_named("L40S")
assert found
SHEET: Gpu = found


def layers_on(gpu: Gpu, shape: ModelShape) -> list[LayerSample]:
    return [
        LayerSample(shape, degree, tokens, layer_seconds(Replica(gpu, shape, degree), float(tokens)))
        for degree, tokens in product((1, 2, 4), (1, 16, 64, 128, 256, 512, 1024, 4096))
    ]


def calls_on(gpu: Gpu) -> list[CallSample]:
    def call(prompt: int, output: int, running: int) -> CallSample:
        seconds = call_seconds(Replica(gpu, TINY_LLAMA), prompt, output, running=running).p50
        return CallSample(TINY_LLAMA, 1, prompt, output, seconds, running=running)

    return [call(*lengths) for lengths in product((10, 500, 4000), (1, 20, 200), (1, 8, 32))]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 0.9), st.floats(0.5, 0.95), st.floats(1.2, 3), st.floats(5e-6, 2e-4))
def test_it_finds_the_coefficients_that_made_the_times(
    compute: float, memory: float, blend: float, launch: float
) -> None:
    made_by = replace(SHEET.efficiency, compute=compute, memory=memory, blend=blend, launch_s=launch)
    machine = replace(SHEET, efficiency=made_by)
    fit = calibrate(SHEET, layers_on(machine, LLAMA_3_8B), layers_on(machine, LLAMA_2_70B))
    assert fit.error < 0.01
    assert fit.held_out_error is not None
    assert fit.held_out_error < 0.02
    assert fit.gpu.efficiency.compute == pytest.approx(compute, rel=0.05)


def test_calls_tell_what_the_engine_itself_takes() -> None:
    cpu = gpu_named("cpu")
    assert cpu
    slower = replace(cpu, efficiency=replace(cpu.efficiency, compute=0.1, attention=0.2, step_s=9e-3))
    fit = calibrate(cpu, calls_on(slower), source="27 calls")
    assert mean_error(cpu, calls_on(slower)) > 0.3
    assert fit.error < 0.01
    assert fit.gpu.efficiency.step_s == pytest.approx(9e-3, rel=0.05)
    assert (fit.gpu.calibrated, fit.gpu.source, fit.samples) == (True, "27 calls", 27)


def test_the_error_held_out_is_told_only_where_something_was() -> None:
    assert calibrate(SHEET, layers_on(SHEET, LLAMA_3_8B)).held_out_error is None


def test_what_samples_say_nothing_about_stays() -> None:
    """Prompts of one token answered with one do not tell how fast attention is."""
    seconds = 1.1 * call_seconds(Replica(SHEET, LLAMA_3_8B), 1, 1).p50
    fit = calibrate(SHEET, [CallSample(LLAMA_3_8B, 1, 1, 1, seconds)])
    assert fit.error < 1e-3
    assert fit.gpu.efficiency.attention == pytest.approx(SHEET.efficiency.attention, rel=1e-3)


def test_the_same_samples_give_the_same_coefficients() -> None:
    samples = [replace(sample, seconds=sample.seconds * 1.3) for sample in layers_on(SHEET, LLAMA_3_8B)]
    assert calibrate(SHEET, samples) == calibrate(SHEET, samples)
