"""A forecast with what earlier runs took: each stage as it was, and nothing else is changed."""

import json

from example_plans import generate, output, text_to_sql, tool, user

from planner.cost.experience import NO_EXPERIENCE, Experience, experience_of
from planner.cost.history import Seen, history_of
from planner.explain import explain
from planner.explanation import Explanation, Span
from planner.foretell import MOST_REPLAYED, foretell
from planner.ir.expressions import Column, Const
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Input, Plan, ToolSpec
from planner.job import JobPart
from planner.optimize import optimize
from planner.page import page
from planner.prefix.texts import Cut
from planner.table import Table
from planner.timing import PricedEngine

ROWS = [{"db": "shop", "question": "Which items are cheap?"}, {"db": "zoo", "question": "How old is the oldest?"}]
A100 = PricedEngine("A100", {}, 1.8)
SEEN = history_of(
    [
        *[Seen("schema", json.dumps("x" * 400), 3.0)] * 40,
        *[Seen("link", '"items"', 1.0, 120, 20)] * 40,
        *[Seen("first", '"SELECT 1"', 1.0, 120, 40)] * 40,
        *[Seen("revise#0/rewrite", '"SELECT 2"', 1.0, 120, 30)] * 40,
        *[Seen("revise#1/again", '{"ok":true}', 0.5)] * 40,
    ]
)


def part() -> JobPart:
    plan = text_to_sql()
    return JobPart(plan, Table.from_rows(ROWS, plan.inputs))


def seen_before() -> Experience:
    return experience_of(text_to_sql(), SEEN)


def told(experience: Experience, *fleet: PricedEngine) -> Explanation:
    return foretell([part()], fleet, experience=experience).explanation


def test_a_stage_is_found_by_its_path_in_a_body_as_outside() -> None:
    found = seen_before()
    assert set(found.output_tokens) == {"link", "first", "revise#*/rewrite"}
    assert set(found.tool_s) == {"schema", "revise#*/again"}
    assert found.tool_output_chars["schema"] == 400
    assert (found.calls, found.tool_runs) == (120, 80)


def test_an_agents_answers_are_those_of_its_turns() -> None:
    asks = Agent(StageId("solve"), "small", user(Column("task")), (ToolSpec("look"),), max_turns=4)
    plan = Plan("agent", (Input("task"),), (asks,), output("solve"))
    turn = json.dumps({"text": "hm", "tool_calls": []})
    found = experience_of(plan, history_of([Seen("solve#0", turn, 1.0, 9, 12)] * 40 + [Seen("solve#0/0", "1", 5.0)]))
    assert found.output_tokens["solve"].p50 == 12
    assert not found.tool_s


def test_a_stage_that_was_seen_writes_what_it_wrote_and_the_others_what_the_prior_says() -> None:
    before, after = ({stage.path: stage for stage in told(one).stages} for one in (NO_EXPERIENCE, seen_before()))
    calls = after["first"].distinct
    assert after["first"].output_tokens == calls * Span(40, 40)
    assert after["second"].output_tokens == before["second"].output_tokens
    assert [stage.distinct for stage in after.values()] == [stage.distinct for stage in before.values()]


def test_a_prompt_is_as_long_as_the_outputs_it_reads_were() -> None:
    stages = (tool("look", ToolSpec("look"), q=Column("q")), generate("ask", output("look")))
    plan = Plan("chain", (Input("q"),), stages, output("ask"))
    job = [JobPart(plan, Table.from_rows([{"q": "a"}], plan.inputs))]
    long = experience_of(plan, history_of([Seen("look", json.dumps("x" * 4000), 1.0)]))
    asked, before = (explain(job, optimize(job), one).stages[1] for one in (long, NO_EXPERIENCE))
    assert asked.merged_tokens.low - before.merged_tokens.low == 1000 - 250


def test_a_token_has_as_many_characters_as_the_tokenizer_counted() -> None:
    plan = Plan("one", (Input("q"),), (generate("ask", Const("x" * 1200), Column("q")),), output("ask"))
    job = [JobPart(plan, Table.from_rows([{"q": "y" * 600}], plan.inputs))]
    by_four = foretell(job).explanation
    by_two = foretell(job, cut=Cut(chars_per_token=2.0)).explanation
    kept = foretell(job, experience=Experience(chars_per_token=2.0)).explanation
    assert by_two.merged_tokens.low == 2 * by_four.merged_tokens.low
    assert by_two.merged_tokens == kept.merged_tokens
    assert "a token is 2 characters, as tokenizers or engines told" in by_two.assumptions


def test_placement_takes_the_seconds_that_tools_took() -> None:
    def work_s(experience: Experience) -> float:
        placement = told(experience, A100).placement
        assert placement is not None
        return next(stage.work_s for stage in placement.stages if stage.path == "schema")

    assert work_s(seen_before()) > 50 * work_s(NO_EXPERIENCE)


def test_what_was_seen_is_among_the_assumptions() -> None:
    told_of = "stages seen before take what they took in 120 calls and 80 tool runs of earlier jobs"
    assert told_of in told(seen_before()).assumptions
    assert not [line for line in told(NO_EXPERIENCE).assumptions if "seen" in line]


def test_where_there_are_too_many_calls_to_replay_it_is_said_with_their_number() -> None:
    plan = Plan("one", (Input("q"),), (generate("ask", Column("q")),), output("ask"))
    rows = [{"q": str(number)} for number in range(MOST_REPLAYED + 1)]
    many = foretell([JobPart(plan, Table.from_rows(rows, plan.inputs))]).explanation
    assert many.prefixes == ()
    assert ["60,001 calls" in note and "at most 60,000" in note for note in many.notes] == [True]
    assert many.notes[0] in many.to_text()
    assert many.notes[0] in page(many)
    assert many.to_json()["notes"] == list(many.notes)
