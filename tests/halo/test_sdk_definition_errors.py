"""Everything that cannot be in a workflow is told when it is defined: the line, what is wrong, and the fix."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

import halo
from planner.errors import Problem

LineOf = Callable[[str], str]


class Draft(BaseModel):
    sql: str
    reason: str = ""


class Row(TypedDict):
    name: str
    tags: list[str]


@halo.llm(model="sql", output=Draft)
def draft(question: str) -> str:
    return f"{question}"


@halo.tool
def run_sql(sql: str, limit: int = 10) -> list[Row]:
    return []


def problems(function: Callable[..., Any]) -> list[Problem]:
    with pytest.raises(halo.WorkflowInvalid) as caught:
        halo.workflow(function)
    told = str(caught.value)
    assert all(
        problem.where in told and problem.what in told and problem.fix in told for problem in caught.value.problems
    )
    return list(caught.value.problems)


def only(function: Callable[..., Any]) -> Problem:
    (problem,) = problems(function)
    return problem


def test_if_on_a_value(line_of: LineOf) -> None:
    def ask(question: str) -> str:
        if draft(question).sql == "":  # here
            return "nothing"
        return "something"

    problem = only(ask)
    assert problem.where == line_of("here")
    assert "Python cannot branch on it here" in problem.what
    assert "halo.choose(condition, then=..., otherwise=...)" in problem.fix


def test_the_name_of_the_value_is_told() -> None:
    def ask(question: str) -> str:
        return "a" if draft(question).sql else "b"

    assert "`draft.sql`" in only(ask).what


@pytest.mark.parametrize(
    "branch",
    [
        lambda value: value.sql and 1,
        lambda value: value.sql or 1,
        lambda value: not value.sql,
        lambda value: "a" < value.sql < "b",
        lambda value: value.sql in ["a", "b"],
        lambda value: max(value.sql, "a"),
        lambda value: [1 for _ in "a" if value.sql],
    ],
    ids=["and", "or", "not", "chain", "in list", "max", "comprehension"],
)
def test_every_branch_of_python_is_told(branch: Callable[[Any], object]) -> None:
    def ask(question: str) -> None:
        branch(draft(question))

    assert "Python cannot branch" in only(ask).what


def test_a_while_loop_ends_the_trace_and_is_told_once(line_of: LineOf) -> None:
    def ask(question: str) -> str:
        while not draft(question).sql:  # here
            pass
        return "done"

    problem = only(ask)
    assert problem.where == line_of("here")
    assert "halo.loop(..., until=...)" in problem.fix


def test_for_over_an_unknown_length(line_of: LineOf) -> None:
    def ask(sql: str) -> list[str]:
        found = []
        for row in run_sql(sql):  # here
            found.append(row["name"])
        return found

    problem = only(ask)
    assert problem.where == line_of("here")
    assert "the length of `run_sql` is known only when the program runs" in problem.what
    assert problem.fix == "use halo.map(function, over=run_sql) for each item, or do it in a @halo.tool"


def test_unpacking_an_unknown_length() -> None:
    def ask(sql: str) -> object:
        first, second = run_sql(sql)
        return [first, second]

    assert "length of `run_sql`" in only(ask).what


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda value: len(value.sql), "can neither go through it here nor count it"),
        (lambda value: int(value.sql), "cannot become int"),
        (lambda value: float(value.sql), "cannot become float"),
        (lambda value: ["a"][value], "cannot become a Python index"),
        (lambda value: value.sql * 2, "cannot calculate"),
        (lambda value: -value, "cannot calculate"),
        (lambda value: 10 - value, "cannot calculate"),
        (lambda value: value + 1, "cannot add"),
        (lambda value: {value: 1}, "key of a dict"),
        (lambda value: str(value in {"a"}), "key of a dict or a member of a set"),
        (lambda value: value.sql[1:3], "cannot be sliced"),
        (lambda value: ["a", "b"][0] in value, "searched with `in`"),
        (lambda value: value[value], "indexed with a value known only"),
        (lambda value: setattr(value, "sql", "x"), "cannot be changed (.sql = ...)"),
        (lambda value: value.__setitem__("sql", "x"), "cannot be changed (['sql'] = ...)"),
        (lambda value: value(), "is called like a function"),
        (lambda value: value.sql.strip(), "'strip' cannot be taken from it here"),
        (lambda value: (value == "a").field, "'field' cannot be taken from it"),
        (lambda value: json.dumps({"a": value}), "json.dumps is given a value that is known only"),
        (lambda value: ", ".join([value]), "Python needs a value that is known only"),
        (lambda value: {"x", "y"}, "a set has no order"),
        (lambda value: draft, "`draft` is a function, where its result is wanted"),
        (lambda value: float("nan"), "nan is not a number JSON can hold"),
        (lambda value: object(), "a value of type object cannot be written as JSON"),
        (lambda value: {1: value}, "the key 1 of a dict is no constant text"),
        (lambda value: {f"{value}": 1}, "of a dict is no constant text"),
        (lambda value: Draft.model_construct(reason="x"), "Draft lacks sql"),
        (lambda value: Draft(sql=value), "a pydantic model checks its fields"),
    ],
)
def test_what_python_cannot_do_with_a_value_yet(use: Callable[[Any], object], what: str) -> None:
    def ask(question: str) -> object:
        return use(draft(question))

    problem = only(ask)
    assert what in problem.what
    assert problem.where.startswith(__file__)
    assert problem.fix


def test_json_dumps_names_the_line_and_the_way(line_of: LineOf) -> None:
    def ask(question: str) -> str:
        return json.dumps(draft(question))  # here

    problem = only(ask)
    assert problem.where == line_of("here")
    assert 'f"{value}" writes it as JSON' in problem.fix


def test_an_unknown_field_names_the_known_and_the_likely(line_of: LineOf) -> None:
    def ask(question: str) -> str:
        return draft(question).sqll  # here

    problem = only(ask)
    assert problem.where == line_of("here")
    assert problem.what == "`draft`: there is no field 'sqll'; the fields are: sql, reason"
    assert problem.fix == "did you mean 'sql'?"


def test_fields_are_known_through_lists_and_dicts() -> None:
    def ask(sql: str) -> object:
        rows = run_sql(sql)
        return [rows[0]["nme"], rows["name"], halo.map(lambda row: row["nam"], rows), rows[0]["tags"][0]]

    assert [problem.what for problem in problems(ask)] == [
        "`run_sql[0]`: there is no field 'nme'; the fields are: name, tags",
        "`run_sql`: a list has no field 'name'",
        "`item`: there is no field 'nam'; the fields are: name, tags",
    ]


def test_a_format_and_a_repr_in_a_prompt(line_of: LineOf) -> None:
    @halo.llm(model="m")
    def shout(text: str) -> str:
        first = f"{text:>10}"  # format
        second = f"{text!r}"  # repr
        return first + second + f"{[text]}"  # list

    told = problems(shout)
    assert [problem.where for problem in told] == [line_of("format"), line_of("repr"), line_of("list")]
    assert told[0].what == "`text` is formatted with '>10', but is known only when the program runs"
    assert told[0].fix == 'write it plainly: f"{text}"; or format it in a @halo.tool'
    assert "`text` is formatted with repr" in told[1].what
    assert 'write it plainly: f"{text}"' in told[1].fix
    assert "halo.join([...])" in told[2].fix


def test_a_repr_that_is_only_printed_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    @halo.workflow
    def ask(question: str) -> str:
        print(repr(question))
        return question

    assert "<question>" in capsys.readouterr().out


def test_a_text_that_was_cut_after_formatting() -> None:
    def ask(question: str) -> object:
        return [f"so {question}"[:6], f"{question}".replace("\U0010fa11", "")]

    (problem,) = problems(ask)
    assert "broken slots: it was cut or changed" in problem.what
    assert "@halo.tool" in problem.fix


def test_markers_of_the_users_own_are_refused() -> None:
    assert "private-use characters" in only(lambda question: "\U0010fa10").what


def test_everything_wrong_is_told_at_once_in_the_order_of_the_code(line_of: LineOf) -> None:
    def ask(question: str, db: Any = object()) -> str:  # default # noqa: B008
        answer = draft(question)
        if answer.sql:  # if
            return answer.resaon  # never seen
        for _ in answer.reason:  # for
            pass
        return answer.length  # field

    told = problems(ask)
    assert [problem.where.rpartition(":")[2] for problem in told][1:] == [
        line_of(mark).rpartition(":")[2] for mark in ("if", "for", "field")
    ]
    assert told[0].what == "the default of input 'db' is of type object, which cannot be written as JSON"


def test_a_default_that_does_not_fit_its_type(line_of: LineOf) -> None:
    def ask(
        question: str,
        limit: int = "many",  # type: ignore[assignment] # here
    ) -> str:
        return question

    problem = only(ask)
    assert problem.where == line_of("here")
    assert "the default of input 'limit' does not fit its type" in problem.what


def test_inputs_that_cannot_be() -> None:
    class Connection:
        pass

    def ask(connection: Connection, model: str, *more: str, **named: str) -> str:
        return model

    told = [problem.what for problem in problems(ask)]
    assert told[0].startswith("input 'connection' has no JSON form")
    assert told[1] == "an input cannot be called 'model': run() and submit() use it"
    assert told[2:] == ["input `*more: str` is not one input", "input `**named: str` is not one input"]


def test_async_and_generator_workflows() -> None:
    async def ask(question: str) -> str:
        return question

    def ask_many(question: str) -> Any:
        yield question

    for function in (ask, ask_many):
        problem = only(function)
        assert "a workflow is a plain function" in problem.what
        assert "write a plain def" in problem.fix


def test_an_exception_of_the_users_own_keeps_its_line_and_its_cause(line_of: LineOf) -> None:
    def ask(question: str) -> str:
        raise LookupError("no such thing")  # here

    with pytest.raises(halo.WorkflowInvalid) as caught:
        halo.workflow(ask)
    (problem,) = caught.value.problems
    assert problem.where == line_of("here")
    assert problem.what == "the workflow's function raised LookupError: no such thing"
    assert isinstance(caught.value.__cause__, LookupError)


def test_arguments_of_tools_are_checked(line_of: LineOf) -> None:
    def ask(question: str) -> object:
        run_sql(question, lim=3)  # type: ignore[call-arg] # unknown
        run_sql(question, limit="ten")  # type: ignore[arg-type] # constant
        run_sql(draft(question))  # type: ignore[arg-type] # kind
        return run_sql()  # type: ignore[call-arg] # missing

    told = problems(ask)
    assert [problem.where for problem in told] == [line_of(m) for m in ("unknown", "constant", "kind", "missing")]
    assert told[0].what == "`run_sql`: got an unexpected keyword argument 'lim'"
    assert told[0].fix == "its parameters are (sql: str, limit: int = 10)"
    assert "argument 'limit': Input should be a valid integer" in told[1].what
    assert told[2].what == "`run_sql`, argument 'sql': wants a text, and is given an object"
    assert told[3].what == "`run_sql`: missing a required argument: 'sql'"


def test_a_prompt_that_is_none(line_of: LineOf) -> None:
    @halo.llm(model="m")
    def silent(question: str) -> str:
        pass  # type: ignore[return]

    @halo.llm(model="m")
    def wrong(question: str) -> Any:
        return [{"role": "user"}]

    told = problems(lambda question: [silent(question), wrong(question)])
    assert [problem.what for problem in told] == [
        "`silent` gives nothing, not a prompt",
        "`wrong` gives a list of dict, not a prompt",
    ]
    assert "halo.system(...), halo.user(...) and halo.assistant(...)" in told[0].fix


def test_a_value_of_a_finished_branch_or_body(line_of: LineOf) -> None:
    kept: list[Any] = []

    def ask(question: str) -> str:
        halo.map(lambda item: kept.append(draft(item)), [1, 2])
        return kept[0].sql  # here

    problem = only(ask)
    assert problem.where == line_of("here")
    assert problem.what == "`draft.sql` was made inside a branch or body that has ended, and is used outside of it"
    assert "return it from that function" in problem.fix


def test_a_value_of_another_workflow() -> None:
    kept: list[Any] = []

    @halo.workflow
    def first(question: str) -> str:
        kept.extend([question, f"{question}"])
        return question

    told = problems(lambda question: [kept[0], kept[1], question])
    assert told[0].what == "`question` is a value from another workflow ('first')"
    assert told[1].what == "the text holds a value from another workflow"
    assert "give it to this workflow as an input" in told[0].fix

    with pytest.raises(halo.WorkflowInvalid, match="is known only when the program runs"):
        bool(kept[0])
    with pytest.raises(halo.WorkflowInvalid, match="is used after the workflow was defined"):
        kept[0] == 1  # noqa: B015


def test_cycles_through_values_and_through_functions() -> None:
    def of_values(question: str) -> object:
        ring: list[object] = [question]
        ring.append(ring)
        return ring

    def of_bodies(question: str) -> object:
        def again(item: object) -> object:
            return halo.map(again, [item])

        return again(question)

    def of_functions(question: str) -> object:
        def again(item: object) -> object:
            return again(item)

        return again(question)

    assert only(of_values).what == "a value goes round in a cycle through itself"
    assert "a function goes round in a cycle through itself" in only(of_bodies).what
    assert "a function goes round in a cycle through itself" in only(of_functions).what
    assert "halo.loop" in only(of_functions).fix


def test_a_plan_is_a_template_not_a_table() -> None:
    def ask(question: str) -> object:
        return [halo.join(question) for _ in range(30_000)]

    problem = only(ask)
    assert "the workflow makes more than" in problem.what
    assert "workflow.map(rows)" in problem.fix


def test_choose_wants_two_ways_of_functions(line_of: LineOf) -> None:
    def ask(question: str) -> object:
        halo.choose(question, then=lambda: 1)  # type: ignore[call-overload] # one way
        halo.choose(question, then=question, otherwise=lambda: 1)  # value
        halo.choose(question, then=lambda: 1, otherwise=lambda x: 1)  # parameter
        return halo.choose(question, cases={(1, 2): lambda: 1}, otherwise=lambda: 2)  # key

    told = problems(ask)
    assert [problem.where for problem in told] == [line_of(m) for m in ("one way", "value", "parameter", "key")]
    assert told[0].what == "halo.choose needs two ways to go"
    assert (told[1].what, told[1].fix) == ("then= is not a function", "then=lambda: ...")
    assert told[2].what == "otherwise= is a function of other parameters than ()"
    assert told[3].what == "the case (1, 2) is no constant"


def test_a_case_that_can_never_be() -> None:
    class Kind(BaseModel):
        of: str

        model_config = {"json_schema_extra": {"properties": {"of": {"enum": ["sql", "chat"]}}}}

    @halo.llm(model="m", output=Kind)
    def kind(question: str) -> str:
        return question

    def ask(question: str) -> object:
        return halo.choose(kind(question).of, cases={"sqll": lambda: 1}, otherwise=lambda: 2)

    assert only(ask).what == "the case 'sqll' can never be: the value is one of 'sql', 'chat'"


def test_until_sees_only_the_state(line_of: LineOf) -> None:
    def ask(question: str) -> object:
        halo.loop(lambda s: s, question, until=lambda s: s == question, max_rounds=2)  # reads
        halo.loop(lambda s: s, question, until=lambda s: draft(s).sql == "", max_rounds=2)  # calls
        return halo.loop(lambda s: s, question, until=lambda s: s == "", max_rounds=0)  # rounds

    told = problems(ask)
    assert [problem.where for problem in told] == [line_of(mark) for mark in ("reads", "calls", "rounds")]
    assert told[0].what == "until= reads question from outside, but sees only the state"
    assert "put it into the state" in told[0].fix
    assert told[1].what == "until= makes a call (draft), but only compares"
    assert told[2].what.endswith("max_rounds is 0")


def test_map_goes_over_lists(line_of: LineOf) -> None:
    def ask(question: str) -> object:
        return halo.map(lambda item: item, question)  # here

    problem = only(ask)
    assert problem.where == line_of("here")
    assert "halo.map goes over a list, and is given a text" in problem.what


def test_agents_are_checked(line_of: LineOf) -> None:
    def plain(x: str) -> str:
        return x

    def ask(question: str) -> object:
        halo.agent(question, model="m", tools=[plain])  # type: ignore[list-item] # tool
        halo.agent(question, tools=[])  # model
        halo.agent(model="m", tools=[])  # opening
        return halo.agent(question, model="m", tools=[], max_turns=1000)  # turns

    told = {problem.where: problem for problem in problems(ask)}
    assert told[line_of("tool")].what == "plain is not a tool"
    assert told[line_of("tool")].fix == "put @halo.tool over the definition of plain"
    assert told[line_of("model")].what == "no model is named"
    assert "max_turns is 1000" in told[line_of("turns")].what
    assert line_of("opening") in told


def test_two_tools_of_one_name() -> None:
    @halo.tool(name="run_sql")
    def other(sql: str) -> str:
        return sql

    problem = only(lambda sql: [run_sql(sql), other(sql)])
    assert problem.what == "two different tools are called 'run_sql'"
    assert "@halo.tool(name=...)" in problem.fix


def test_stages_outside_of_a_workflow() -> None:
    with pytest.raises(halo.OutsideWorkflow, match=r"test_sdk_definition_errors.py:\d+: `draft` is an LLM call"):
        draft("x")
    with pytest.raises(halo.OutsideWorkflow, match=r"halo\.map describes a step of a plan"):
        halo.map(lambda item: item, [1])
