"""What users write, and the plan it becomes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel

import halo
from planner.ir.check import check
from planner.ir.expressions import Array, Column, Compare, Concat, Const, Field, Object, Output
from planner.ir.plan import (
    Agent,
    Choose,
    Effect,
    Fallback,
    Generate,
    Input,
    Join,
    Loop,
    Map,
    Message,
    Plan,
    Sampling,
    Stage,
)
from planner.ir.plan import Tool as ToolStage


class Draft(BaseModel):
    sql: str
    reason: str | None = None


@halo.llm(model="sql", max_tokens=64)
def draft(question: str) -> str:
    return f"Answer {question} in SQL."


@halo.llm(model="sql", output=Draft)
def draft_json(question: str) -> list[halo.Message]:
    return [halo.system("You write SQL."), halo.user(f"{question}")]


@halo.tool(effect="pure")
def look_up(db: str) -> str:
    """The tables of a database.

    Not part of the description.
    """
    return f"tables of {db}"


@halo.tool
def run_sql(sql: str, limit: int = 10) -> dict[str, str | None]:
    return {"rows": sql, "error": None}


def only(plan: Plan) -> Stage:
    (stage,) = plan.stages
    return stage


def test_an_fstring_becomes_segments_around_the_value() -> None:
    @halo.workflow
    def ask(question: str) -> str:
        return draft(question)

    assert ask.plan == Plan(
        name="ask",
        inputs=(Input("question", {"type": "string"}),),
        stages=(
            Generate(
                id="draft",
                model="sql",
                messages=(Message("user", Concat((Const("Answer "), Column("question"), Const(" in SQL.")))),),
                sampling=Sampling(max_tokens=64),
            ),
        ),
        result=Output("draft"),
    )


def test_messages_keep_their_roles_and_the_answer_its_schema() -> None:
    @halo.workflow
    def ask(question: str) -> str:
        return draft_json(question).sql

    stage = only(ask.plan)
    assert isinstance(stage, Generate)
    assert stage.messages == (
        Message("system", Concat((Const("You write SQL."),))),
        Message("user", Concat((Column("question"),))),
    )
    assert stage.schema["properties"].keys() == {"sql", "reason"}
    assert ask.plan.result == Output("draft_json", ("sql",))


def test_constants_are_ordinary_python_values_inside_a_prompt() -> None:
    @halo.llm(model="m")
    def explain(text: str, short: bool) -> str:
        return f"Briefly: {text}" if short else f"At length: {text}"

    @halo.workflow
    def ask(text: str) -> list[str]:
        return [explain(text, short=True), explain(text, short=False)]

    beginnings = [stage.messages[0].content.segments[0] for stage in ask.plan.stages if isinstance(stage, Generate)]
    assert beginnings == [Const("Briefly: "), Const("At length: ")]


def test_stage_ids_are_the_function_names_counted() -> None:
    @halo.workflow
    def ask(question: str) -> list[str]:
        return [draft.options(seed=seed, temperature=0.8)(question) for seed in range(3)]

    assert [stage.id for stage in ask.plan.stages] == ["draft", "draft_2", "draft_3"]
    assert [stage.sampling.seed for stage in ask.plan.stages if isinstance(stage, Generate)] == [0, 1, 2]
    assert ask.plan.result == Array((Output("draft"), Output("draft_2"), Output("draft_3")))


def test_a_step_is_called_what_its_workflow_names_it() -> None:
    @halo.workflow
    def ask(question: str) -> list[str]:
        shop, zoo = look_up.named("shop_schema")("shop"), look_up("zoo")
        first = draft.named("first")(f"{shop} {zoo} {question}")
        return [first, draft.named("again").options(seed=1)(first), draft.named("again")(first)]

    assert [stage.id for stage in ask.plan.stages] == ["shop_schema", "look_up", "first", "again", "again_2"]
    assert [stage.tool for stage in ask.plan.stages if isinstance(stage, ToolStage)] == [look_up.spec] * 2
    assert {name: tool.function for name, tool in ask.tools.items()} == {"look_up": look_up.function}


def test_a_name_no_step_can_have_is_refused() -> None:
    with pytest.raises(halo.WorkflowInvalid, match="'two words' is no stage id"):

        @halo.workflow
        def ask(question: str) -> str:
            return draft.named("two words")(question)


def test_the_same_function_gives_the_same_plan_each_time() -> None:
    def ask(question: str) -> str:
        return halo.choose(draft(question) == "x", then=lambda: draft(question), otherwise=lambda: "y")

    assert halo.workflow(ask).plan == halo.workflow(ask).plan


def test_a_tool_gets_its_arguments_by_name_and_its_spec_from_its_hints() -> None:
    @halo.workflow
    def ask(db: str) -> str:
        return look_up(db)

    stage = only(ask.plan)
    assert isinstance(stage, ToolStage)
    assert stage.arguments == Object((Field("db", Column("db")),))
    assert stage.tool.effect is Effect.PURE
    assert stage.tool.description == "The tables of a database."
    assert stage.tool.parameters == {
        "type": "object",
        "properties": {"db": {"type": "string"}},
        "required": ["db"],
        "additionalProperties": False,
    }
    assert ask.tools == {"look_up": look_up}


def test_texts_with_values_in_them_become_concat_wherever_they_stand() -> None:
    @halo.workflow
    def ask(db: str, name: str) -> dict[str, object]:
        found = run_sql(f"select * from {db}")
        return {"text": "of " + name, "list": [f"{name}!", "plain"], "rows": found["rows"]}

    stage = only(ask.plan)
    assert isinstance(stage, ToolStage)
    assert stage.arguments.fields == (Field("sql", Concat((Const("select * from "), Column("db")))),)
    assert ask.plan.result == Object(
        (
            Field("text", Concat((Const("of "), Column("name")))),
            Field("list", Array((Concat((Column("name"), Const("!"))), Const("plain")))),
            Field("rows", Output("run_sql", ("rows",))),
        )
    )


def test_a_text_handed_to_a_prompt_lies_flat_in_it() -> None:
    @halo.workflow
    def ask(topic: str) -> str:
        return draft(f"a question about {topic}, please")

    stage = only(ask.plan)
    assert isinstance(stage, Generate)
    assert stage.messages[0].content == Concat(
        (Const("Answer a question about "), Column("topic"), Const(", please in SQL."))
    )


def test_comparisons_and_conditions() -> None:
    @halo.workflow
    def ask(count: int, ready: bool) -> object:
        return [count == 1, count != 1, count < 1, count > 1, count <= 1, count >= 1, (count > 0) & ready, ready | True,
                ~ready]  # fmt: skip

    one, ready = Const(1), Column("ready")
    assert ask.plan.result == Array(
        (
            Compare("==", Column("count"), one),
            Compare("!=", Column("count"), one),
            Compare("<", Column("count"), one),
            Compare(">", Column("count"), one),
            Compare("<=", Column("count"), one),
            Compare(">=", Column("count"), one),
            Compare("and", Compare(">", Column("count"), Const(0)), ready),
            Compare("or", ready, Const(True)),
            Compare("==", ready, Const(False)),
        )
    )


def test_inputs_carry_their_types_and_defaults() -> None:
    class Level(StrEnum):
        EASY = "easy"

    first = Draft(sql="x")

    @halo.workflow(name="asking", version="7")
    def ask(question, db: str = "shop", level: Level = Level.EASY, seed: Draft = first):  # type: ignore[no-untyped-def]
        return [question, db, level, seed.sql]

    assert (ask.name, ask.plan.version) == ("asking", "7")
    question, db, level, seed = ask.plan.inputs
    assert question == Input("question")
    assert db == Input("db", {"type": "string"}, Fallback("shop"))
    assert level.default == Fallback("easy")
    assert seed.default == Fallback({"sql": "x", "reason": None})


def test_results_of_any_nesting_and_of_models_and_dataclasses() -> None:
    @dataclass
    class Pair:
        left: str
        right: list[str]

    @halo.workflow
    def ask(question: str) -> dict[str, object]:
        model = Draft.model_construct(sql=question)
        return {"model": model, "pair": Pair(question, ["x"]), "tuple": (1, None), "range": range(2)}

    q = Column("question")
    assert ask.plan.result == Object(
        (
            Field("model", Object((Field("sql", q), Field("reason", Const(None))))),
            Field("pair", Object((Field("left", q), Field("right", Const(["x"]))))),
            Field("tuple", Const([1, None])),
            Field("range", Const([0, 1])),
        )
    )


def test_choose_by_condition_and_by_value() -> None:
    @halo.llm(model="m", output=Literal["sql", "chat"])  # type: ignore[arg-type]
    def kind(question: str) -> str:
        return question

    @halo.workflow
    def ask(question: str, strict: bool) -> list[str]:
        by_value = halo.choose(kind(question), cases={"sql": lambda: draft(question)}, otherwise=lambda: "no")
        by_condition = halo.choose(strict, then=lambda: f"strictly {question}", otherwise=lambda: question)
        return [by_value, by_condition]

    _, by_value, by_condition = ask.plan.stages
    assert isinstance(by_value, Choose)
    assert isinstance(by_condition, Choose)
    assert by_value.value == Output("kind")
    assert [case.equals for case in by_value.cases] == ["sql"]
    assert [binding.value for binding in by_value.cases[0].body.bindings] == [Column("question")]
    assert by_value.otherwise.plan.result == Const("no")
    assert by_condition.value == Column("strict")
    assert by_condition.cases[0].equals is True
    assert [stage.id for stage in ask.plan.stages] == ["kind", "choose", "choose_2"]


def test_a_condition_that_is_merely_truthy_is_made_true_or_false() -> None:
    @halo.workflow
    def ask(text: str) -> str:
        return halo.choose(text, then=lambda: "some", otherwise=lambda: "none")

    stage = only(ask.plan)
    assert isinstance(stage, Choose)
    assert stage.value == Compare("and", Column("text"), Const(True))


def test_map_traces_its_body_once_for_all_items() -> None:
    @halo.workflow
    def ask(questions: list[str], db: str) -> list[str]:
        def answer(question: str) -> str:
            return run_sql(draft(f"{question} on {db}"))["rows"]  # type: ignore[return-value]

        return halo.map(answer, questions, max_items=5)

    stage = only(ask.plan)
    assert isinstance(stage, Map)
    assert (stage.id, stage.over, stage.max_items) == ("answer", Column("questions"), 5)
    assert [given.name for given in stage.body.plan.inputs] == ["item", "db"]
    assert [inner.id for inner in stage.body.plan.stages] == ["draft", "run_sql"]
    assert stage.body.plan.result == Output("run_sql", ("rows",))
    assert check(ask.plan) == ()


def test_map_over_constants() -> None:
    @halo.workflow
    def ask(question: str) -> list[str]:
        return halo.map(lambda n: draft(f"{n}. {question}"), range(3))

    stage = only(ask.plan)
    assert isinstance(stage, Map)
    assert stage.over == Const([0, 1, 2])


def test_values_from_outside_are_bound_through_every_body_between() -> None:
    @halo.workflow
    def ask(rows: list[list[str]], item: str) -> list[list[str]]:
        tables = look_up("x")
        return halo.map(lambda row: halo.map(lambda cell: draft(f"{tables} {item} {row[0]} {cell}"), row), rows)

    _, outer = ask.plan.stages
    assert isinstance(outer, Map)
    inner = only(outer.body.plan)
    assert isinstance(inner, Map)
    assert {b.name: b.value for b in outer.body.bindings} == {"look_up": Output("look_up"), "item_2": Column("item")}
    assert {b.name: b.value for b in inner.body.bindings} == {
        "look_up": Column("look_up"),
        "item_2": Column("item_2"),
        "item_0": Column("item", (0,)),
    }
    assert check(ask.plan) == ()


def test_loop_with_an_early_exit() -> None:
    @halo.workflow
    def ask(question: str) -> str:
        def revise(state: dict[str, str]) -> dict[str, str]:
            sql = draft(f"{question}: {state['error']}")
            return {"sql": sql, "error": run_sql(sql)["error"]}  # type: ignore[dict-item]

        start = {"sql": "", "error": "none yet"}
        return halo.loop(revise, start, until=lambda state: state["error"] == None, max_rounds=3)["sql"]  # noqa: E711

    stage = only(ask.plan)
    assert isinstance(stage, Loop)
    assert stage.initial == Const({"sql": "", "error": "none yet"})
    assert stage.until == Compare("==", Column("state", ("error",)), Const(None))
    assert stage.max_rounds == 3
    assert ask.plan.result == Output("revise", ("sql",))


def test_agent_and_join() -> None:
    @halo.workflow
    def ask(question: str) -> dict[str, object]:
        both = halo.join({"a": draft(question), "b": question})
        found = halo.agent(f"Find {both}", model="big", tools=[run_sql, look_up], max_turns=4, temperature=0.5)
        return {"text": found.text, "turns": found.turns, "a": both["a"]}

    _, joined, agent = ask.plan.stages
    assert isinstance(joined, Join)
    assert isinstance(agent, Agent)
    assert agent.messages == (Message("user", Concat((Const("Find "), Output("join")))),)
    assert (agent.model, agent.tools, agent.max_turns) == ("big", (run_sql.spec, look_up.spec), 4)
    assert agent.sampling == Sampling(temperature=0.5)
    assert ask.tools.keys() == {"run_sql", "look_up"}


def test_a_workflow_inside_a_workflow_gives_its_steps_to_the_outer_one() -> None:
    @halo.workflow
    def inner(question: str) -> str:
        return draft(question)

    @halo.workflow
    def outer(question: str) -> list[str]:
        return [inner(question), inner("x")]

    assert [stage.id for stage in outer.plan.stages] == ["draft", "draft_2"]


def test_a_tuple_of_known_length_can_be_taken_apart() -> None:
    @halo.tool
    def split(text: str) -> tuple[str, int]:
        return text, 1

    @halo.workflow
    def ask(text: str) -> str:
        word, count = split(text)
        return f"{word} {count}"

    assert ask.plan.result == Concat((Output("split", (0,)), Const(" "), Output("split", (1,))))


def test_a_plan_is_shown_as_text_and_in_notebooks() -> None:
    @halo.workflow
    def ask(question: str) -> str:
        return draft(f"<b>{question}")

    assert ask.explain().startswith("plan ask version 1\n")
    assert "&lt;b&gt;" in ask._repr_html_()
    assert "<b>" not in ask._repr_html_()


def test_explain_tells_for_given_rows_what_is_called_and_what_is_saved() -> None:
    @halo.workflow
    def ask(db: str, question: str) -> object:
        rounds = halo.loop(draft, question, until=lambda sql: sql == "", max_rounds=3)
        return [draft(f"{look_up(db)} {question}"), draft(f"{look_up(db)} {question}"), rounds]

    told = ask.explain([{"db": "shop", "question": "a"}, {"db": "shop", "question": "b"}])
    assert told.startswith(ask.explain())
    assert "model calls: 4..10 as written, 2..8 after merging" in told
    assert "USD" in told
    assert "A100-80 with" in told
