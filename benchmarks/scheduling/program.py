"""A Text-to-SQL request as a Halo program: how often it is revised and what is evaluated turns out as it runs."""

from collections.abc import Callable
from functools import cache, partial

from benchmarks.scheduling.lengths import told_lengths
from benchmarks.scheduling.requests import Call, Request, Step
from planner.cost.quantiles import Quantiles
from planner.ir.expressions import Column, Concat, Const, Expr, Output
from planner.ir.ids import StageId
from planner.ir.paths import branch_prefix, item_prefix, round_prefix
from planner.ir.plan import Binding, Body, Case, Choose, Generate, Input, Loop, Map, Message, Plan, Sampling, Stage
from planner.ir.sites import walk

MODEL = "meta-llama/Llama-3.1-70B-Instruct"
#: What answers may be at most; the recorded ones were cut a little above 1,000 tokens.
MAX_TOKENS = 1_100
MOST_REVISIONS = 10
_QUESTION = Column("question")


@cache
def program_plan(max_tokens: int = MAX_TOKENS) -> Plan:
    """The plan of all requests: a Choose where a step may be left out, a Loop of revisions, a Map of evaluations."""
    ask = partial(_generate, max_tokens=max_tokens)
    first = ask(Step.RETRIEVER, "0", _QUESTION)
    keywords = _perhaps("keywords", ask, Step.KEYWORDS, _after(first))
    looks = [ask(Step.RETRIEVER, "1", _after(keywords))]
    looks.append(ask(Step.RETRIEVER, "2", _after(looks[0])))
    looks.append(ask(Step.RETRIEVER, "3", _after(looks[1])))
    candidates = [ask(Step.CANDIDATE, f"{i}", _after(looks[-1])) for i in range(2)]
    drafts = Concat(tuple(_after(candidate) for candidate in candidates))
    revise = Loop(StageId("revisions"), drafts, Column("state"), _one(ask, Step.REVISE, "state"), MOST_REVISIONS)
    before = ask(Step.TESTER, "0", _after(revise))
    tests = _perhaps("tests", ask, Step.UNIT_TEST, _after(before))
    between = ask(Step.TESTER, "1", _after(tests))
    evaluate = Map(StageId("evaluations"), _after(between), _one(ask, Step.EVALUATE, "item"))
    last = ask(Step.TESTER, "2", _after(evaluate))
    stages = (first, keywords, *looks, *candidates, revise, before, tests, between, evaluate, last)
    return Plan("text2sql", (Input("question"),), stages, _after(last))


@cache
def expected_lengths() -> dict[str, Quantiles]:
    """What the answers of each stage are believed to be, by its path in the plan."""
    asking = (site for site in walk(program_plan()) if isinstance(site.stage, Generate))
    return {site.path: told_lengths(_step_of(site.stage.id)) for site in asking}


def calls_by_path(request: Request) -> dict[str, Call]:
    """The calls of a request under the names their nodes have when it runs."""
    return {
        **{f"retriever_{i}": call for i, call in enumerate(request.retriever)},
        **{branch_prefix("keywords", 0) + _asked(Step.KEYWORDS): call for call in request.keywords},
        **{f"candidate_{i}": call for i, call in enumerate(request.candidates)},
        **{round_prefix("revisions", i) + _asked(Step.REVISE): call for i, call in enumerate(request.revisions)},
        **{f"tester_{i}": call for i, call in enumerate(request.tester)},
        **{branch_prefix("tests", 0) + _asked(Step.UNIT_TEST): call for call in request.unit_tests},
        **{item_prefix("evaluations", i) + _asked(Step.EVALUATE): call for i, call in enumerate(request.evaluations)},
    }


def choice_at(request: Request, path: str, done: int) -> int:
    """Where the program goes on at a node that decides: see `executor.events.Decided`."""
    match path:
        case "keywords":
            return 0 if request.keywords else 1
        case "tests":
            return 0 if request.unit_tests else 1
        case "evaluations":
            return len(request.evaluations)
        case _:
            assert path == "revisions"
            return int(done >= len(request.revisions))


def known_plan(request: Request, shrink: int = 1) -> Plan:
    """The same request with everything known beforehand: its calls are stages, each with the length of its answer, of
    which there is one `shrink`-th."""
    stages: list[Stage] = []
    before: Expr = _QUESTION
    for depth, calls in enumerate(request.stages):
        most = [max(1, call.output_tokens // shrink) for call in calls]
        beside = [_generate(call.step, f"{depth}.{i}", before, most[i]) for i, call in enumerate(calls)]
        before = Concat(tuple(_after(stage) for stage in beside))
        stages.extend(beside)
    return Plan("text2sql, known", (Input("question"),), tuple(stages), before)


def calls_of_known_plan(request: Request) -> dict[str, Call]:
    stages = enumerate(request.stages)
    return {_asked(call.step, f"{depth}.{i}"): call for depth, calls in stages for i, call in enumerate(calls)}


def _asked(step: Step, which: str = "each") -> StageId:
    return StageId(f"{step.name.lower()}_{which}")


def _step_of(stage: StageId) -> Step:
    return Step[stage.rpartition("_")[0].upper()]


def _generate(step: Step, which: str, read: Expr, max_tokens: int = MAX_TOKENS) -> Generate:
    asked = Message("user", Concat((Const(f"{step}: "), read)))
    return Generate(_asked(step, which), MODEL, (asked,), Sampling(max_tokens=max_tokens))


_Ask = Callable[[Step, str, Expr], Generate]


def _perhaps(name: str, ask: _Ask, step: Step, read: Output) -> Choose:
    nothing = Body(Plan(f"no {name}", (), (), Const("")))
    return Choose(StageId(name), read, (Case(True, _one(ask, step, "read", Binding("read", read))),), nothing)


def _one(ask: _Ask, step: Step, column: str, *bindings: Binding) -> Body:
    asked = ask(step, "each", Column(column))
    return Body(Plan(step.value, (Input(column),), (asked,), _after(asked)), bindings)


def _after(stage: Stage) -> Output:
    return Output(stage.id)
