"""The order of a job's rows by what their prompts share, and what that order saves."""

from dataclasses import replace

import numpy as np
import pytest
from example_plans import text_to_sql

from planner.ir.expressions import Array, Column, Compare, Concat, Const, Expr, Output
from planner.ir.ids import StageId
from planner.ir.plan import Generate, Input, Message, Plan, Sampling
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.prefix.blocks import StageBlocks, token_blocks
from planner.prefix.saving import PrefixSaving, prefix_savings
from planner.prefix.texts import Cut
from planner.table import Table

SAMPLED = Sampling(temperature=0.8, max_tokens=16)


def ask(*segments: Expr, stage: str = "ask", model: str = "m", sampling: Sampling = SAMPLED) -> Generate:
    return Generate(StageId(stage), model, (Message("user", Concat(segments)),), sampling)


def job(*stages: Generate, **columns: list[Json]) -> JobPart:
    plan = Plan("p", tuple(Input(name) for name in columns), stages, Array(tuple(Output(stage.id) for stage in stages)))
    return JobPart(plan, Table(columns, len(next(iter(columns.values())))))


def order_of(part: JobPart) -> list[int]:
    return list(optimize([part]).parts[0].order)


def savings_of(part: JobPart, kv_tokens: float) -> PrefixSaving:
    (saving,) = prefix_savings([part], optimize([part]), {"m": kv_tokens})
    return saving


def test_texts_of_one_column_that_begin_alike_stand_together() -> None:
    """The segments differ in every row; half of each text does not."""
    one, other = "a" * 640, "b" * 640
    part = job(ask(Column("page")), page=[one + "1", other + "2", one + "3", other + "4"])

    assert order_of(part) == [0, 2, 1, 3]


def test_texts_that_share_less_than_a_block_keep_their_order() -> None:
    assert order_of(job(ask(Column("page")), page=["What is 1", "Who is 2", "What is 3"])) == [0, 1, 2]


def test_what_writes_much_for_what_it_reads_comes_first_and_what_shares_nothing_last() -> None:
    long, short = "long " * 400, "short " * 100
    documents = ["alone " * 100, long, short, long, short]
    part = job(ask(Column("document"), Column("question")), document=documents, question=["1", "2", "3", "4", "5"])

    assert order_of(part) == [2, 4, 1, 3, 0]


def test_blocks_of_the_engines_tokenizer_decide_where_the_part_brings_them() -> None:
    """Texts say that rows 0 and 2 belong together; the tokenizer knows better."""
    one, other = "a" * 640, "b" * 640
    part = job(ask(Column("page")), page=[one + "1", other + "2", one + "3", other + "4"])
    tokens = [np.arange(32) + start for start in (0, 0, 100, 100)]
    counted = {"ask": StageBlocks(token_blocks(tokens, 16), np.arange(4))}

    assert order_of(replace(part, token_blocks=counted)) == [0, 1, 2, 3]
    assert savings_of(replace(part, token_blocks=counted), 1000).prompt_tokens == 4 * 32
    assert savings_of(replace(part, token_blocks=counted), 1000).counted == "tokens"


def test_a_small_cache_keeps_what_the_planned_order_shares_and_loses_what_comes_in_turns() -> None:
    """Ten documents of 600 tokens, forty questions on each, room for two documents."""
    documents = [f"{number} " + "x" * 2400 for number in range(10)]
    rows = [(document, f"question {number}") for number in range(40) for document in documents]
    saving = savings_of(
        job(ask(Column("document"), Column("question")), document=[d for d, _ in rows], question=[q for _, q in rows]),
        kv_tokens=1400,
    )

    assert saving.calls == 400
    assert saving.share(saving.optimum_tokens) > 0.95
    assert saving.share(saving.optimum_tokens) - saving.share(saving.planned_tokens) < 0.01
    assert saving.arrival_tokens == 0
    assert saving.enlarged_tokens == pytest.approx(saving.optimum_tokens, rel=0.02)
    assert (saving.groups, saving.groups_at_once, saving.counted) == (10, 2, "characters")


def test_equal_calls_are_counted_once_and_stages_of_one_model_share() -> None:
    text = Const("t" * 640)
    greedy = Sampling(max_tokens=16)
    part = job(
        ask(text, Column("x"), sampling=greedy), ask(text, Column("x"), stage="twice", model="m"), x=["1", "1", "2"]
    )
    saving = savings_of(part, 10_000)

    assert saving.calls == 2 + 3
    assert saving.optimum_tokens == 4 * 160


def test_models_share_nothing_and_an_unknown_room_is_no_bound() -> None:
    text = Const("t" * 640)
    part = job(ask(text), ask(text, stage="other", model="n"), x=["1", "2"])
    of_m, of_n = prefix_savings([part], optimize([part]), {"m": 16.0})

    assert (of_m.model, of_n.model) == ("m", "n")
    assert (of_m.kv_tokens, of_m.planned_tokens) == (16.0, 16.0)
    assert (of_n.kv_tokens, of_n.planned_tokens, of_n.arrival_tokens) == (None, of_n.optimum_tokens, 160.0)


def test_blocks_are_as_long_as_the_tokenizer_makes_them() -> None:
    part = job(ask(Column("x")), x=["t" * 99, "t" * 99])
    planned = optimize([part])

    (four,) = prefix_savings([part], planned, {}, Cut(16, 4.0))
    (two,) = prefix_savings([part], planned, {}, Cut(16, 2.0))

    assert four.optimum_tokens == 16
    assert two.optimum_tokens == 48
    assert two.prompt_tokens == 2 * four.prompt_tokens


def test_a_job_without_rows_or_calls_saves_nothing() -> None:
    plan = text_to_sql()
    part = JobPart(plan, Table.from_rows([], plan.inputs))

    assert all(saving.share(saving.optimum_tokens) == 0 for saving in prefix_savings([part], optimize([part]), {}))


def test_a_prompt_with_a_list_among_its_constants_is_ordered_too() -> None:
    part = job(ask(Compare("==", Const([]), Column("q")), Column("q")), q=["x", [], "x"])
    assert sorted(order_of(part)) == [0, 1, 2]
