"""How long answers are expected to be: as earlier jobs' were, then as those that come."""

from example_plans import every_kind, text_to_sql

from executor.core.lengths import AnswerLengths
from executor.core.stage_means import StageMeans
from executor.engines.port import Usage
from planner.cost.experience import experience_of
from planner.cost.history import Seen, history_of
from planner.cost.quantiles import Quantiles
from planner.ir.plan import Agent, Generate
from planner.ir.sites import walk


def stage_at(path: str) -> Generate | Agent:
    for plan in (text_to_sql(), every_kind()):
        for site in walk(plan):
            if site.path == path and isinstance(site.stage, Generate | Agent):
                return site.stage
    raise AssertionError(path)


def test_before_anything_is_known_all_that_is_allowed_is_expected() -> None:
    assert AnswerLengths().expected(stage_at("first")) == 200


def test_a_job_begins_with_what_nine_in_ten_answers_of_earlier_jobs_kept_to() -> None:
    lengths = AnswerLengths()
    seen = [Seen("revise#0/rewrite", '""', 1.0, 100, tokens) for tokens in range(10, 60)] * 2
    lengths.begin(text_to_sql(), experience_of(text_to_sql(), history_of(seen)).output_tokens)
    assert 50 <= lengths.expected(stage_at("revise#*/rewrite")) <= 60
    assert lengths.expected(stage_at("first")) == 200


def test_what_this_process_has_seen_itself_is_newer() -> None:
    lengths, first = AnswerLengths(), stage_at("first")
    lengths.learn(first, 100)
    before = lengths.expected(first)
    lengths.begin(text_to_sql(), {"first": Quantiles(1, 2, 3)})
    assert lengths.expected(first) == before


def test_answers_that_come_change_what_earlier_jobs_taught() -> None:
    lengths, first = AnswerLengths(), stage_at("first")
    lengths.begin(text_to_sql(), {"first": Quantiles(10, 10, 10)})
    assert lengths.expected(first) == 11
    for _ in range(50):
        lengths.learn(first, 150)
    assert 140 <= lengths.expected(first) <= 200


def test_an_answer_without_a_token_takes_a_step_too_so_that_no_call_counts_as_nothing() -> None:
    means = StageMeans()
    means.asks(stage_at("first"), 100)
    means.learn(stage_at("first"), Usage(100, 0, 100))
    assert means.mean(stage_at("first"), 100, 50).output_tokens == 1
