"""Seconds of calls: units and laws, and figures that somebody measured or published."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.gpus import A100_80, GPUS, Gpu, gpu_named
from planner.cost.load import RUNNING, rates_beside
from planner.cost.model import (
    Replica,
    call_seconds,
    decode_seconds,
    kv_tokens,
    layer_seconds,
    p_norm,
    prefill_seconds,
    replica_for,
)
from planner.cost.quantiles import Quantiles, length_prior
from planner.cost.shapes import LLAMA_3_8B, LLAMA_3_70B, SHAPES, TINY_LLAMA, ModelShape, shape_named

ON_A100 = Replica(A100_80, LLAMA_3_8B)
ROUNDING = 1 + 1e-12

replicas = st.builds(Replica, st.sampled_from(GPUS), st.sampled_from(SHAPES), st.sampled_from((1, 2, 4, 8)))
lengths = st.integers(1, 200_000)
batches = st.integers(1, 512)


def gpu(name: str) -> Gpu:
    found = gpu_named(name)
    assert found
    return found


# Laws


@given(replicas, lengths, lengths, lengths, st.sampled_from((16, 512, 2048)))
def test_more_prompt_never_costs_less(replica: Replica, one: int, other: int, cached: int, chunk: int) -> None:
    fewer, more = sorted((one, other))
    assert prefill_seconds(replica, fewer, cached, chunk) <= prefill_seconds(replica, more, cached, chunk) * ROUNDING


@given(replicas, lengths, lengths, lengths, st.sampled_from((16, 512, 2048)))
def test_more_cached_tokens_never_cost_more(replica: Replica, prompt: int, one: int, other: int, chunk: int) -> None:
    fewer, more = sorted((one, other))
    assert prefill_seconds(replica, prompt, more, chunk) <= prefill_seconds(replica, prompt, fewer, chunk) * ROUNDING


@given(replicas, lengths, lengths, batches, batches)
def test_longer_contexts_and_greater_batches_never_make_a_step_shorter(
    replica: Replica, context: int, longer: int, batch: int, greater: int
) -> None:
    before = decode_seconds(replica, min(context, longer), min(batch, greater))
    assert before <= decode_seconds(replica, max(context, longer), max(batch, greater)) * ROUNDING


@given(replicas, batches, lengths)
def test_a_batch_never_takes_longer_than_its_calls_one_after_another(
    replica: Replica, batch: int, context: int
) -> None:
    assert decode_seconds(replica, context, batch) <= batch * decode_seconds(replica, context) * ROUNDING


@given(replicas, lengths)
def test_small_chunks_never_save_time(replica: Replica, prompt: int) -> None:
    assert prefill_seconds(replica, prompt, chunk_tokens=512) * ROUNDING >= prefill_seconds(replica, prompt)


@given(replicas, st.floats(1, 100), lengths, lengths, batches)
def test_a_gpu_that_is_faster_in_everything_is_never_slower(
    replica: Replica, factor: float, prompt: int, output: int, running: int
) -> None:
    before = replica.gpu
    faster = replace(
        before,
        peak_tflops=before.peak_tflops * factor,
        memory_gb_per_s=before.memory_gb_per_s * factor,
        link_gb_per_s=before.link_gb_per_s * factor,
    )
    scaled = call_seconds(replace(replica, gpu=faster), prompt, output, running=running)
    assert scaled.p50 <= call_seconds(replica, prompt, output, running=running).p50 * ROUNDING


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1, 20))
def test_the_p_norm_lies_between_the_maximum_and_the_sum(left: float, right: float, p: float) -> None:
    assert max(left, right) <= p_norm(left, right, p) * (1 + 1e-9) + 1e-12
    assert p_norm(left, right, p) <= (left + right) * (1 + 1e-9) + 1e-12


@given(st.sampled_from([one.name for one in GPUS]), lengths, lengths, lengths, lengths)
def test_more_tokens_never_add_less_load(name: str, prompt: int, longer: int, output: int, more: int) -> None:
    rates = rates_beside(name, "any", RUNNING)
    before = rates.seconds(min(prompt, longer), min(output, more))
    assert before <= rates.seconds(max(prompt, longer), max(output, more)) * ROUNDING


# What is promised


def test_time_is_told_as_quantiles_where_the_length_is() -> None:
    prior = length_prior(400)
    told = call_seconds(ON_A100, 1000, prior)
    assert told.p50 == call_seconds(ON_A100, 1000, prior.p50).p10
    assert told.p10 < told.p50 < told.mean < told.p90


def test_swansons_rule() -> None:
    assert Quantiles(10, 20, 50).mean == pytest.approx(26)


def test_what_is_cached_costs_only_its_kv() -> None:
    """As much is computed as for 100 tokens alone, but these look back at 7,900."""
    alone, after = prefill_seconds(ON_A100, 100), prefill_seconds(ON_A100, 8000, 7900)
    assert alone < after < 1.2 * alone < 0.2 * prefill_seconds(ON_A100, 8000)


def test_attention_makes_long_prompts_cost_more_than_in_proportion() -> None:
    assert prefill_seconds(ON_A100, 64_000) > 1.5 * 8 * prefill_seconds(ON_A100, 8_000)


def test_four_gpus_are_faster_than_one_but_not_four_times() -> None:
    one, four = (prefill_seconds(Replica(A100_80, LLAMA_3_70B, degree), 4000) for degree in (1, 4))
    assert one / 4 < four < one / 2


def test_keys_and_values_get_what_the_weights_leave() -> None:
    """90 % of 80 GB, less 2 GB and 16.06 GB of weights, at 128 KiB a token; 70B fits on no single GPU of 80 GB."""
    assert kv_tokens(ON_A100) == int((0.9 * 80e9 - 2e9 - 2 * LLAMA_3_8B.weights) / 131072)
    assert kv_tokens(Replica(A100_80, LLAMA_3_70B)) == 0
    assert kv_tokens(Replica(A100_80, LLAMA_3_70B, 4)) > 400_000


@pytest.mark.parametrize(
    ("kind", "model", "expected"),
    [
        ("H100", "meta-llama/Llama-3.1-70B-Instruct", Replica(gpu("H100"), LLAMA_3_70B, 4)),
        ("A100", "small", ON_A100),
        ("unknown", "Qwen/Qwen3-8B", ON_A100),
        ("cpu", "small", Replica(gpu("cpu"), TINY_LLAMA)),
    ],
)
def test_an_engine_is_known_by_its_names_or_taken_for_the_reference(kind: str, model: str, expected: Replica) -> None:
    assert replica_for(kind, model) == expected


@pytest.mark.parametrize("name", ["A100", "NVIDIA A100-80GB", "a100-80"])
def test_a_gpu_has_several_spellings(name: str) -> None:
    assert gpu_named(name) is A100_80


def test_each_profile_names_its_source() -> None:
    assert all("data sheet" in one.source or "measured" in one.source or "vLLM" in one.source for one in GPUS)
    assert {one.name for one in GPUS if one.calibrated} == {"A100-80", "A40", "H100", "cpu"}


# Figures


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("Llama-2-7B", 6.74),
        ("Llama-2-70B", 68.98),
        ("Llama-3-8B", 8.03),
        ("Llama-3-70B", 70.55),
        ("Qwen2.5-7B", 7.62),
        ("Qwen2.5-32B", 32.76),
    ],
)
def test_shapes_have_as_many_weights_as_their_model_cards_say(model: str, billions: float) -> None:
    shape = shape_named(model)
    assert shape
    assert shape.weights / 1e9 == pytest.approx(billions, rel=0.001)


def test_the_kv_of_a_token_of_llama_3_8b_is_128_kib() -> None:
    assert LLAMA_3_8B.kv_bytes_per_token == 128 * 1024


@pytest.mark.parametrize(
    ("kind", "shape", "degree", "tokens", "milliseconds"),
    [
        ("A100-80", LLAMA_3_8B, 1, 128, 0.412),
        ("A100-80", LLAMA_3_8B, 1, 4096, 8.549),
        ("A100-80", LLAMA_3_8B, 8, 4096, 1.302),
        ("H100", LLAMA_3_70B, 1, 4096, 11.017),
        ("H100", LLAMA_3_70B, 8, 128, 0.125),
        ("A40", LLAMA_3_70B, 1, 1024, 16.408),
    ],
)
def test_layers_take_what_vidur_measured(
    kind: str, shape: ModelShape, degree: int, tokens: int, milliseconds: float
) -> None:
    """Sums of the medians in data/profiling of Vidur (MLSys 2024). Llama 2 and 3 have the same layers at 70B."""
    predicted: float = layer_seconds(Replica(gpu(kind), shape, degree), float(tokens))
    assert predicted * 1000 == pytest.approx(milliseconds, rel=0.15)


@pytest.mark.parametrize(
    ("prompt", "output", "running", "seconds"),
    [
        (1000, 1, 1, 0.054),
        (4000, 1, 1, 0.355),
        (8000, 1, 1, 1.2),
        (100, 200, 1, 0.54),
        (4000, 50, 1, 0.545),
        (20, 100, 8, 0.32),
    ],
)
def test_the_cpu_engine_takes_what_it_took(prompt: int, output: int, running: int, seconds: float) -> None:
    """Measured on a CPU build of vLLM with the tiny Llama: see the source of the profile."""
    predicted = call_seconds(Replica(gpu("cpu"), TINY_LLAMA), prompt, output, running=running)
    assert predicted.p50 == pytest.approx(seconds, rel=0.15)
