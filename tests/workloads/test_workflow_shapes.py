"""Each workflow has the published shape: which calls feed which, on how many models, with how many tools."""

from collections import Counter
from dataclasses import dataclass

import pytest

from halo.sdk.find import find_workflow
from planner.ir.ids import StageId
from planner.ir.plan import Generate, Join, Loop, Plan, Tool
from planner.ir.reads import stages_read
from workloads.rows.sources import SOURCES

#: What each call reads of other calls and of the rule, straight or through a query.
FEEDS = {
    "diamond": {
        "plan": "",
        "read_films": "plan",
        "read_people": "plan",
        "read_titles": "plan",
        "join_films_and_people": "read_films read_people",
        "add_titles": "join_films_and_people read_titles plan",
        "check": "add_titles plan",
        "answer": "add_titles check",
    },
    "triple-chain": {
        "plan": "",
        "list_matches": "plan",
        "shorten_matches": "list_matches",
        "rank_rated": "plan",
        "defend_rank": "rank_rated",
        "compare_countries": "plan",
        "doubt_countries": "compare_countries",
        "mend_countries": "compare_countries doubt_countries",
        "restate": "plan",
        "merge": "restate shorten_matches defend_rank mend_countries",
    },
    "long-chain": {
        "choose_topic": "",
        "outline": "choose_topic",
        "draft": "outline",
        "classify": "choose_topic",
        "contrast": "classify",
        "pick_links": "choose_topic",
        "explain_links": "pick_links",
        "headline": "choose_topic",
        "finish": "headline draft contrast explain_links",
    },
    "bridge": {
        "choose_theme": "",
        "collect_facts": "choose_theme",
        "ask_easy": "collect_facts",
        "connect_facts": "collect_facts choose_theme",
        "ask_hard": "connect_facts",
        "find_traps": "choose_theme",
        "ask_tricky": "find_traps",
        "sample": "ask_easy ask_hard ask_tricky",
        "finish": "sample",
    },
    "trident": {
        "read_request": "",
        "analyse_prices": "read_request",
        "analyse_demand": "read_request",
        "analyse_supply": "read_request",
        "join_analyses": "analyse_prices analyse_demand analyse_supply",
        "weigh_delivery": "join_analyses read_request",
        "name_risks": "weigh_delivery",
        "advise": "name_risks read_request",
    },
    "fan-out": {
        "read_request": "",
        **dict.fromkeys(("analyse", "analyse_2", "analyse_3", "analyse_4", "analyse_5"), "read_request"),
        **dict.fromkeys(
            ("judge_growth", "judge_risk", "judge_partners"),
            "analyse analyse_2 analyse_3 analyse_4 analyse_5 read_request",
        ),
        "decide": "judge_growth judge_risk judge_partners",
    },
    "map-reduce": {
        **dict.fromkeys(("consult", *(f"consult_{number}" for number in range(2, 8))), ""),
        "summarise": "consult consult_2 consult_3 consult_4 consult_5 consult_6 consult_7",
    },
    "debate": {
        **dict.fromkeys(("open_debate", "open_debate_2", "open_debate_3"), ""),
        **dict.fromkeys(("reply", "reply_2", "reply_3"), "open_debate open_debate_2 open_debate_3"),
    },
    "reflection": {
        "answer": "",
        "check_figures": "answer",
        "check_sense": "answer",
        "answer_again": "answer check_figures check_sense",
    },
    "iterative": {
        "begin": "",
        "refine": "begin",
        **{f"refine_{number}": f"refine_{number - 1}".removesuffix("_1") for number in range(2, 6)},
    },
    "investigation": {
        "choose_clue": "",
        "choose_film": "choose_clue",
        "describe_film": "choose_film",
        "conclude": "describe_film choose_film",
    },
    "revision": {"answer": "", "judge": "answer", "revise": "answer judge"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_which_calls_feed_which(name: str) -> None:
    wanted = {stage: set(feeds.split()) for stage, feeds in FEEDS[name].items()}
    assert feeds_of(find_workflow(name).plan) == wanted


@dataclass(frozen=True)
class Counts:
    """`longest` is the number of calls in the longest chain."""

    small: int
    medium: int
    large: int
    tools: int
    longest: int


PUBLISHED = {
    "diamond": Counts(2, 4, 2, 9, 6),
    "triple-chain": Counts(4, 3, 3, 3, 5),
    "long-chain": Counts(3, 4, 2, 6, 4),
    "bridge": Counts(4, 3, 2, 3, 6),
    "trident": Counts(2, 3, 2, 10, 5),
    "fan-out": Counts(1, 2, 6, 13, 3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counts_are_the_published_ones(name: str) -> None:
    plan = find_workflow(name).plan
    calls = Counter(stage.model for stage in plan.stages if isinstance(stage, Generate))
    tools = sum(isinstance(stage, Tool) for stage in plan.stages)
    assert Counts(calls["small"], calls["medium"], calls["large"], tools, longest_chain(plan)) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_queries_need_only_the_root(name: str) -> None:
    plan = find_workflow(name).plan
    assert {source for sources in sources_of_queries(plan) for source in sources} == {plan.stages[0].id}


def test_in_an_investigation_queries_wait_for_calls_in_the_middle() -> None:
    assert sources_of_queries(find_workflow("investigation").plan) == [
        {"choose_clue"},
        {"choose_film"},
        {"choose_film"},
    ]


def feeds_of(plan: Plan) -> dict[str, set[str]]:
    sources = sources_by_stage(plan)
    return {stage.id: sources[stage.id] for stage in plan.stages if not carries(stage)}


def sources_by_stage(plan: Plan) -> dict[StageId, set[str]]:
    """The stages a stage depends on, seen through queries and joins."""
    carried = {stage.id for stage in plan.stages if carries(stage)}
    found: dict[StageId, set[str]] = {}
    for stage in plan.stages:
        through = [found[read] if read in carried else {str(read)} for read in stages_read(stage)]
        found[stage.id] = set().union(*through)
    return found


def carries(stage: object) -> bool:
    return isinstance(stage, Join) or (isinstance(stage, Tool) and stage.tool.name == "look_up")


def sources_of_queries(plan: Plan) -> list[set[str]]:
    sources = sources_by_stage(plan)
    return [sources[stage.id] for stage in plan.stages if isinstance(stage, Tool) and stage.tool.name == "look_up"]


def longest_chain(plan: Plan) -> int:
    length: dict[str, int] = {}
    for stage in plan.stages:
        before = max((length[read] for read in stages_read(stage)), default=0)
        length[stage.id] = before + isinstance(stage, Generate | Loop)
    return max(length.values())
